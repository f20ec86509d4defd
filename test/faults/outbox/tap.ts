/**
 * A tap in the line between agent and broker: it passes MQTT packets on, misbehaves on demand, and remembers what each number stood for, so
 * that a number used for two records is found without asking either side.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { generate, type Packet, parser } from 'mqtt-packet';
import { OUTBOX_HEADER } from '../../../agent/outbox.ts';
import { decodeBatch } from '../../../common/batch.ts';
import { HEADER } from '../../../common/bus.ts';

/**
 * `refuse`: no connection. `mute`: takes everything, passes nothing on and never answers. `deaf`: passes on, and swallows the answers.
 * `late`: answers come 1.5 s late. `twice`: each answer comes twice. `reset`: each batch is passed on, and the connection reset at once.
 */
export type TapMode = 'pass' | 'refuse' | 'mute' | 'deaf' | 'late' | 'twice' | 'reset';

export interface Tap {
  port: number;
  mode: TapMode;
  /** Numbers that were seen with different records. */
  readonly reused: number[];
  /** The highest number that passed by; 0 before the first. */
  readonly highest: number;
  /** Records that passed by, each number once, and how often one passed again. */
  readonly distinct: number;
  readonly repeated: number;
  /** Turns to a way of behaving; `refuse` ends what connections there are. */
  turn(mode: TapMode): void;
  close(): Promise<void>;
}

const LATE_MS = 1500;
const LIMITS = { maxBytes: 64 * 2 ** 20, maxLines: 100_000 };

/** @param targetPort on 127.0.0.1 */
export async function startTap(targetPort: number, host = '127.0.0.1'): Promise<Tap> {
  const bodies = new Map<number, { body: string; restamped: boolean }>();
  const reused: number[] = [];
  const sockets = new Set<Socket>();
  let repeated = 0;
  let highest = 0;
  let mode: TapMode = 'pass';

  const note = (payload: Buffer) => {
    for (const line of decodeBatch(payload, LIMITS)) {
      if (!line.ok || line.message.headers[HEADER.seq] === undefined) continue;
      const seq = Number(line.message.headers[HEADER.seq]);
      const now = { body: String(line.message.value), restamped: line.message.headers[OUTBOX_HEADER.restamped] !== undefined };
      highest = Math.max(highest, seq);
      const before = bodies.get(seq);
      if (before !== undefined) {
        repeated += 1;
        const same = before.restamped || now.restamped ? timeless(before.body) === timeless(now.body) : before.body === now.body;
        if (!same) reused.push(seq);
      }
      bodies.set(seq, now);
    }
  };

  const server = createServer((near) => {
    if (mode === 'refuse') {
      near.on('error', () => {});
      near.resetAndDestroy();
      return;
    }
    const far = connect({ port: targetPort, host: '127.0.0.1', noDelay: true });
    near.setNoDelay(true);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => {});
    }
    const end = () => {
      for (const socket of [near, far]) {
        socket.destroy();
        sockets.delete(socket);
      }
    };
    near.on('close', end);
    far.on('close', end);
    const pass = (to: Socket, packet: Packet) => {
      if (!to.destroyed) to.write(generate(packet));
    };
    reading(near, (packet) => {
      if (packet.cmd === 'publish') {
        note(Buffer.isBuffer(packet.payload) ? packet.payload : Buffer.from(packet.payload));
        if (mode === 'mute') return;
        if (mode === 'reset') {
          far.write(generate(packet), () => setTimeout(() => near.resetAndDestroy(), 5));
          return;
        }
      }
      pass(far, packet);
    });
    reading(far, (packet) => {
      if (packet.cmd === 'puback') {
        if (mode === 'mute' || mode === 'deaf' || mode === 'reset') return;
        if (mode === 'twice') pass(near, packet);
        if (mode === 'late') {
          setTimeout(() => pass(near, packet), LATE_MS);
          return;
        }
      }
      pass(near, packet);
    });
  });
  server.listen(0, host);
  await once(server, 'listening');

  const turn = (next: TapMode) => {
    mode = next;
    if (next === 'refuse') for (const socket of sockets) socket.resetAndDestroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    get mode() {
      return mode;
    },
    reused,
    get highest() {
      return highest;
    },
    get distinct() {
      return bodies.size;
    },
    get repeated() {
      return repeated;
    },
    turn,
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** A record without its times: one that is sent again may have been moved to the right time meanwhile, and is the same one. */
function timeless(body: string): string {
  return body.replace(/"(epoch|collector|process)_timestamp":"[^"]*"/g, '');
}

/** Hands over what comes, packet by packet. What is no MQTT ends the connection. */
function reading(socket: Socket, take: (packet: Packet) => void): void {
  const packets = parser();
  packets.on('packet', take);
  packets.on('error', () => socket.destroy());
  socket.on('data', (chunk: Buffer) => packets.parse(chunk));
}
