/** What the tests of an installed agent ask of a machine, do to it, and have at the other end of its cable. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { expect, onTestFinished } from 'vitest';
import pkg from '../package.json' with { type: 'json' };
import { built, type PackageBuild } from '../scripts/deb/build.ts';
import type { ProgramName } from '../scripts/package/programs.ts';
import { ARCH } from './package.ts';
import { fromSources, Pair } from './programs.ts';
import { type DebianMachine, OUTSIDE } from './real/debian-machine.ts';
import { tempDir } from './tempdir.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

/** The agent's, at the aggregator outside. */
export const PASSWORD = 'a password that only root may read';

/** What a package of ours is made of, out of the binaries of `npm run package`; quickly. */
export function packageOf(name: ProgramName, dist: string): PackageBuild {
  const paths = { root, output: join(dist, 'packages'), ...built(dist, name, ARCH) };
  return { ...paths, name, arch: ARCH, version: pkg.version, epoch: 1_760_000_000, compression: 'gzip' };
}

/** An aggregator at the cable's other end, which knows the machine's agent by its password. */
export async function aggregatorOutside(machine: DebianMachine): Promise<Pair> {
  const pair = await Pair.make(tempDir(), {
    aggregator: { mqtt: { host: OUTSIDE, users: { 'router-7': { password: PASSWORD } } } },
  });
  const { command, env } = fromSources('aggregator');
  onTestFinished(() => pair.stop());
  pair.origin.aggregator = { command: ['ip', 'netns', 'exec', machine.outside, ...command], env };
  await pair.aggregator();
  return pair;
}

/** Where systemd gives the password to the service. */
const HANDED_OVER = '/run/credentials/ndt-agent.service/secret_mqtt';

/**
 * What a person would write: who it is, where the aggregator is, and where the password is.
 * @param settings `passwordFile`: where no init system hands it over; has to be there already
 */
export function configure(machine: DebianMachine, port: number, settings: { interval?: number; passwordFile?: string } = {}): void {
  const { interval = 0.2, passwordFile = HANDED_OVER } = settings;
  const config = {
    polling_interval: interval,
    data_dir: '/var/lib/ndt-agent',
    log: { format: 'json' },
    agent: { id: 'router-7' },
    mqtt: { url: `mqtt://${OUTSIDE}:${port}`, password_file: passwordFile, timeout: 2 },
    routers: [{ 'router-7': { source: 'procfs' } }],
  };
  writeFileSync(join(machine.root, 'etc/ndt/agent.json'), JSON.stringify(config, null, 2));
  if (passwordFile === HANDED_OVER) writeFileSync(join(machine.root, 'etc/ndt/credentials/agent/mqtt'), PASSWORD, { mode: 0o600 });
}

/** Numbers of what has arrived outside; an inventory has one like every other record. */
export function numbersOutside(outside: Pair): Set<number> {
  return new Set([...outside.stored('processed'), ...outside.inventories()].map(({ seq }) => seq));
}

/** Every number that the stopped agent has given away and does not hold is outside, once. @returns how many are there */
export function expectAllOutside(machine: DebianMachine, outside: Pair): number {
  const { first, last, pending } = ledger(machine);
  const kept = numbersOutside(outside);
  // The service can make one, however confined it is.
  expect(outside.inventories()).not.toEqual([]);
  expect(Array.from({ length: last - first + 1 - pending }, (_, i) => first + i).filter((seq) => !kept.has(seq))).toEqual([]);
  expect(outside.stored('processed').length + outside.inventories().length).toBe(kept.size);
  return kept.size;
}

/** The agent's ledger, from its file: its numbers, and how many records wait. */
export function ledger(machine: DebianMachine): { first: number; last: number; pending: number } {
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
export function differences(before: string[], now: string[]): string[] {
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
export function everything(machine: string): string[] {
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
