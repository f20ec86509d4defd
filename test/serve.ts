/** A real HTTP server of a test's own on a free loopback port, gone with the test. */
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { AddressInfo, Server as NetServer } from 'node:net';
import { onTestFinished } from 'vitest';

/** Resolves with the server's address, without a slash at its end. */
export async function serve(listener: RequestListener): Promise<{ url: string; server: Server }> {
  const server = createServer(listener);
  onTestFinished(() => server.closeAllConnections());
  return { url: `http://127.0.0.1:${await listening(server)}`, server };
}

export async function serveTls(options: ServerOptions, listener: RequestListener): Promise<{ url: string }> {
  const server = createTlsServer(options, listener);
  onTestFinished(() => server.closeAllConnections());
  return { url: `https://localhost:${await listening(server, 'localhost')}` };
}

/** Listens on a free loopback port until the test has finished. */
export async function listening(server: NetServer, host = '127.0.0.1'): Promise<number> {
  onTestFinished(() => {
    server.close();
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, host, resolve);
  });
  return (server.address() as AddressInfo).port;
}
