/**
 * Bounds on what a connection may send, looked at before the broker's parser has it: the parser keeps a packet until it is whole, and
 * a packet of MQTT may announce 256 MB.
 */
import type { Duplex } from 'node:stream';

export type Violation = 'too_slow' | 'too_much_before_login' | 'packet_too_large' | 'malformed';

export interface GuardLimits {
  maxPacketBytes: number;
  /** Bytes before authentication: CONNECT, and whatever was sent behind it without waiting. */
  maxLoginBytes: number;
  /** From the connection to its authentication. */
  loginMs: number;
}

export const LOGIN_LIMITS = { maxLoginBytes: 64 * 1024, loginMs: 10_000 };

export class ConnectionGuard {
  private readonly socket: Duplex;
  private readonly limits: GuardLimits;
  private readonly violated: (violation: Violation) => void;
  private readonly timer: NodeJS.Timeout;
  private loggedIn = false;
  private received = 0;
  /** Bytes of the packet in hand that are still to come; undefined while its fixed header is read. */
  private rest: number | undefined;
  private length = 0;
  private headerBytes = 0;

  /**
   * Watches a socket that the broker reads already: beside a 'readable' listener, 'data' only tells what is being read.
   * @param violated told once, when the socket has been destroyed
   */
  constructor(socket: Duplex, limits: GuardLimits, violated: (violation: Violation) => void) {
    this.socket = socket;
    this.limits = limits;
    this.violated = violated;
    this.timer = setTimeout(() => this.end('too_slow'), limits.loginMs);
    socket.once('close', () => clearTimeout(this.timer));
    socket.on('data', (chunk: Buffer) => this.see(chunk));
  }

  /** From now on a packet may be as large as the configuration allows. */
  authenticated(): void {
    this.loggedIn = true;
    clearTimeout(this.timer);
  }

  private end(violation: Violation): void {
    if (this.socket.destroyed) return;
    clearTimeout(this.timer);
    this.socket.destroy();
    this.violated(violation);
  }

  private see(chunk: Buffer): void {
    this.received += chunk.length;
    const violation = !this.loggedIn && this.received > this.limits.maxLoginBytes ? 'too_much_before_login' : this.follow(chunk);
    if (violation !== undefined) this.end(violation);
  }

  /** Goes from packet to packet. */
  private follow(chunk: Buffer): Violation | undefined {
    let at = 0;
    while (at < chunk.length) {
      if (this.rest !== undefined) {
        const taken = Math.min(this.rest, chunk.length - at);
        at += taken;
        this.rest -= taken;
        if (this.rest === 0) this.rest = undefined;
        continue;
      }
      const byte = chunk[at] ?? 0;
      at += 1;
      this.headerBytes += 1;
      if (this.headerBytes === 1) continue;
      // The remaining length, seven bits a byte, least first (MQTT 3.1.1 section 2.2.3).
      this.length += (byte & 0x7f) * 128 ** (this.headerBytes - 2);
      if ((byte & 0x80) !== 0) {
        if (this.headerBytes === 5) return 'malformed';
        continue;
      }
      const most = this.loggedIn ? this.limits.maxPacketBytes : this.limits.maxLoginBytes;
      if (this.length + this.headerBytes > most) return this.loggedIn ? 'packet_too_large' : 'too_much_before_login';
      this.rest = this.length === 0 ? undefined : this.length;
      this.length = 0;
      this.headerBytes = 0;
    }
    return undefined;
  }
}

/** What a client did, for the log. */
export function explainViolation(violation: Violation, id: string | null, from: string, maxPacketBytes: number): string {
  const whom = id === null ? `the client at ${from}` : `agent "${id}" at ${from}`;
  const what = {
    too_slow: `has not logged in within ${LOGIN_LIMITS.loginMs / 1000} s`,
    too_much_before_login: `sent more than ${LOGIN_LIMITS.maxLoginBytes} bytes before it had logged in`,
    packet_too_large: `sent a packet of more than ${maxPacketBytes} bytes (aggregator.mqtt.max_packet_bytes)`,
    malformed: 'does not speak MQTT',
  };
  return `${whom} ${what[violation]}; the connection is ended`;
}
