import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { makeBacklog } from '../../test/outbox-large.ts';
import { tempDir } from '../../test/tempdir.ts';

interface Measured {
  before: number;
  after: number;
  openedMs: number;
  pending: number;
}

function measure(...args: string[]): Measured {
  const script = fileURLToPath(new URL('../../test/outbox-memory.ts', import.meta.url));
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ['--expose-gc', '--max-semi-space-size=1', '--v8-pool-size=0', script, ...args],
    { encoding: 'utf8', timeout: 280_000 },
  );
  if (status !== 0) throw new Error(`ended with ${status}: ${stderr}`);
  return JSON.parse(stdout) as Measured;
}

it('an outage of 24 hours at a record a second (simulated clock) takes less than 5 MB of memory', () => {
  const { before, after, pending } = measure('outage', tempDir(), '86400');
  console.log(`anonymous memory: ${before.toFixed(1)} MB before, ${after.toFixed(1)} MB after ${pending} records`);
  expect(pending).toBe(86_400);
  expect(after - before).toBeLessThan(5);
}, 300_000);

it('starting on a backlog of 200,000 records takes as little time and memory as on none', () => {
  const dir = tempDir();
  makeBacklog(dir, 200_000);
  const { before, after, openedMs, pending } = measure('start', dir);
  console.log(`opened in ${openedMs.toFixed(1)} ms; anonymous memory: ${before.toFixed(1)} MB before, ${after.toFixed(1)} MB after`);
  expect(pending).toBe(200_000 - 1000 + 20);
  expect(after - before).toBeLessThan(5);
  expect(openedMs).toBeLessThan(2000);
}, 120_000);
