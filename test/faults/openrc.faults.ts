/** The archive and its install.sh on a machine that OpenRC has started, with a cable to an aggregator outside that can be cut. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeArchive } from '../../scripts/deb/build.ts';
import {
  aggregatorOutside,
  configure,
  differences,
  everything,
  expectAllOutside,
  ledger,
  numbersOutside,
  PASSWORD,
  packageOf,
} from '../installed.ts';
import { ARCH, buildPackage, canPackage } from '../package.ts';
import { DebianMachine, hasMachine, NEEDS_MACHINE } from '../real/debian-machine.ts';
import { until } from '../until.ts';

describe.skipIf(!hasMachine || !canPackage)(`install.sh on OpenRC${NEEDS_MACHINE}`, () => {
  let dist: string | undefined;
  let machine: DebianMachine;
  let installer: string;
  /** Every path of the machine, and its users, before anything of ours was there. */
  let before: string[];

  beforeAll(async () => {
    dist = buildPackage(['--arch', ARCH]);
    const archive = await makeArchive(packageOf('ndt-agent', dist));
    machine = await DebianMachine.boot('openrc');
    machine.bring(archive);
    installer = await machine.unpack(archive);
    before = everything(machine.root);
  }, 900_000);

  afterAll(async () => {
    await machine?.destroy();
    if (dist !== undefined) rmSync(dist, { recursive: true, force: true });
  }, 60_000);

  const log = () => readFileSync(join(machine.root, 'var/log/ndt-agent.log'), 'utf8');
  /** The agent, which is the only child of the process that watches it. */
  const agentPid = async () => await machine.run('sh', '-c', 'set -- $(cat /run/ndt-agent.pid); cat /proc/$1/task/$1/children');

  test('an agent is installed, ships, is upgraded with records waiting, and goes without a trace; nothing is lost', async () => {
    const outside = await aggregatorOutside(machine);
    const stored = () => numbersOutside(outside);
    expect(await machine.run(installer)).toContain('rc-update add ndt-agent default && rc-service ndt-agent start');
    const passwordFile = '/etc/ndt/mqtt.password';
    writeFileSync(join(machine.root, passwordFile), PASSWORD, { mode: 0o400 });
    await machine.run('chown', 'ndt-agent', passwordFile);
    configure(machine, outside.mqttPort, { passwordFile });
    await machine.run('rc-update', 'add', 'ndt-agent', 'default');
    // What a start of the machine does.
    await machine.run('openrc', 'default');
    await until(() => stored().size >= 5, 'records to arrive outside', 60_000);
    const pid = await agentPid();
    expect(await machine.run('readlink', `/proc/${pid}/exe`)).toBe('/usr/local/bin/ndt-agent');
    const user = await machine.run('id', '-u', 'ndt-agent');
    expect(await machine.run('cat', `/proc/${pid}/status`)).toMatch(new RegExp(`^Uid:\\s+${user}\\s+${user}\\s+${user}\\s+${user}$`, 'm'));

    configure(machine, outside.mqttPort, { interval: 0.1, passwordFile });
    await machine.run('rc-service', 'ndt-agent', 'reload');
    await until(() => log().includes('configuration reloaded'), 'the agent to have reloaded');
    expect(await agentPid()).toBe(pid);

    // Whatever ends it, it comes back.
    await machine.run('sh', '-c', `kill -9 ${pid}`);
    const anew = async () => {
      const now = await agentPid();
      return now !== '' && now !== pid;
    };
    await until(anew, 'the agent to be started anew', 60_000);
    const arrived = stored().size;
    await until(() => stored().size > arrived, 'records of the new one', 60_000);

    await machine.cable(false);
    await until(() => ledger(machine).pending >= 20, 'records to wait', 60_000);
    await machine.run('rc-service', 'ndt-agent', 'stop');
    expect(log()).toMatch(/"stopped"\}\s*$/);
    const waiting = ledger(machine);
    // What is stopped stays so, and what waits stays with it.
    await machine.run(installer);
    expect(await machine.tries('rc-service', 'ndt-agent', 'status')).toContain('stopped');
    expect(ledger(machine)).toEqual(waiting);
    await machine.run('rc-service', 'ndt-agent', 'start');
    await machine.cable(true);
    await until(() => stored().has(waiting.last), 'what waited to arrive', 90_000);
    // An upgrade of an agent that runs is a restart.
    const running = await agentPid();
    await machine.run(installer);
    expect(await agentPid()).not.toBe(running);

    // One that a configuration keeps from starting is told, and is no reason to stop half-way.
    const good = readFileSync(join(machine.root, 'etc/ndt/agent.json'), 'utf8');
    writeFileSync(join(machine.root, 'etc/ndt/agent.json'), '{ "no_such_option": 1 }');
    const refused = await machine.tries(installer);
    expect(refused).toContain('no_such_option');
    expect(refused).toContain('ndt-agent is installed, and does not start');
    writeFileSync(join(machine.root, 'etc/ndt/agent.json'), good);
    await machine.run('rc-service', 'ndt-agent', 'start');

    await until(() => ledger(machine).pending < 20, 'the buffer to be empty', 60_000);
    await until(() => outside.inventories().length > 0, 'an inventory', 60_000);
    await machine.run('rc-service', 'ndt-agent', 'stop');
    expect(expectAllOutside(machine, outside)).toBeGreaterThan(waiting.pending);

    await machine.run('rc-service', 'ndt-agent', 'start');
    await machine.run('rm', passwordFile);
    await machine.run(installer, '--purge');
    expect(differences(before, everything(machine.root))).toEqual([]);
    expect(await machine.run('rc-status', '--all')).not.toContain('ndt-agent');
  }, 300_000);
});
