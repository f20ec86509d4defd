import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { makeBacklog } from '../outbox-large.ts';
import { tempDir } from '../tempdir.ts';

it('starting on a backlog of 10 million records takes as little time and memory as on none', () => {
  const dir = tempDir();
  makeBacklog(dir, 10_000_000);
  const script = fileURLToPath(new URL('../outbox-memory.ts', import.meta.url));
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ['--expose-gc', '--max-semi-space-size=1', '--v8-pool-size=0', script, 'start', dir],
    { encoding: 'utf8' },
  );
  expect(status, stderr).toBe(0);
  const { before, after, openedMs, pending } = JSON.parse(stdout) as { before: number; after: number; openedMs: number; pending: number };
  console.log(`opened in ${openedMs.toFixed(1)} ms; anonymous memory: ${before.toFixed(1)} MB before, ${after.toFixed(1)} MB after`);
  expect(pending).toBe(10_000_000 - 1000 + 20);
  expect(after - before).toBeLessThan(5);
  expect(openedMs).toBeLessThan(2000);
}, 600_000);
