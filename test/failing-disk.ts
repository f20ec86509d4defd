/** A disk that fails in the moment a test wants it to, which no real one does: what its next transactions come to. */
import { join } from 'node:path';
import { onTestFinished, vi } from 'vitest';
import { OutboxDb } from '../agent/outbox/database.ts';
import { reports } from './outbox.ts';
import { tempDir } from './tempdir.ts';

/** A code of SQLite's; with `made` the transaction was made although the disk says that it was not. */
export type Outcome = 'well' | { code: string; made?: boolean };

export const FULL: Outcome = { code: 'SQLITE_FULL' };
export const LOCKED: Outcome = { code: 'SQLITE_BUSY' };
export const FAILED: Outcome = { code: 'SQLITE_IOERR_WRITE' };
export const IN_DOUBT: Outcome = { code: 'SQLITE_IOERR_FSYNC', made: true };

/** Asks before each transaction of this test what it comes to. */
export function decideWrites(next: () => Outcome): void {
  const { write } = OutboxDb.prototype;
  const spy = vi.spyOn(OutboxDb.prototype, 'write').mockImplementation(function (this: OutboxDb, durable, work) {
    const outcome = next();
    if (outcome === 'well') return write.call(this, durable, work);
    if (outcome.made === true) write.call(this, durable, work);
    throw Object.assign(new Error('disk fault'), { code: outcome.code });
  });
  onTestFinished(() => spy.mockRestore());
}

/** The next transactions come to these, and all after them go well. Returns those that have not been yet. */
export function planWrites(...outcomes: Outcome[]): Outcome[] {
  decideWrites(() => outcomes.shift() ?? 'well');
  return outcomes;
}

/** Settings of an outbox whose clock and folder a test decides about, and what it reports. */
export function underTest(dir: string) {
  const told = reports();
  const clock = { monotonic: 0 };
  const disk = { mounted: true };
  const prepare = () => {
    if (!disk.mounted) throw Object.assign(new Error('the folder is not there'), { code: 'ENOENT' });
  };
  const options = {
    file: join(dir, 'outbox.db'),
    report: told.report,
    monotonicMs: () => clock.monotonic,
    fallbackMark: join(tempDir(), 'fallback.seq'),
    prepare,
  };
  return { told, clock, disk, options };
}
