import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, mkdirSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { describe, expect, it, onTestFinished } from 'vitest';
import { buffer, makeBuffer } from '../../test/buffer.ts';
import { tempDir } from '../../test/tempdir.ts';
import { Outbox } from '../outbox.ts';
import { BufferFile } from './reader.ts';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));
const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;

/** A buffer in use: 30 records in the database and 12 that are in the log only. */
function inUse(): { file: string; outbox: Outbox } {
  const { file } = makeBuffer(tempDir(), 30);
  const outbox = new Outbox({ file, agentId: 'edge', boot: 'b2', noticeTopic: 'ndt.notices', maxBytes: 2 ** 30, maxAgeMs: 0 });
  onTestFinished(() => outbox.close());
  outbox.append(Array.from({ length: 12 }, () => ({ topic: 'TP_r1', key: 'r1', body: '{}' })));
  return { file, outbox };
}

function copy(file: string, dir: string, suffixes: string[]): string {
  mkdirSync(dir, { recursive: true });
  for (const suffix of suffixes) copyFileSync(file + suffix, join(dir, `copy.db${suffix}`));
  return join(dir, 'copy.db');
}

function countIn(file: string): { count: number; access: string } {
  const buffer = new BufferFile(file);
  try {
    return { count: buffer.count(), access: buffer.access };
  } finally {
    buffer.close();
  }
}

describe('a copy', () => {
  it.each([
    ['of the database alone', [''], { count: 30, access: 'still' }],
    ['with its log', ['', '-wal'], { count: 42, access: 'shared' }],
    ['with its log and the index', ['', '-wal', '-shm'], { count: 42, access: 'shared' }],
  ])('%s', (_, suffixes, expected) => {
    const dir = tempDir();
    expect(countIn(copy(inUse().file, dir, suffixes))).toEqual(expected);
    if (suffixes.length === 1) expect(readdirSync(dir)).toEqual(['copy.db']);
  });

  it.skipIf(!isRoot).each([
    ['of the database alone', [''], { count: 30, access: 'still' }],
    ['with its log', ['', '-wal'], { count: 42, access: 'copied' }],
    ['with its log and the index', ['', '-wal', '-shm'], { count: 42, access: 'shared' }],
  ])('%s on a medium that cannot be written to (needs root)', (_, suffixes, expected) => {
    const dir = tempDir();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'ndt', dir]);
    onTestFinished(() => void execFileSync('umount', [dir]));
    const file = copy(inUse().file, dir, suffixes);
    execFileSync('mount', ['-o', 'remount,ro', dir]);
    const before = readdirSync(tmpdir()).filter((name) => name.startsWith('ndt-buffer-'));
    expect(countIn(file)).toEqual(expected);
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith('ndt-buffer-'))).toEqual(before);
  });

  it('in a folder with odd characters in its name', () => {
    const { file } = makeBuffer(tempDir(), 3);
    expect(countIn(copy(file, join(tempDir(), 'a b?c#d%20é'), ['']))).toEqual({ count: 3, access: 'still' });
  });
});

describe('a buffer in place', () => {
  it('is read while it is in use', () => {
    const { file, outbox } = inUse();
    const buffer = new BufferFile(file);
    onTestFinished(() => buffer.close());
    expect([buffer.access, buffer.count()]).toEqual(['shared', 42]);
    outbox.append([{ topic: 'TP_r1', key: 'r1', body: '{}' }]);
    expect(buffer.count()).toBe(43);
  });

  it('is left without a trace when NOBODY uses it, and tells when somebody begins to', () => {
    const dir = tempDir();
    const { file } = makeBuffer(dir, 3);
    const before = readdirSync(join(dir, 'data/agent'));
    const buffer = new BufferFile(file);
    onTestFinished(() => buffer.close());
    expect([buffer.access, buffer.count(), buffer.disturbed()]).toEqual(['still', 3, false]);
    expect(readdirSync(join(dir, 'data/agent'))).toEqual(before);
    const outbox = new Outbox({ file, agentId: 'edge', boot: 'b2', noticeTopic: 'ndt.notices', maxBytes: 2 ** 30, maxAgeMs: 0 });
    onTestFinished(() => outbox.close());
    expect(buffer.disturbed()).toBe(true);
  });
});

describe('what is no buffer is told', () => {
  const path = (name: string) => join(tempDir(), name);
  const message = (file: string): string => {
    try {
      countIn(file);
    } catch (error) {
      return String(error);
    }
    return 'nothing is wrong';
  };

  it.each([
    ['nothing', () => path('outbox.db'), 'there is no buffer at'],
    ['a folder', () => tempDir(), 'is not a file'],
    ['text', () => writtenTo(path('x.db'), 'Dear diary, '.repeat(1000)), 'is no SQLite database'],
    ['an empty file', () => writtenTo(path('x.db'), ''), 'holds no buffer'],
    ['another database', () => otherDatabase(path('x.db')), 'holds no buffer'],
    ['half of a buffer', () => halved(makeBuffer(tempDir(), 200, { bytes: 500 }).file), 'is damaged'],
  ])('%s', (_, make, expected) => expect(message(make())).toContain(expected));

  it('a file that may not be read', () => {
    const { file } = makeBuffer(tempDir(), 1);
    chmodSync(file, 0);
    // Root may read everything: for the moment this process is another user.
    if (isRoot) process.seteuid?.(NOBODY);
    try {
      expect(message(file)).toContain('run this as the agent’s user');
    } finally {
      if (isRoot) process.seteuid?.(0);
    }
  });

  it.skipIf(!isRoot)('a folder of another user, whose buffer root may change, and which stays theirs (needs root)', () => {
    const dir = tempDir();
    const { config, file } = makeBuffer(dir, 20);
    // The project and its Node may lie where other users cannot go: both are shown to them in a place where they can.
    const program = join(dir, 'program');
    mkdirSync(program);
    writeFileSync(join(dir, 'node'), '');
    const mounts = `mount --bind '${dirname(dirname(MAIN))}' '${program}' && mount --bind '${process.execPath}' '${dir}/node'`;
    chmodSync(dir, 0o755);
    for (const name of ['', 'data', 'data/agent', 'data/agent/outbox.db', 'data/agent/outbox.db.seq'])
      chownSync(join(dir, name), NOBODY, NOBODY);
    const as = (uid: number, ...args: string[]) =>
      spawnSync(
        'unshare',
        [
          ...['--mount', 'sh', '-c', `${mounts} && exec setpriv --reuid=${uid} --regid=${uid} --clear-groups '${dir}/node' "$@"`],
          ...['sh', `${program}/agent/main.ts`, 'buffer', ...args, '--file', file],
        ],
        { encoding: 'utf8', cwd: dir },
      );
    chmodSync(join(dir, 'data/agent'), 0o750);
    for (const command of ['status', 'ledger', 'export', 'import x', 'drop --reason x --yes']) {
      const { status, stderr } = as(1234, ...command.split(' '));
      expect([status, stderr]).toEqual([74, expect.stringMatching(/outbox\.db cannot be read \(EACCES\): run this as the agent’s user/)]);
    }
    expect(as(NOBODY, 'drop', '--reason', 'own', '--to', '1', '--yes').status).toBe(0);
    expect(buffer(config, 'drop', '--reason', 'root', '--yes').stdout).toContain('20 records');
    for (const name of readdirSync(join(dir, 'data/agent')))
      expect([name, statSync(join(dir, 'data/agent', name)).uid]).toEqual([name, NOBODY]);
    expect(as(NOBODY, 'verify').status).toBe(0);
  });
});

function writtenTo(file: string, text: string): string {
  writeFileSync(file, text);
  return file;
}

function otherDatabase(file: string): string {
  const db = new Database(file);
  db.exec('CREATE TABLE songs (name TEXT)');
  db.close();
  return file;
}

function halved(file: string): string {
  truncateSync(file, 64 * 1024);
  return file;
}
