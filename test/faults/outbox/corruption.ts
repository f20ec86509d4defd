/** Bytes that changed where they lay: in the database, its log or the marks beside it, at random places. */
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { size, subtract } from '../../../aggregator/ledger.ts';
import { drainAll, expectBalanced, gapsOf, openOutbox, record, sum } from '../../outbox.ts';
import { tempDir } from '../../tempdir.ts';
import type { Figures, Row } from './report.ts';
import { Rig } from './rig.ts';

const PAGE = 4096;
const BASELINE = { epoch: '1.5', devices: { eth0: { bytes: '1', packets: '2' } } };

/** Numbers that are the same at each run with a seed. */
export function randomNumbers(seed: number): (below: number) => number {
  let x = seed;
  return (below) => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return Math.floor((x / 2 ** 32) * below);
  };
}

function overwrite(file: string, at: number, bytes: Buffer): void {
  const fd = openSync(file, 'r+');
  writeSync(fd, bytes, 0, bytes.length, at);
  closeSync(fd);
}

function pageOf(file: string, n: number): Buffer {
  const bytes = Buffer.alloc(PAGE);
  const fd = openSync(file, 'r');
  readSync(fd, bytes, 0, PAGE, n * PAGE);
  closeSync(fd);
  return bytes;
}

type Damage = (file: string, draw: (below: number) => number) => void;

const DAMAGES: ReadonlyArray<readonly [string, Damage]> = [
  ['a byte', (file, draw) => overwrite(file, draw(statSync(file).size), Buffer.from([draw(256)]))],
  [
    'many bytes',
    (file, draw) => {
      for (let n = 2 + draw(30); n > 0; n -= 1) overwrite(file, draw(statSync(file).size), Buffer.from([draw(256)]));
    },
  ],
  ['a page of zeros', (file, draw) => overwrite(file, draw(Math.ceil(statSync(file).size / PAGE)) * PAGE, Buffer.alloc(PAGE))],
  [
    'a sector of noise',
    (file, draw) =>
      overwrite(file, draw(Math.ceil(statSync(file).size / 512)) * 512, Buffer.from(Array.from({ length: 512 }, () => draw(256)))),
  ],
  [
    'a page in another’s place',
    (file, draw) => {
      const pages = Math.max(1, Math.floor(statSync(file).size / PAGE));
      overwrite(file, draw(pages) * PAGE, pageOf(file, draw(pages)));
    },
  ],
  ['cut off', (file, draw) => truncateSync(file, draw(statSync(file).size))],
];

/** Does random damage; the database is hit most often, the log and the marks now and then. Returns what was done. */
function damage(dir: string, draw: (below: number) => number): string {
  const name = ['outbox.db', 'outbox.db', 'outbox.db', 'outbox.db-wal', 'outbox.db.seq'][draw(5)] ?? 'outbox.db';
  const file = existsSync(join(dir, name)) && statSync(join(dir, name)).size > 0 ? name : 'outbox.db';
  const [what, work] = DAMAGES[draw(DAMAGES.length)] ?? ['a byte', () => {}];
  work(join(dir, file), draw);
  return `${what} in ${file}`;
}

function copyOf(from: string, to: string): void {
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to);
  for (const name of readdirSync(from)) if (/^outbox\.db(-wal|\.seq)?$/.test(name)) copyFileSync(join(from, name), join(to, name));
}

/** An outbox with a history, as it lies on disk after its end, and as a kill leaves it. */
function lived(): { closed: string; killed: string; bodies: Map<number, string>; last: number } {
  const dir = tempDir();
  const outbox = openOutbox(dir);
  const bodies = new Map<number, string>();
  const append = (n: number) => {
    const list = Array.from({ length: n }, (_, i) => record(`${bodies.size + i} `.padEnd(600, 'b'), `r${i % 5}`));
    const first = outbox.append(list, new Map([['r1', BASELINE]]));
    for (const [i, { body }] of list.entries()) bodies.set(first + i, body);
  };
  for (let i = 0; i < 8; i += 1) append(50);
  outbox.settle({ acked: outbox.read('all', 90).map(({ seq }) => seq), rejected: [] });
  for (let i = 0; i < 4; i += 1) append(25);
  const [killed, closed] = [join(tempDir(), 'killed'), join(tempDir(), 'closed')];
  copyOf(dir, killed);
  const { last } = outbox.ledger();
  outbox.close();
  copyOf(dir, closed);
  return { closed, killed, bodies, last };
}

/** In one process: open, heal, deliver everything, and compare with what was put in. */
export async function manyCases(times: number, seed = 20_251): Promise<Figures> {
  const { closed, killed, bodies, last } = lived();
  const draw = randomNumbers(seed);
  const figures: Figures = { rounds: 0, produced: 0, delivered: 0, dropped: {}, arrived: 0, duplicates: 0, lostSilently: 0 };
  const dir = join(tempDir(), 'case');
  // What the receiving side had before the damage.
  const before = new Set([...bodies.keys()].slice(0, 90));
  for (let round = 0; round < times; round += 1) {
    copyOf(round % 2 === 0 ? closed : killed, dir);
    const what = `case ${round} (seed ${seed}): ${damage(dir, draw)}, ${round % 2 === 0 ? 'closed' : 'killed'} before`;
    const outbox = openOutbox(dir, { boot: 'b2' });
    try {
      expect(outbox.whereabouts().where, what).toBe('disk');
      const first = outbox.append([record('new')]);
      expect(first, `${what}: numbers go on`).toBeGreaterThan(last);
      const entries = drainAll(outbox);
      const numbers = entries.map(({ seq }) => seq);
      expect(new Set(numbers).size, what).toBe(numbers.length);
      for (const { seq, body } of entries) if (seq <= last) expect(body, `${what}: record ${seq}`).toBe(bodies.get(seq));
      outbox.settle({ acked: numbers, rejected: [] });
      for (let i = 0; i < 20 && outbox.ledger().pending > 0; i += 1)
        outbox.settle({ acked: outbox.read('all', 500).map(({ seq }) => seq), rejected: [] });
      const gaps = gapsOf(outbox).map(({ from, to, count, reason }) => ({ first: from, last: to, count, reason }));
      const have = new Set([...before, ...numbers]);
      const absent = [...bodies.keys()].filter((seq) => !have.has(seq)).map((seq) => ({ first: seq, last: seq }));
      const silent = size(subtract(absent, gaps));
      const ledger = outbox.ledger();
      expect({ silent, pending: ledger.pending }, what).toEqual({ silent: 0, pending: 0 });
      expect(sum(ledger.dropped), `${what}: as many named as are gone`).toBeGreaterThanOrEqual(absent.length);
      expectBalanced(outbox);
      figures.rounds += 1;
      figures.produced += ledger.produced;
      figures.delivered += ledger.delivered;
      figures.arrived += have.size;
      figures.duplicates += numbers.filter((seq) => before.has(seq)).length;
      figures.lostSilently += silent;
      for (const [reason, n] of Object.entries(ledger.dropped)) figures.dropped[reason] = (figures.dropped[reason] ?? 0) + n;
    } catch (error) {
      throw new Error(`${what}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    } finally {
      outbox.close();
    }
  }
  return figures;
}

/** With the whole agent: a backlog, an end or a kill, damage, and everything out to the aggregator. */
export async function damageOnce(rig: Rig, draw: (below: number) => number, killed: boolean, what: string): Promise<void> {
  rig.tap.turn('refuse');
  const before = await rig.agent();
  await rig.grows(20);
  if (killed) await before.kill9();
  else await before.stop();
  const done = damage(rig.folder, draw);
  rig.tap.turn('pass');
  const after = await rig.agent();
  await rig.grows(5);
  await after.stop();
  await rig.expectAgreement(`${what}: ${done}`, false);
}

async function wholeAgent(times: number): Promise<Figures> {
  const rig = await Rig.make();
  const draw = randomNumbers(4711);
  for (let round = 0; round < times; round += 1) await damageOnce(rig, draw, round % 2 === 1, `whole agent, case ${round}`);
  return await rig.finish('damaged files', false);
}

export const rows: Row[] = [
  {
    fault: 'changed bytes',
    how: 'a byte, many, a page of zeros, noise, a page in another’s place, or a file cut off; database, log or marks; in one process',
    times: 500,
    timeoutMs: 600_000,
    run: manyCases,
  },
  {
    fault: 'changed bytes, whole agent',
    how: 'the same between the end of an agent (half of them killed) and its next start',
    times: 10,
    timeoutMs: 600_000,
    run: wholeAgent,
  },
];
