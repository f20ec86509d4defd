import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { findProgram } from '../scripts/programs.ts';
import { tempDir } from '../test/tempdir.ts';

const ANALYZE = findProgram('systemd-analyze');
const NEEDS = ANALYZE === undefined ? ' (skipped: needs systemd-analyze)' : '';
const folder = fileURLToPath(new URL('.', import.meta.url));

/** The most that systemd may find fault with, of 10. */
const EXPOSURE = { 'ndt-agent': 1.5, 'ndt-aggregator': 2.0 } as const;

for (const [unit, most] of Object.entries(EXPOSURE)) {
  const file = join(folder, `${unit}.service`);

  test.skipIf(ANALYZE === undefined)(`${unit}.service is exposed at most ${most}${NEEDS}`, () => {
    const args = ['security', '--offline=true', `--threshold=${most * 10}`, '--no-pager', file];
    const { status, stdout, stderr } = spawnSync(ANALYZE ?? '', args, { encoding: 'utf8' });
    expect(stdout, stderr).toContain(`Overall exposure level for ${unit}.service`);
    expect(status, stdout).toBe(0);
  });

  test.skipIf(ANALYZE === undefined)(`${unit}.service has no option that systemd does not know${NEEDS}`, () => {
    const { stderr } = spawnSync(ANALYZE ?? '', ['verify', '--man=no', file], {
      encoding: 'utf8',
      env: { ...process.env, SYSTEMD_LOG_COLOR: '0' },
    });
    // Newer than the oldest systemd that the unit is for; there they are left out with a message.
    const known = /'(RestartSteps|RestartMaxDelaySec)'/;
    const faults = stderr.split('\n').filter((line) => line.includes(`${unit}.service`) && !known.test(line));
    // The program is not installed on the machine that tests.
    expect(faults.filter((line) => !/Command .* is not executable/.test(line))).toEqual([]);
  });

  test(`${unit}.service has what the program relies on`, () => {
    const text = readFileSync(file, 'utf8');
    const value = (option: string) => text.match(new RegExp(`^${option}=(.*)$`, 'm'))?.[1];
    expect(value('Type')).toBe('notify');
    expect(value('NotifyAccess')).toBe('all');
    expect(value('ExecStart')).toBe(`/usr/bin/${unit} run --config /etc/ndt/${unit.slice('ndt-'.length)}.json`);
    expect(value('StateDirectory')).toBe(unit);
    expect(value('User')).toBe(unit);
    // Fed at most each 20 s.
    expect(Number(value('WatchdogSec')?.replace(/s$/, ''))).toBeGreaterThanOrEqual(60);
    // The program has 5 seconds to stop.
    expect(Number(value('TimeoutStopSec')?.replace(/s$/, ''))).toBeGreaterThan(5);
    for (const limit of ['MemoryMax', 'CPUQuota', 'TasksMax']) expect(value(limit), limit).toMatch(/^\d/);
  });
}

test.skipIf(ANALYZE === undefined)(`the threshold finds a unit that is open to everything${NEEDS}`, () => {
  const open = join(tempDir(), 'open.service');
  spawnSync('sh', ['-c', `printf '[Service]\\nExecStart=/bin/true\\n' > ${open}`]);
  expect(spawnSync(ANALYZE ?? '', ['security', '--offline=true', '--threshold=20', open]).status).not.toBe(0);
});
