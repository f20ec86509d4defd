/** A TCP proxy that can be cut, for tests of what survives a bad link. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface Proxy {
  port: number;
  /** Connections that go through it now. */
  readonly open: number;
  /** Connections that it has taken so far. */
  readonly taken: number;
  /** Cuts everything now: both ends see a reset. */
  cutAll(): void;
  /**
   * Cuts everything as soon as so many more bytes have passed: up to the target, down from it, or both
   * ways counted. The last piece passes only in part.
   */
  cutAfter(bytes: number, way?: 'up' | 'down'): Promise<void>;
  /**
   * Lets nothing through, without either end being told.
   * @param where only on connections whose near end sends such a piece, from that piece on
   */
  pause(where?: (piece: Buffer) => boolean): void;
  resume(): void;
  /** Refuses connections from now on, and cuts those there are. */
  stop(): Promise<void>;
}

/**
 * @param targetPort on 127.0.0.1
 * @param listen where it listens: any port of 127.0.0.1 where nothing is said
 */
export async function startProxy(
  targetPort: number,
  listen: { host: string; port: number } = { host: '127.0.0.1', port: 0 },
): Promise<Proxy> {
  const pairs = new Set<[Socket, Socket]>();
  let paused = false;
  let holds: ((piece: Buffer) => boolean) | undefined;
  let taken = 0;
  let budget: { left: number; way: 'up' | 'down' | undefined; done: () => void } | undefined;

  const cutAll = () => {
    for (const pair of pairs) for (const socket of pair) socket.resetAndDestroy();
    pairs.clear();
  };
  const pass = (chunk: Buffer, to: Socket, from: Socket, way: 'up' | 'down') => {
    if (way === 'up' && holds?.(chunk)) {
      from.pause();
      to.pause();
      from.unshift(chunk);
      return;
    }
    const counts = budget !== undefined && (budget.way ?? way) === way;
    if (budget === undefined || !counts || chunk.length < budget.left) {
      if (budget !== undefined && counts) budget.left -= chunk.length;
      if (!to.write(chunk)) {
        from.pause();
        to.once('drain', () => paused || from.resume());
      }
      return;
    }
    const { left, done } = budget;
    budget = undefined;
    // The other end gets the first part before it gets the reset.
    to.write(chunk.subarray(0, left), () => {
      cutAll();
      done();
    });
  };

  const server = createServer((near) => {
    const far = connect({ port: targetPort, host: '127.0.0.1', noDelay: true });
    const pair: [Socket, Socket] = [near, far];
    pairs.add(pair);
    taken += 1;
    near.setNoDelay(true);
    for (const [from, to, way] of [[near, far, 'up'] as const, [far, near, 'down'] as const]) {
      if (paused) from.pause();
      from.on('data', (chunk: Buffer) => pass(chunk, to, from, way));
      from.on('end', () => to.end());
      from.on('error', () => to.destroy());
      from.on('close', () => {
        to.destroy();
        pairs.delete(pair);
      });
    }
  });
  server.listen(listen);
  await once(server, 'listening');

  return {
    port: (server.address() as AddressInfo).port,
    get open() {
      return pairs.size;
    },
    get taken() {
      return taken;
    },
    cutAll,
    cutAfter: (bytes, way) =>
      new Promise((done) => {
        budget = { left: bytes, way, done };
      }),
    pause: (where) => {
      holds = where;
      if (where !== undefined) return;
      paused = true;
      for (const pair of pairs) for (const socket of pair) socket.pause();
    },
    resume: () => {
      paused = false;
      holds = undefined;
      for (const pair of pairs) for (const socket of pair) socket.resume();
    },
    stop: async () => {
      const closed = once(server, 'close');
      server.close();
      cutAll();
      await closed;
    },
  };
}
