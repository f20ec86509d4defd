import { expect, it } from 'vitest';
import { untilBetweenTicks, untilNextTick } from './poller.ts';

const MS = 1_000_000n;

it('finds a moment that is far from every tick of the usual intervals', () => {
  for (let now = 0n; now < 3000n * MS; now += 37n * MS + 1n) {
    for (const atLeastMs of [0, 1, 550, 3500, 5000]) {
      const wait = untilBetweenTicks(now, atLeastMs);
      expect(wait).toBeGreaterThanOrEqual(atLeastMs);
      expect(wait).toBeLessThan(atLeastMs + 1000);
      const then = now + BigInt(Math.round(wait * 1e6));
      for (const intervalMs of [100n, 200n, 250n, 500n, 1000n, 5000n]) {
        const left = untilNextTick(then, intervalMs * MS);
        expect(left, `after ${wait} ms, with one poll in ${intervalMs} ms`).toBeGreaterThanOrEqual(49n * MS);
        expect(intervalMs * MS - left).toBeGreaterThanOrEqual(49n * MS);
      }
    }
  }
});
