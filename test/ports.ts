/**
 * Ports of loopback for programs that a test starts, and starts again. They lie below those that the kernel gives to whoever connects
 * or listens on port 0, so nobody gets one while its program is down. Each process has a slice of its own: it listens on the first
 * port of it as long as it lives.
 */
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';

const FIRST = 10_000;
const SLICE = 100;
/** Where the kernel's own begin unless it was told otherwise. */
const USUAL_END = 32_768;

let slice: Promise<number> | undefined;
let used = 0;

/** A free port of 127.0.0.1 that no other test is given; round again after 99. */
export async function freePort(): Promise<number> {
  slice ??= ownSlice();
  const first = await slice;
  for (let tries = 1; tries < SLICE; tries += 1) {
    used = (used % (SLICE - 1)) + 1;
    const port = first + used;
    const server = await listens(port);
    if (server === undefined) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
  throw new Error(`the ports ${first} to ${first + SLICE - 1} are all in use`);
}

async function ownSlice(): Promise<number> {
  const end = kernelsFirst();
  for (let first = FIRST; first + SLICE <= end; first += SLICE) {
    const server = await listens(first);
    if (server === undefined) continue;
    server.unref();
    return first;
  }
  throw new Error(`no ${SLICE} ports between ${FIRST} and ${end} can be had`);
}

function kernelsFirst(): number {
  try {
    const low = Number.parseInt(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8'), 10);
    return low >= FIRST + 20 * SLICE ? low : USUAL_END;
  } catch {
    return USUAL_END;
  }
}

async function listens(port: number): Promise<Server | undefined> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once('error', () => resolve(undefined));
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}
