import { spawnSync } from 'node:child_process';
import { renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { underTest } from '../../test/failing-disk.ts';
import { drainAll, expectBalanced, openOutbox, records } from '../../test/outbox.ts';
import { tempDir } from '../../test/tempdir.ts';
import type { Ledger } from '../outbox.ts';

const HOUR = 3_600_000;

it('records that a repair at the start has saved grow old from there on', () => {
  const dir = tempDir();
  const { options, clock, told } = underTest(dir);
  const outbox = openOutbox(dir, { ...options, maxAgeMs: 24 * HOUR });
  outbox.append(records(10));
  clock.monotonic += 20 * HOUR;
  outbox.append(records(10));
  outbox.close();
  writeFileSync(options.file, Buffer.alloc(100), { flag: 'r+' });
  const again = openOutbox(dir, { ...options, maxAgeMs: 24 * HOUR });
  expect([again.stats().repairs, again.ledger().pending], told.text()).toEqual([1, 20]);
  expect(again.stats().oldestMs).toBe(20 * HOUR);
  again.maintain();
  expect(again.ledger().pending).toBe(20);
  clock.monotonic += 5 * HOUR;
  again.maintain();
  expect(again.ledger()).toMatchObject({ pending: 10, dropped: { age: 10 } });
  clock.monotonic += 20 * HOUR;
  again.maintain();
  expect(again.ledger()).toMatchObject({ pending: 0, dropped: { age: 20 } });
  expectBalanced(again);
  again.close();
});

const hasStrace = spawnSync('strace', ['-V']).status === 0;

it.skipIf(!hasStrace)('a file that cannot be read from its first sector on is lost, told, and replaced (needs strace)', () => {
  const dir = tempDir();
  const outbox = openOutbox(dir);
  for (let i = 0; i < 5; i += 1) outbox.append(records(100, 200));
  const { last } = outbox.ledger();
  outbox.close();
  // Of another name, so that the file that takes its place can be read.
  const bad = join(dir, 'bad');
  renameSync(join(dir, 'outbox.db'), bad);
  symlinkSync(bad, join(dir, 'outbox.db'));
  const script = fileURLToPath(new URL('../../test/outbox-bad-sector.ts', import.meta.url));
  const reads = 'pread64,read,copy_file_range,sendfile';
  const tracing = ['-f', '-qq', '-o', '/dev/null', '-P', bad, '-e', `trace=${reads}`, '-e', `inject=${reads}:error=EIO`];
  const { stdout, stderr, status } = spawnSync('strace', [...tracing, process.execPath, script, dir], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  expect(status, stderr).toBe(0);
  const told = JSON.parse(stdout) as { first: unknown; last: unknown; ledger: Ledger; repairs: number };
  expect(told).toMatchObject({ first: { where: 'memory', cause: 'io' }, last: { where: 'disk' }, repairs: 1 });
  expect(told.ledger.dropped.corrupt).toBe(500);
  expect(told.ledger.last).toBeGreaterThanOrEqual(last);
  const again = openOutbox(dir);
  expectBalanced(again);
  expect(drainAll(again)).toEqual([]);
  again.close();
});
