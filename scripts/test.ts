/**
 * `npm test [-- VITEST-ARGUMENT…]`; `npm run test:faults` runs the fault tests instead. Says first what this machine cannot test.
 *
 * Environment: `CI=true` or `NDT_TEST_STRICT=1` make a missing program an error; `NDT_TEST_REPORT=FILE` writes vitest's JSON report.
 */
import { delimiter } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runChild } from './child.mjs';
import { findProgram, SYSTEM_FOLDERS, TEST_PROGRAMS } from './programs.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const strict = process.env.CI === 'true' || process.env.NDT_TEST_STRICT === '1';
const missing = TEST_PROGRAMS.filter(({ command }) => findProgram(command) === undefined);

for (const program of missing) {
  const consequence = strict ? 'needed here' : 'its tests will be skipped';
  console.error(`ndt: ${program.package} is not installed, ${consequence}: ${program.tests}`);
}
if (missing.length > 0) console.error(`ndt: to test all of it: apt-get install ${missing.map((program) => program.package).join(' ')}`);

process.exitCode = strict && missing.length > 0 ? 1 : await runVitest(process.argv.slice(2));

async function runVitest(given: string[]): Promise<number> {
  const faults = given.includes('--faults');
  const args = given.filter((arg) => arg !== '--faults');
  if (faults) args.push('--config', 'test/faults/vitest.config.ts');
  const report = process.env.NDT_TEST_REPORT;
  if (report !== undefined && report !== '') args.push('--reporter=default', '--reporter=json', `--outputFile.json=${report}`);

  return await runChild(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', ...args], {
    cwd: root,
    env: { ...process.env, PATH: [process.env.PATH, ...SYSTEM_FOLDERS].join(delimiter) },
  });
}
