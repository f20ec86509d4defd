import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { findProgram, TEST_PROGRAMS } from './programs.ts';

test('a program is found on PATH, and where Debian puts servers', () => {
  expect(findProgram('sh', '/nowhere:/usr/bin:/bin')).toMatch(/^\/(usr\/)?bin\/sh$/);
  expect(findProgram('ldconfig', '')).toMatch(/\/sbin\/ldconfig$/);
  expect(findProgram('no-such-program')).toBeUndefined();
});

test('CI installs every program that tests run against', () => {
  const script = readFileSync(new URL('../.ci/run', import.meta.url), 'utf8');
  for (const program of TEST_PROGRAMS) expect(script).toMatch(new RegExp(`[ \n]${program.package}:${program.command}[ \n]`));
});
