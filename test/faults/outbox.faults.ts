/** The fault matrix of the outbox: one table in, one report out. See docs/buffer.md for what came of it. */
import { afterAll, describe, expect, it } from 'vitest';
import { MATRIX } from './outbox/matrix.ts';
import { type Done, report } from './outbox/report.ts';

const done: Done[] = [];

describe('the outbox under every fault: the ledger balances, and every record arrives exactly once or is named', () => {
  for (const { fault, how, times, needs, timeoutMs, run } of MATRIX) {
    it.skipIf(needs !== undefined)(
      `${fault}, ${times} times${needs === undefined ? '' : ` (skipped: ${needs})`}`,
      async () => {
        const started = performance.now();
        const figures = await run(times);
        done.push({ fault, how, ...figures, seconds: Math.round((performance.now() - started) / 100) / 10 });
        expect(figures.lostSilently).toBe(0);
        expect(figures.rounds).toBeGreaterThanOrEqual(times);
        expect(figures.produced).toBeGreaterThan(0);
      },
      timeoutMs,
    );
  }

  afterAll(() => {
    console.log(`\n${report(done, done.length === MATRIX.length)}\n`);
  });
});
