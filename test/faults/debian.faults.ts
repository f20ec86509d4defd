/**
 * The Debian packages on a Debian machine that was made for the purpose: real apt, dpkg and systemd, the released binaries, and a cable
 * to an aggregator outside that can be cut.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import pkg from '../../package.json' with { type: 'json' };
import { makeArchive, makeDeb } from '../../scripts/deb/build.ts';
import { findProgram } from '../../scripts/programs.ts';
import {
  aggregatorOutside,
  configure,
  differences,
  everything,
  expectAllOutside,
  ledger,
  numbersOutside,
  packageOf,
} from '../installed.ts';
import { ARCH, buildPackage, canPackage } from '../package.ts';
import { DebianMachine, hasMachine, NEEDS_MACHINE, OUTSIDE } from '../real/debian-machine.ts';
import { until } from '../until.ts';

const LINTIAN = findProgram('lintian');
const NEXT = pkg.version.replace(/\d+$/, (patch) => String(Number(patch) + 1));

describe.skipIf(!hasMachine || !canPackage)(`the Debian packages${NEEDS_MACHINE}`, () => {
  let machine: DebianMachine;
  let dist: string | undefined;
  let debs: { agent: string; next: string; aggregator: string; archive: string };
  /** Every path of the machine, and its users, before anything of ours was there. */
  let before: string[];

  beforeAll(async () => {
    dist = buildPackage(['--arch', ARCH]);
    const agent = packageOf('ndt-agent', dist);
    debs = {
      agent: await makeDeb(agent),
      next: await makeDeb({ ...agent, version: NEXT }),
      archive: await makeArchive(agent),
      aggregator: await makeDeb(packageOf('ndt-aggregator', dist)),
    };
    machine = await DebianMachine.boot();
    machine.bring(...Object.values(debs));
    before = everything(machine.root);
  }, 900_000);

  afterAll(async () => {
    await machine?.destroy();
    if (dist !== undefined) rmSync(dist, { recursive: true, force: true });
  }, 60_000);

  // A test that failed half-way leaves nothing to the next one.
  afterEach(async () => {
    await machine.cable(true);
    await machine.tries('apt-get', 'purge', '-y', '-q', 'ndt-agent', 'ndt-aggregator');
  }, 60_000);

  const install = (file: string) => machine.run('apt-get', 'install', '-y', '-q', `/opt/debs/${basename(file)}`);

  test.skipIf(LINTIAN === undefined)(`lintian finds no error${LINTIAN === undefined ? ' (skipped: needs lintian)' : ''}`, () => {
    const { status, stdout, stderr } = spawnSync(LINTIAN ?? '', ['--fail-on', 'error', '--allow-root', debs.agent, debs.aggregator], {
      encoding: 'utf8',
    });
    expect(status, `${stdout}${stderr}`).toBe(0);
    expect(stdout).not.toMatch(/^E:/m);
  });

  test('an agent is installed, ships, is upgraded with records waiting, and goes without a trace; nothing is lost', async () => {
    const outside = await aggregatorOutside(machine);
    const stored = () => numbersOutside(outside);

    await install(debs.agent);
    expect(await machine.show('ndt-agent', 'UnitFileState')).toBe('disabled');
    configure(machine, outside.mqttPort);
    await machine.run('systemctl', 'enable', '--now', 'ndt-agent');
    expect(await machine.show('ndt-agent', 'ActiveState')).toBe('active');
    await until(() => stored().size >= 5, 'records to arrive outside', 60_000);
    const pid = await machine.show('ndt-agent', 'MainPID');
    expect(await machine.show('ndt-agent', 'StatusText')).toMatch(/^watches 1 router; \d+ records delivered, \d+ waits?/);
    const status = await machine.run('cat', `/proc/${pid}/status`);
    const user = await machine.run('id', '-u', 'ndt-agent');
    expect(status).toMatch(new RegExp(`^Uid:\\s+${user}\\s+${user}\\s+${user}\\s+${user}$`, 'm'));
    for (const capabilities of ['CapPrm', 'CapEff', 'CapBnd']) expect(status).toMatch(new RegExp(`^${capabilities}:\\s+0+$`, 'm'));

    // A reload is one process, told and done.
    configure(machine, outside.mqttPort, { interval: 0.1 });
    await machine.run('systemctl', 'reload', 'ndt-agent');
    await until(async () => (await journal(machine)).includes('configuration reloaded'), 'the agent to have reloaded');
    expect(await machine.show('ndt-agent', 'MainPID')).toBe(pid);
    await until(async () => (await machine.show('ndt-agent', 'ActiveState')) === 'active', 'the unit to be active again');

    await machine.cable(false);
    await until(() => ledger(machine).pending >= 20, 'records to wait', 60_000);
    await machine.run('systemctl', 'stop', 'ndt-agent');
    const waiting = ledger(machine);
    expect(waiting.pending).toBeGreaterThanOrEqual(20);
    await install(debs.next);
    expect(await machine.run('ndt-agent', '--version')).toContain('ndt-agent');
    expect(await machine.run('dpkg-query', '-W', '-f', `\${Version}`, 'ndt-agent')).toBe(NEXT);
    // What was changed in the configuration is a person's, and the buffer is the agent's.
    expect(readFileSync(join(machine.root, 'etc/ndt/agent.json'), 'utf8')).toContain(OUTSIDE);
    expect(ledger(machine)).toEqual(waiting);
    expect(await machine.show('ndt-agent', 'UnitFileState')).toBe('enabled');

    await machine.run('systemctl', 'start', 'ndt-agent');
    await machine.cable(true);
    await until(() => stored().has(waiting.last), 'what waited to arrive', 90_000);
    // An upgrade of an agent that runs is a restart.
    const running = await machine.show('ndt-agent', 'MainPID');
    await machine.run('apt-get', 'install', '-y', '-q', '--allow-downgrades', `/opt/debs/${basename(debs.agent)}`);
    expect(await machine.show('ndt-agent', 'ActiveState')).toBe('active');
    expect(await machine.show('ndt-agent', 'MainPID')).not.toBe(running);
    await until(() => ledger(machine).pending < 20, 'the buffer to be empty', 60_000);
    await machine.run('systemctl', 'stop', 'ndt-agent');

    const arrived = expectAllOutside(machine, outside);
    expect(arrived).toBeGreaterThan(waiting.pending);
    console.log(`${arrived} records arrived, ${waiting.pending} of them after the upgrade; 0 lost`);

    await machine.run('apt-get', 'remove', '-y', '-q', 'ndt-agent');
    expect(existsSync(join(machine.root, 'var/lib/ndt-agent/agent/outbox.db'))).toBe(true);
    await machine.run('apt-get', 'purge', '-y', '-q', 'ndt-agent');
    expect(differences(before, everything(machine.root))).toEqual([]);
  }, 300_000);

  test('the watchdog starts an agent anew whose event loop stands still', async () => {
    await install(debs.agent);
    const dropIn = join(machine.root, 'etc/systemd/system/ndt-agent.service.d');
    mkdirSync(dropIn, { recursive: true });
    writeFileSync(join(dropIn, 'watchdog.conf'), '[Service]\nWatchdogSec=3s\nRestartSec=100ms\n');
    await machine.run('systemctl', 'daemon-reload');
    await machine.run('systemctl', 'start', 'ndt-agent');
    const pid = Number(await machine.show('ndt-agent', 'MainPID'));
    // It is fed: it lives for longer than the watchdog would wait.
    const fed = await machine.show('ndt-agent', 'WatchdogTimestampMonotonic');
    const fedAgain = async (by: number) => Number(await machine.show('ndt-agent', 'WatchdogTimestampMonotonic')) - Number(fed) > by;
    await until(() => fedAgain(4_000_000), 'the watchdog to be fed for four seconds');
    expect(Number(await machine.show('ndt-agent', 'MainPID'))).toBe(pid);

    const stopped = performance.now();
    await machine.run('sh', '-c', `kill -STOP ${pid}`);
    const anew = async () => {
      const [state, next] = [await machine.show('ndt-agent', 'ActiveState'), Number(await machine.show('ndt-agent', 'MainPID'))];
      return state === 'active' && next !== pid && next > 0;
    };
    await until(anew, 'systemd to have started it anew', 60_000);
    console.log(`stopped agent: running again after ${((performance.now() - stopped) / 1000).toFixed(1)} s with WatchdogSec=3s`);
    expect(await journal(machine)).toContain('Watchdog timeout');
    expect(Number(await machine.show('ndt-agent', 'NRestarts'))).toBe(1);
    await machine.run('apt-get', 'purge', '-y', '-q', 'ndt-agent');
    expect(differences(before, everything(machine.root))).toEqual([]);
  }, 180_000);

  test('a bad day stops neither an upgrade nor a purge: a refused configuration, a disk of its own, a process left over', async () => {
    const state = '/var/lib/ndt-agent';
    await machine.run('mkdir', state);
    await machine.run('mount', '-t', 'tmpfs', 'tmpfs', state);
    await install(debs.agent);
    await machine.run('systemctl', 'start', 'ndt-agent');
    writeFileSync(join(machine.root, 'etc/ndt/agent.json'), '{ "no_such_option": 1 }');
    await until(async () => (await journal(machine)).includes('no_such_option'), 'the agent to refuse it');
    expect(await machine.show('ndt-agent', 'ActiveState')).toBe('active');

    expect(await install(debs.next)).toContain('ndt-agent does not start: journalctl -u ndt-agent says why');
    expect(await machine.run('dpkg-query', '-W', '-f', `\${Status} \${Version}`, 'ndt-agent')).toBe(`install ok installed ${NEXT}`);

    const left = await machine.run('sh', '-c', 'setpriv --reuid ndt-agent --clear-groups sleep 300 >/dev/null 2>&1 & echo $!');
    expect(await machine.run('apt-get', 'purge', '-y', '-q', 'ndt-agent')).toContain('the user ndt-agent stays');
    expect(await machine.run('ls', '-A', state)).toBe('');
    await machine.run('sh', '-c', `kill ${left}`);
    await until(async () => (await machine.run('sh', '-c', `ps -o pid= -u ndt-agent || true`)) === '', 'the process to end');
    await machine.run('userdel', 'ndt-agent');
    await machine.run('umount', state);
    await machine.run('rmdir', state);
    expect(differences(before, everything(machine.root))).toEqual([]);
  }, 120_000);

  test('install.sh does the same without dpkg', async () => {
    const installer = await machine.unpack(debs.archive);
    expect(await machine.run(installer)).toContain('systemctl enable --now ndt-agent');
    await machine.run('systemctl', 'enable', '--now', 'ndt-agent');
    expect(await machine.show('ndt-agent', 'ActiveState')).toBe('active');
    const pid = await machine.show('ndt-agent', 'MainPID');
    expect(await machine.run('readlink', `/proc/${pid}/exe`)).toBe('/usr/local/bin/ndt-agent');
    // Once more is an upgrade: what runs is the new program.
    await machine.run(installer);
    expect(await machine.show('ndt-agent', 'MainPID')).not.toBe(pid);
    expect(await machine.show('ndt-agent', 'ActiveState')).toBe('active');
    writeFileSync(join(machine.root, 'etc/ndt/agent.json'), '{ "no_such_option": 1 }');
    expect(await machine.tries(installer)).toContain('is installed, and does not start');
    await machine.run(installer, '--purge');
    expect(differences(before, everything(machine.root))).toEqual([]);
  }, 120_000);

  test('an aggregator is installed, serves, and goes without a trace', async () => {
    await install(debs.aggregator);
    await machine.run('systemctl', 'enable', '--now', 'ndt-aggregator');
    expect(await machine.show('ndt-aggregator', 'StatusText')).toContain('answers at http://127.0.0.1:9480');
    expect(await machine.run('ndt-ml', '--version')).toContain('ndt-ml');
    await machine.run('ndt-aggregator', 'run', '--check', '--config', '/etc/ndt/aggregator.json');
    await machine.run('apt-get', 'purge', '-y', '-q', 'ndt-aggregator');
    expect(differences(before, everything(machine.root))).toEqual([]);
  }, 120_000);
});

async function journal(machine: DebianMachine): Promise<string> {
  return await machine.run('journalctl', '--no-pager', '-o', 'cat', '-u', 'ndt-agent');
}
