/** A small HTTP listener for programs that have no API of their own: health, metrics and a few documents. */
import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, Server } from 'node:http';
import type { AddressInfo, ListenOptions, Server as NetServer } from 'node:net';
import { type Loaded, secretOf } from './config.ts';
import { codeOf, messageOf, NdtError } from './errors.ts';
import type { HttpSettings } from './schema.ts';

// Imported as a module it brings WebSocket, and with it a second HTTP client: 6 MB of an agent's memory.
const { createServer } = process.getBuiltinModule('node:http');

export interface Reply {
  status: number;
  type: string;
  body: string;
}

/** Answers a path, or undefined when it knows none. */
export type Handler = (path: string, query: URLSearchParams) => Promise<Reply | undefined> | Reply | undefined;

export const text = (status: number, body: string): Reply => ({ status, type: 'text/plain; charset=utf-8', body });
export const json = (status: number, value: unknown): Reply => ({
  status,
  type: 'application/json; charset=utf-8',
  body: JSON.stringify(value),
});

/** The exposition's media type. */
export const EXPOSITION_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** What `/healthz` answers: 503 where something does not get on, so that whatever runs the program starts it anew. */
export function health(stuck: readonly string[]): Reply {
  return stuck.length === 0 ? text(200, 'ok\n') : text(503, `${stuck.join('\n')}\n`);
}

/** What `/readyz` tells: ready, or why not yet. */
export interface Readiness {
  ready: boolean;
  reasons: string[];
}

/**
 * Listens; resolves when it does.
 * @param option the configuration's section, for messages: `agent.http`
 * @throws NdtError CANNOT_CREATE when the port is taken or not allowed
 */
export async function listenHttp(
  loaded: Loaded,
  settings: HttpSettings,
  option: string,
  handle: Handler,
): Promise<{ url: string; server: Server }> {
  const token = secretOf(loaded, settings.token, settings.token_file, `${option}.token_file`);
  const server = createServer({ requestTimeout: 10_000 }, (request, response) => {
    answer(request, token, handle)
      .catch((error: unknown) => text(500, `${messageOf(error)}\n`))
      .then(({ status, type, body }) => response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body))
      .catch(() => response.destroy());
  });
  await listen(server, { host: settings.host, port: settings.port }, option);
  return { url: urlOf(server, 'http'), server };
}

async function answer(request: IncomingMessage, token: string | undefined, handle: Handler): Promise<Reply> {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
  // Probes carry no secret.
  if (!/^\/(healthz|readyz)$/.test(pathname) && !authorised(request, token)) return text(401, 'a bearer token is required\n');
  if (request.method !== 'GET' && request.method !== 'HEAD') return text(405, 'only GET is answered here\n');
  return (await handle(pathname, searchParams)) ?? text(404, 'there is nothing at this path\n');
}

/** Whether a request carries the token, where one is set. */
export function authorised(request: Pick<IncomingMessage, 'headers'>, token: string | undefined): boolean {
  if (token === undefined) return true;
  const given = Buffer.from(request.headers.authorization?.replace(/^Bearer /, '') ?? '');
  const wanted = Buffer.from(token);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

/** `server.listen` as a promise, with messages that say what to do. */
export async function listen(server: NetServer, options: ListenOptions & { host: string; port: number }, option: string): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(options, () => {
        server.off('error', reject);
        resolve();
      });
    });
  } catch (error) {
    throw listenError(error, options, option);
  }
}

/** Why a port cannot be had, and what to do. */
export function listenError(error: unknown, { host, port }: { host: string; port: number }, option: string): NdtError {
  const variable = `NDT_${option.replaceAll('.', '_').toUpperCase()}_PORT`;
  const code = codeOf(error);
  const why =
    code === 'EADDRINUSE'
      ? `port ${port} on ${host} is in use: stop the program that has it, or set ${option}.port (${variable}) to another`
      : code === 'EACCES'
        ? `port ${port} on ${host} is not allowed for this user: set ${option}.port (${variable}) to one above 1023`
        : code === 'EADDRNOTAVAIL'
          ? `${host} is no address of this machine: set ${option}.host to one that is`
          : `cannot listen on ${host}:${port} (${messageOf(error)})`;
  return new NdtError('CANNOT_CREATE', why, { cause: error });
}

/** The address that a server listens on. */
export function urlOf(server: NetServer, scheme: string): string {
  const { address, port } = server.address() as AddressInfo;
  return `${scheme}://${address.includes(':') ? `[${address}]` : address}:${port}`;
}

export async function closeServer(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise<void>((resolve) => server.close(() => resolve()));
}
