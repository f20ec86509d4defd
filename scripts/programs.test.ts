import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { findProgram, TEST_PROGRAMS } from './programs.ts';

test('a program is found on PATH, and where Debian puts servers', () => {
  expect(findProgram('sh', '/nowhere:/usr/bin:/bin')).toMatch(/^\/(usr\/)?bin\/sh$/);
  expect(findProgram('ldconfig', '')).toMatch(/\/sbin\/ldconfig$/);
  expect(findProgram('no-such-program')).toBeUndefined();
});

test('CI installs every program that tests run against', () => {
  const words = readFileSync(new URL('../.ci/run', import.meta.url), 'utf8').split(/\s+/);
  for (const program of TEST_PROGRAMS) expect(words).toContain(`${program.package}:${program.command}`);
});
