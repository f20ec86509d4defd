import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { until } from '../test/until.ts';
import { ConnectionGuard, explainViolation, type Violation } from './mqtt-guard.ts';

const limits = { maxPacketBytes: 20_000, maxLoginBytes: 500, loginMs: 60_000 };

/** A packet with so many bytes behind its fixed header. */
function packet(length: number): Buffer {
  const header = [0x30];
  let rest = length;
  do {
    header.push((rest % 128) | (rest >= 128 ? 0x80 : 0));
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  return Buffer.concat([Buffer.from(header), Buffer.alloc(length, 0xff)]);
}

function guarded(loggedIn: boolean, more: Partial<typeof limits> = {}) {
  const socket = new PassThrough();
  const violations: Violation[] = [];
  const guard = new ConnectionGuard(socket, { ...limits, ...more }, (violation) => violations.push(violation));
  if (loggedIn) guard.authenticated();
  // What PassThrough would do in its own time.
  const see = (bytes: Buffer) => {
    if (!socket.destroyed) socket.emit('data', bytes);
  };
  return { socket, guard, violations, see };
}

describe('the guard of a connection', () => {
  it('tells packets that are too large from those that are not, however they are cut', () => {
    const lengths = fc.array(fc.oneof(fc.nat(300), fc.nat(25_000)), { maxLength: 8 });
    fc.assert(
      fc.property(lengths, fc.infiniteStream(fc.integer({ min: 1, max: 9000 })), (sizes, cuts) => {
        const { see, violations } = guarded(true);
        const bytes = Buffer.concat(sizes.map(packet));
        for (let at = 0; at < bytes.length; ) {
          const next = at + (cuts.next().value ?? 1);
          see(bytes.subarray(at, next));
          at = next;
        }
        const tooLarge = sizes.some((size) => packet(size).length > limits.maxPacketBytes);
        expect(violations).toEqual(tooLarge ? ['packet_too_large'] : []);
      }),
    );
  });

  it('ends the connection at the header of a packet that is too large', () => {
    const { see, violations, socket } = guarded(true);
    see(packet(20_001).subarray(0, 4));
    expect(violations).toEqual(['packet_too_large']);
    expect(socket.destroyed).toBe(true);
  });

  it('allows little before the login', () => {
    const first = guarded(false);
    first.see(packet(498 - 3));
    expect(first.violations).toEqual([]);
    first.see(packet(10));
    expect(first.violations).toEqual(['too_much_before_login']);
    const second = guarded(false);
    second.see(packet(600).subarray(0, 3));
    expect(second.violations).toEqual(['too_much_before_login']);
    const third = guarded(false);
    third.guard.authenticated();
    third.see(packet(600));
    expect(third.violations).toEqual([]);
  });

  it('knows a length that is none', () => {
    const { see, violations } = guarded(true);
    see(Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff]));
    expect(violations).toEqual(['malformed']);
  });

  it('gives a login only so much time', async () => {
    const slow = guarded(false, { loginMs: 20 });
    const quick = guarded(false, { loginMs: 20 });
    quick.guard.authenticated();
    await until(() => slow.violations.length > 0, 'the guard to lose its patience');
    expect(slow.violations).toEqual(['too_slow']);
    expect(slow.socket.destroyed).toBe(true);
    expect(quick.violations).toEqual([]);
    expect(quick.socket.destroyed).toBe(false);
  });

  it('explains itself', () => {
    expect(explainViolation('too_slow', null, '10.0.0.1', 1)).toBe(
      'the client at 10.0.0.1 has not logged in within 10 s; the connection is ended',
    );
  });
});
