import {
  appendFileSync,
  closeSync,
  copyFileSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { copyFiles, drainAll, expectBalanced, FIRST, gapsOf, openOutbox, record, records, reports, sum } from '../../test/outbox.ts';
import { tempDir } from '../../test/tempdir.ts';
import type { Outbox } from '../outbox.ts';
import { HighWater } from './high-water.ts';
import { start } from './start.ts';

const BASELINE = { epoch: '1.5', devices: { eth0: { bytes: '1', packets: '2' } } };

/** An outbox with a history: some delivered, some refused, many waiting, in the log and in the file. */
function lived(dir: string): { outbox: Outbox; bodies: Map<number, string> } {
  const outbox = openOutbox(dir);
  const bodies = new Map<number, string>();
  const append = (n: number) => {
    const list = Array.from({ length: n }, (_, i) => record(`${bodies.size + i} `.padEnd(600, 'b'), `r${i % 5}`));
    const first = outbox.append(list, new Map([['r1', BASELINE]]));
    for (const [i, { body }] of list.entries()) bodies.set(first + i, body);
  };
  for (let i = 0; i < 12; i += 1) append(50);
  const settled = outbox.read('all', 100).map(({ seq }) => seq);
  outbox.settle({ acked: settled.slice(0, 90), rejected: settled.slice(90).map((seq) => ({ seq, reason: 'no' })) });
  for (let i = 0; i < 4; i += 1) append(25);
  for (const seq of settled) bodies.delete(seq);
  return { outbox, bodies };
}

function overwrite(file: string, at: number, bytes: Buffer): void {
  const fd = openSync(file, 'r+');
  writeSync(fd, bytes, 0, bytes.length, at);
  closeSync(fd);
}

/** What must hold of an outbox opened on files that were damaged: see proof 1 of the promises. */
function expectWhole(dir: string, bodies: Map<number, string>, before: { last: number; produced: number }): { lost: number; text: string } {
  const told = reports();
  const outbox = openOutbox(dir, { report: told.report, boot: 'b2' });
  try {
    expect(outbox.whereabouts(), told.text()).toEqual({ where: 'disk', cause: undefined });
    // It works on: new records get numbers that were never used.
    expect(outbox.append([record('new')])).toBeGreaterThan(before.last);
    // Everything is delivered, and what cannot be found is noticed at the latest when nothing else is left.
    const seen = new Set<number>();
    for (let round = 0; outbox.ledger().pending > 0 && round < 200; round += 1) {
      const entries = outbox.read('all', 300);
      // Nothing that was changed by the damage goes out.
      for (const { seq, body } of entries) {
        if (bodies.has(seq)) expect(body).toBe(bodies.get(seq));
        seen.add(seq);
      }
      outbox.settle({ acked: entries.map(({ seq }) => seq), rejected: [] });
      if (entries.length === 0) outbox.maintain();
    }
    expectBalanced(outbox);
    const { dropped, last, pending } = outbox.ledger();
    expect(pending, told.text()).toBe(0);
    expect(last).toBeGreaterThan(before.last);
    const lost = [...bodies.keys()].filter((seq) => !seen.has(seq));
    const gaps = gapsOf(outbox);
    for (const seq of lost)
      expect(
        gaps.some(({ from, to }) => seq >= from && seq <= to),
        `number ${seq} is lost and in no gap:\n${told.text()}`,
      ).toBe(true);
    expect(sum(dropped)).toBeGreaterThanOrEqual(lost.length);
    return { lost: lost.length, text: told.text() };
  } finally {
    outbox.close();
  }
}

/** Numbers that are the same at each run. */
function* random(seed: number): Generator<number> {
  for (let x = seed; ; ) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    yield x / 2 ** 32;
  }
}

describe('a file that was damaged while the agent did not run', () => {
  const dir = () => tempDir();

  it.each<[string, (file: string) => void]>([
    ['emptied', (file) => truncateSync(file, 0)],
    ['gone', (file) => rmSync(file)],
    ['garbage', (file) => writeFileSync(file, Buffer.alloc(200_000, 'garbage '))],
    ['cut off in the middle', (file) => truncateSync(file, Math.floor(statSync(file).size / 2 / 4096) * 4096)],
    ['cut off within a page', (file) => truncateSync(file, Math.floor(statSync(file).size / 3))],
    ['without its first page', (file) => overwrite(file, 0, Buffer.alloc(4096))],
    ['without its header', (file) => overwrite(file, 0, Buffer.alloc(100, 0xff))],
  ])('%s', (what, damage) => {
    const from = dir();
    const { outbox, bodies } = lived(from);
    const before = outbox.ledger();
    outbox.close();
    damage(join(from, 'outbox.db'));
    const { lost, text } = expectWhole(from, bodies, before);
    expect(text).toContain('the buffer was damaged');
    if (what.startsWith('without')) expect(lost, 'the first page holds no records').toBe(0);
    if (what.startsWith('cut')) expect(lost).toBeLessThan(bodies.size);
    if (what !== 'gone') expect(readdirSync(from).some((name) => name.startsWith('outbox.db.damaged-'))).toBe(true);
  });

  it.each<[string, (log: string) => void]>([
    ['torn in the middle', (log) => overwrite(log, Math.floor(statSync(log).size / 2), Buffer.alloc(64, 0x5a))],
    ['cut off', (log) => truncateSync(log, Math.floor(statSync(log).size * 0.6))],
    ['without its header', (log) => overwrite(log, 0, Buffer.alloc(32))],
    ['emptied', (log) => truncateSync(log, 0)],
    ['gone', (log) => rmSync(log)],
  ])('a log %s', (_what, damage) => {
    const from = dir();
    const { outbox, bodies } = lived(from);
    const before = outbox.ledger();
    const copy = copyFiles(from, dir());
    outbox.close();
    damage(join(copy, 'outbox.db-wal'));
    expectWhole(copy, bodies, before);
  });

  it('a letter of the schema changed: the records are read as they lie', () => {
    const from = dir();
    const { outbox, bodies } = lived(from);
    const before = outbox.ledger();
    outbox.close();
    const file = join(from, 'outbox.db');
    const at = readFileSync(file).indexOf('elapsed INTEGER');
    expect(at).toBeGreaterThan(0);
    overwrite(file, at, Buffer.from('X'));
    expect(expectWhole(from, bodies, before).lost).toBe(0);
  });

  it('a kill between the repair and the first commit: what the repair has lost is told all the same', () => {
    const from = dir();
    const { outbox, bodies } = lived(from);
    const before = outbox.ledger();
    outbox.close();
    const file = join(from, 'outbox.db');
    truncateSync(file, Math.floor(statSync(file).size / 2 / 4096) * 4096);
    const { last: mark } = new HighWater(`${file}.seq`, join(from, 'fallback.seq'));
    const text = (gap: object) => JSON.stringify({ type: 'gap', ...gap });
    const options = { file, maxBytes: 2 ** 30, keep: { files: 3, bytes: 2 ** 26 }, kernelBoot: 'k1', nowMs: FIRST };
    const { db, told } = start({
      ...options,
      mark,
      gapText: ({ first, last, count, reason }) => text({ from: first, to: last, count, reason }),
    });
    expect(told.length).toBeGreaterThan(0);
    db.close();
    expect(expectWhole(from, bodies, before).lost).toBeGreaterThan(0);
  });

  describe('a log that a kill -9 left', () => {
    /** The files of an outbox that runs, the log's index with them. */
    const killed = (change: (log: string) => void) => {
      const from = dir();
      const { outbox, bodies } = lived(from);
      const before = outbox.ledger();
      const copy = copyFiles(from, dir());
      copyFileSync(join(from, 'outbox.db-shm'), join(copy, 'outbox.db-shm'));
      outbox.close();
      change(join(copy, 'outbox.db-wal'));
      return { copy, bodies, before };
    };
    const half = (log: string) => {
      const frame = readFileSync(log).subarray(32, 32 + 24);
      appendFileSync(log, Buffer.concat([frame, Buffer.alloc(500, 1)]));
    };

    it('with half a page at its end: it was being written, and nothing is lost', () => {
      const { copy, bodies, before } = killed(half);
      const after = openOutbox(copy, { boot: 'b2' });
      expect(after.ledger()).toEqual(before);
      expect(gapsOf(after)).toEqual([]);
      expect(drainAll(after).map(({ seq }) => seq)).toEqual([...bodies.keys()]);
      after.close();
    });

    it('the same after the machine went down: nothing says what was committed, and what may be lost is told', () => {
      const { copy, before } = killed(half);
      const after = openOutbox(copy, { boot: 'b2', kernelBoot: 'k2' });
      expect(after.ledger().dropped.corrupt).toBeGreaterThan(0);
      expect(after.append([record('new')])).toBeGreaterThan(before.last);
      after.close();
    });

    it('cut off at the end of a frame: SQLite takes it as whole, and what is lost is told', () => {
      const { copy, bodies, before } = killed((log) => truncateSync(log, 32 + Math.floor((statSync(log).size - 32) / 4120 / 2) * 4120));
      expect(expectWhole(copy, bodies, before).lost).toBeGreaterThan(0);
    });
  });

  it('file and marks both gone: numbers go on above the clock’s', () => {
    const from = dir();
    const { outbox, bodies } = lived(from);
    const before = outbox.ledger();
    outbox.close();
    rmSync(join(from, 'outbox.db'));
    rmSync(join(from, 'outbox.db.seq'));
    const after = openOutbox(from, { nowMs: () => FIRST + 3_600_000 });
    expect(after.append([record('new')])).toBeGreaterThan(before.last);
    expect(bodies.size).toBeGreaterThan(0);
    after.close();
  });

  it('bytes changed at 60 random places, a place or many at a time: the ledger balances, and what is lost is named', () => {
    const from = dir();
    const { outbox, bodies } = lived(from);
    const before = outbox.ledger();
    const still = copyFiles(from, dir());
    outbox.close();
    const closed = copyFiles(from, dir());
    const next = random(4711);
    const draw = (n: number) => Math.floor((next.next().value as number) * n);
    let repaired = 0;
    for (let round = 0; round < 60; round += 1) {
      const copy = copyFiles(round % 2 === 0 ? closed : still, dir());
      const file = join(copy, round % 4 === 1 ? 'outbox.db-wal' : 'outbox.db');
      const size = statSync(file).size;
      for (let n = 1 + draw(round % 3 === 0 ? 20 : 1); n > 0; n -= 1) overwrite(file, draw(size), Buffer.from([draw(256)]));
      if (round % 7 === 0) overwrite(file, draw(Math.ceil(size / 4096)) * 4096, Buffer.alloc(4096, draw(256)));
      try {
        if (expectWhole(copy, bodies, before).text.includes('damaged')) repaired += 1;
      } catch (error) {
        throw new Error(`round ${round}`, { cause: error });
      }
    }
    expect(repaired).toBeGreaterThan(5);
  }, 120_000);
});

describe('damage while it runs', () => {
  it('is healed in place: the outbox goes on, and nothing else is touched', () => {
    const dir = tempDir();
    const told = reports();
    const outbox = openOutbox(dir, { report: told.report });
    for (let i = 0; i < 40; i += 1) outbox.append(records(100, 800), new Map([['r1', BASELINE]]));
    const db = new Database(join(dir, 'outbox.db'));
    db.pragma('wal_checkpoint(TRUNCATE)');
    db.close();
    const size = statSync(join(dir, 'outbox.db')).size;
    // Pages that are long out of the cache.
    for (let page = 40; page < 60; page += 3) overwrite(join(dir, 'outbox.db'), page * 4096, Buffer.alloc(4096, 0xa5));
    expect(size).toBeGreaterThan(100 * 4096);
    const seen = drainAll(outbox);
    expectBalanced(outbox);
    const { dropped, pending } = outbox.ledger();
    expect(told.text()).toContain('the buffer was damaged');
    expect(dropped.corrupt).toBeGreaterThan(0);
    expect(dropped.corrupt).toBeLessThan(200);
    expect(drainAll(outbox).length).toBe(pending);
    expect(seen.length).toBeGreaterThan(0);
    expect(outbox.baselines().get('r1')).toEqual(BASELINE);
    expect(outbox.append([record('on')])).toBe(FIRST + 4000);
    expect(outbox.stats().repairs).toBe(1);
    expect(gapsOf(outbox).reduce((all, { count }) => all + count, 0)).toBe(dropped.corrupt);
    outbox.close();
  });

  it('a changed text that SQLite cannot notice is not sent', () => {
    const dir = tempDir();
    const outbox = openOutbox(dir);
    outbox.append(records(10, 300));
    const db = new Database(join(dir, 'outbox.db'));
    db.prepare('UPDATE records SET body = ? WHERE seq = ?').run('{"changed": true}', FIRST + 4);
    db.close();
    expect(outbox.read('all', 100).map(({ seq }) => seq - FIRST)).toEqual([0, 1, 2, 3, 5, 6, 7, 8, 9]);
    expect(outbox.ledger()).toMatchObject({ pending: 9, dropped: { corrupt: 1 } });
    expect(gapsOf(outbox)).toEqual([expect.objectContaining({ from: FIRST + 4, to: FIRST + 4, count: 1, reason: 'corrupt' })]);
    outbox.close();
  });

  it('a file that somebody deleted is made again', () => {
    const dir = tempDir();
    const told = reports();
    let monotonic = 0;
    const outbox = openOutbox(dir, { report: told.report, monotonicMs: () => monotonic });
    outbox.append(records(10));
    for (const name of ['outbox.db', 'outbox.db-wal', 'outbox.db-shm']) rmSync(join(dir, name));
    outbox.close();
    monotonic += 1000;
    const after = openOutbox(dir, { report: told.report });
    expect(after.append([record('x')])).toBeGreaterThanOrEqual(FIRST + 10);
    expectBalanced(after);
    after.close();
  });

  it('damaged files are kept, the newest ones, within a bound', () => {
    const dir = tempDir();
    let now = FIRST;
    for (let i = 0; i < 5; i += 1) {
      const outbox = openOutbox(dir, { nowMs: () => now, keep: { files: 2, bytes: 2 ** 20 } });
      outbox.append(records(10));
      outbox.close();
      overwrite(join(dir, 'outbox.db'), 0, Buffer.alloc(100, i + 1));
      now += 60_000;
    }
    const last = openOutbox(dir, { nowMs: () => now, keep: { files: 2, bytes: 2 ** 20 } });
    expect(readdirSync(dir).filter((name) => name.includes('.damaged-'))).toHaveLength(2);
    expect(last.ledger()).toMatchObject({ pending: 50 });
    last.close();
  });
});
