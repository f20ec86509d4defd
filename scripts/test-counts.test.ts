import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'ndt-counts-'));
afterAll(() => rmSync(folder, { recursive: true }));

const PASSED = { status: 'passed', tests: ['passed', 'passed'] };

test.each([
  ['all passed', [PASSED, { status: 'passed', tests: ['passed'] }], 0, '3 passed, 0 failed, 0 skipped'],
  ['a failed test', [PASSED, { status: 'failed', tests: ['passed', 'failed'] }], 1, '3 passed, 1 failed, 0 skipped'],
  [
    'skipped tests of every kind',
    [PASSED, { status: 'passed', tests: ['skipped', 'todo', 'pending'] }],
    1,
    '2 passed, 0 failed, 3 skipped',
  ],
  ['a file that could not be loaded', [PASSED, { status: 'failed', tests: [] }], 1, '2 passed, 1 failed, 0 skipped'],
  ['a hook that failed', [PASSED, { status: 'failed', tests: ['skipped'] }], 1, '2 passed, 1 failed, 1 skipped'],
  ['no test', [], 1, '0 passed, 0 failed, 0 skipped'],
])('%s', (_, files, code, line) => {
  const run = counts(report(files));
  expect([run.status, run.stdout.trim().split('\n').at(-1)]).toEqual([code, line]);
});

test('several reports are added up, and a missing one is a failure', () => {
  const whole = report([PASSED]);
  expect(counts(whole, whole).stdout).toBe('4 passed, 0 failed, 0 skipped\n');
  const run = counts(whole, join(folder, 'missing.json'));
  expect([run.status, run.stdout.trim().split('\n').at(-1)]).toEqual([1, '2 passed, 1 failed, 0 skipped']);
});

test('what failed is named again at the end', () => {
  const { stdout } = counts(report([{ status: 'failed', tests: ['passed', 'failed'] }]));
  expect(stdout).toBe('failed: a test: Error: 1 is not 2\n1 passed, 1 failed, 0 skipped\n');
  expect(counts(report([{ status: 'failed', tests: [] }])).stdout).toContain('failed: a.test.ts: no such module\n');
});

function report(files: { status: string; tests: string[] }[]): string {
  const testResults = files.map(({ status, tests }) => ({
    name: 'a.test.ts',
    status,
    message: 'no such module',
    assertionResults: tests.map((result) => ({
      status: result,
      fullName: 'a test',
      failureMessages: result === 'failed' ? ['Error: 1 is not 2'] : [],
    })),
  }));
  const path = join(folder, 'report.json');
  writeFileSync(path, JSON.stringify({ testResults }));
  return path;
}

function counts(...reports: string[]) {
  const script = fileURLToPath(new URL('test-counts.mjs', import.meta.url));
  return spawnSync(process.execPath, [script, ...reports], { encoding: 'utf8' });
}
