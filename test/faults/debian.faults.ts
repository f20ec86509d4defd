/**
 * The Debian packages on a Debian machine that was made for the purpose: real apt, dpkg and systemd, the released binaries, and a cable
 * to an aggregator outside that can be cut.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import pkg from '../../package.json' with { type: 'json' };
import { built, makeArchive, makeDeb } from '../../scripts/deb/build.ts';
import { findProgram } from '../../scripts/programs.ts';
import { buildPackage, canPackage } from '../package.ts';
import { fromSources, Pair } from '../programs.ts';
import { buildRoot, DebianMachine, hasMachine, NEEDS_MACHINE, OUTSIDE } from '../real/debian-machine.ts';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const ARCH = process.arch === 'arm64' ? 'arm64' : 'x64';
const LINTIAN = findProgram('lintian');
const PASSWORD = 'a password that only root may read';
const NEXT = pkg.version.replace(/\d+$/, (patch) => String(Number(patch) + 1));

describe.skipIf(!hasMachine || !canPackage)(`the Debian packages${NEEDS_MACHINE}`, () => {
  let machine: DebianMachine;
  let dist: string | undefined;
  let debs: { agent: string; next: string; aggregator: string; archive: string };
  /** Every path of the machine, and its users, before anything of ours was there. */
  let before: string[];

  beforeAll(async () => {
    dist = buildPackage(['--arch', ARCH]);
    const common = { root, arch: ARCH, output: join(dist, 'debs'), epoch: 1_760_000_000, compression: 'gzip' } as const;
    const agent = { ...common, name: 'ndt-agent', version: pkg.version, ...built(dist, 'ndt-agent', ARCH) } as const;
    debs = {
      agent: await makeDeb(agent),
      next: await makeDeb({ ...agent, version: NEXT }),
      archive: await makeArchive(agent),
      aggregator: await makeDeb({ ...agent, name: 'ndt-aggregator', ...built(dist, 'ndt-aggregator', ARCH) }),
    };
    await buildRoot();
    machine = await DebianMachine.boot();
    mkdirSync(join(machine.root, 'opt/debs'));
    for (const file of Object.values(debs)) cpSync(file, join(machine.root, 'opt/debs', basename(file)));
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
    const stored = () => new Set(outside.stored('processed').map(({ seq }) => seq));

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
    configure(machine, outside.mqttPort, 0.1);
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

    const { first, last, pending } = ledger(machine);
    // An inventory has a number like every other record; the confined service can make one.
    const kept = new Set([...stored(), ...outside.inventories().map(({ seq }) => seq)]);
    expect(kept.size).toBeGreaterThan(stored().size);
    const lost = Array.from({ length: last - first + 1 - pending }, (_, i) => first + i).filter((seq) => !kept.has(seq));
    expect(lost).toEqual([]);
    expect(kept.size).toBeGreaterThan(waiting.pending);
    console.log(`${kept.size} records arrived, ${waiting.pending} of them after the upgrade; 0 lost`);
    expect(outside.stored('processed').length + outside.inventories().length).toBe(kept.size);

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
    const folder = `/opt/debs/${basename(debs.archive, '.tar.gz')}`;
    await machine.run('tar', '-xzf', `/opt/debs/${basename(debs.archive)}`, '-C', '/opt/debs');
    expect(await machine.run(`${folder}/install.sh`)).toContain('systemctl enable --now ndt-agent');
    await machine.run('systemctl', 'enable', '--now', 'ndt-agent');
    expect(await machine.show('ndt-agent', 'ActiveState')).toBe('active');
    const pid = await machine.show('ndt-agent', 'MainPID');
    expect(await machine.run('readlink', `/proc/${pid}/exe`)).toBe('/usr/local/bin/ndt-agent');
    // Once more is an upgrade: what runs is the new program.
    await machine.run(`${folder}/install.sh`);
    expect(await machine.show('ndt-agent', 'MainPID')).not.toBe(pid);
    expect(await machine.show('ndt-agent', 'ActiveState')).toBe('active');
    await machine.run(`${folder}/install.sh`, '--purge');
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

/** An aggregator at the cable's other end, which knows the machine's agent by its password. */
async function aggregatorOutside(machine: DebianMachine): Promise<Pair> {
  const pair = await Pair.make(tempDir(), {
    aggregator: { mqtt: { host: OUTSIDE, users: { 'router-7': { password: PASSWORD } } } },
  });
  const { command, env } = fromSources('aggregator');
  onTestFinished(() => pair.stop());
  pair.origin.aggregator = { command: ['ip', 'netns', 'exec', machine.outside, ...command], env };
  await pair.aggregator();
  return pair;
}

/** What a person would write: who it is, where the aggregator is, and the password where only root reads it. */
function configure(machine: DebianMachine, port: number, interval = 0.2): void {
  const config = {
    polling_interval: interval,
    data_dir: '/var/lib/ndt-agent',
    log: { format: 'json' },
    agent: { id: 'router-7' },
    mqtt: { url: `mqtt://${OUTSIDE}:${port}`, password_file: '/run/credentials/ndt-agent.service/secret_mqtt', timeout: 2 },
    routers: [{ 'router-7': { source: 'procfs' } }],
  };
  writeFileSync(join(machine.root, 'etc/ndt/agent.json'), JSON.stringify(config, null, 2));
  writeFileSync(join(machine.root, 'etc/ndt/credentials/agent/mqtt'), PASSWORD, { mode: 0o600 });
}

async function journal(machine: DebianMachine): Promise<string> {
  return await machine.run('journalctl', '--no-pager', '-o', 'cat', '-u', 'ndt-agent');
}

/** The agent's ledger, from its file: its numbers, and how many records wait. */
function ledger(machine: DebianMachine): { first: number; last: number; pending: number } {
  const db = new Database(join(machine.root, 'var/lib/ndt-agent/agent/outbox.db'), { readonly: true });
  try {
    const meta = (name: string) => (db.prepare('SELECT value FROM meta WHERE name = ?').get(name) as { value: number }).value;
    const { n } = db.prepare('SELECT count(*) AS n FROM records').get() as { n: number };
    return { first: meta('first_seq'), last: meta('last_seq'), pending: n };
  } finally {
    db.close();
  }
}

/** What came and what went. */
function differences(before: string[], now: string[]): string[] {
  const [old, current] = [new Set(before), new Set(now)];
  return [
    ...now.filter((path) => !old.has(path)).map((path) => `+ ${path}`),
    ...before.filter((path) => !current.has(path)).map((path) => `- ${path}`),
  ];
}

/** What logs, caches and the package manager's own records hold is theirs. */
const OTHERS =
  /^(proc|sys|dev|run|tmp|opt\/debs|var\/(log|cache|tmp|backups)|var\/lib\/(apt|dpkg|systemd|private)|etc\/(passwd|group|shadow|gshadow)-?|etc\/\.pwd\.lock)(\/|$)/;

/** Every path of a machine, with its users and groups. */
function everything(machine: string): string[] {
  const found = execFileSync('find', [machine, '-xdev', '-printf', '%P\\n'], { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  const paths = found.split('\n').filter((path) => path !== '' && !OTHERS.test(path));
  const accounts = ['passwd', 'group', 'shadow', 'gshadow'].flatMap((file) =>
    existsSync(join(machine, 'etc', file))
      ? readFileSync(join(machine, 'etc', file), 'utf8')
          .split('\n')
          .map((line) => `${file}: ${line.split(':')[0]}`)
      : [],
  );
  return [...paths, ...accounts].sort();
}
