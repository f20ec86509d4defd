import { statSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { decideWrites, FAILED, FULL, type Outcome, planWrites, underTest } from '../../test/failing-disk.ts';
import { expectBalanced, FIRST, openOutbox, records, reports } from '../../test/outbox.ts';
import { tempDir } from '../../test/tempdir.ts';
import { OutboxDb } from './database.ts';

describe('an end while the disk takes nothing is no damage at the next start', () => {
  const ended = (outcome: Outcome, end: 'in order' | 'by a kill', tries = 0) => {
    const dir = tempDir();
    const { options, clock } = underTest(dir);
    const outbox = openOutbox(dir, options);
    for (let i = 0; i < 10; i += 1) outbox.append(records(10));
    decideWrites(() => outcome);
    outbox.append(records(5));
    for (let i = 0; i < tries; i += 1) {
      clock.monotonic += 60_000;
      outbox.maintain();
    }
    if (end === 'in order') outbox.close();
    vi.restoreAllMocks();
    const told = reports();
    const again = openOutbox(dir, { ...options, report: told.report });
    expectBalanced(again);
    expect({ ...again.ledger(), repairs: again.stats().repairs }, told.text()).toMatchObject({
      pending: 100,
      repairs: 0,
      dropped: { lost_in_memory: expect.any(Number) },
    });
    expect(again.ledger().dropped.corrupt).toBeUndefined();
  };
  it('in order, full', () => ended(FULL, 'in order'));
  it('in order, failing', () => ended(FAILED, 'in order'));
  it('by a kill, failing', () => ended(FAILED, 'by a kill'));
  it('by a kill, full, after the disk was tried again', () => ended(FULL, 'by a kill', 2));
  it('by a kill, failing, after the disk was tried again', () => ended(FAILED, 'by a kill', 2));
});

it.each(['at the start', 'while it runs'])('a bad place under the file (%s) is answered like damage after some tries', (when) => {
  const dir = tempDir();
  const { options, clock, told } = underTest(dir);
  let outbox = openOutbox(dir, options);
  outbox.append(records(20));
  if (when === 'at the start') outbox.close();
  // It is in that file, and not in another one in its place.
  const { ino } = statSync(options.file);
  const { load } = OutboxDb.prototype;
  const spy = vi.spyOn(OutboxDb.prototype, 'load').mockImplementation(function (this: OutboxDb) {
    if (statSync(this.file).ino === ino) throw Object.assign(new Error('disk I/O error'), { code: 'SQLITE_IOERR_READ' });
    load.call(this);
  });
  onTestFinished(() => spy.mockRestore());
  if (when === 'at the start') outbox = openOutbox(dir, options);
  else {
    planWrites({ code: 'SQLITE_IOERR_READ' });
    outbox.append(records(1));
  }
  for (let i = 0; i < 10; i += 1) {
    clock.monotonic += 60_000;
    outbox.append(records(1));
    outbox.maintain();
  }
  expect(outbox.whereabouts(), told.text()).toEqual({ where: 'disk', cause: undefined });
  expect(outbox.stats().repairs).toBe(1);
  expect(outbox.ledger().pending, told.text()).toBe(when === 'at the start' ? 30 : 31);
  expectBalanced(outbox);
});

it('a damaged record does not keep what is behind it from being sent while the disk is full, and is dropped after', () => {
  const dir = tempDir();
  const { options, clock } = underTest(dir);
  const outbox = openOutbox(dir, options);
  outbox.append(records(100));
  const db = new Database(join(dir, 'outbox.db'));
  db.prepare('UPDATE records SET body = ? WHERE seq = ?').run('{"changed": true}', FIRST + 4);
  db.close();
  let isFull = true;
  decideWrites(() => (isFull ? FULL : 'well'));
  outbox.append(records(1));
  expect(outbox.whereabouts().cause).toBe('full');
  const read = () => outbox.read('all', 50).map(({ seq }) => seq - FIRST);
  for (let i = 0; i < 3; i += 1) expect(read()).toEqual([...Array(51).keys()].filter((n) => n !== 4));
  expect(outbox.ledger()).toMatchObject({ pending: 101, dropped: {} });
  isFull = false;
  clock.monotonic += 60_000;
  outbox.maintain();
  read();
  expect(outbox.ledger()).toMatchObject({ pending: 100, dropped: { corrupt: 1 } });
  expectBalanced(outbox);
});

describe('records refused from memory while the disk takes nothing', () => {
  const refused = (n: number, bytes: number, memoryBytes: number) => {
    const dir = tempDir();
    const { options, clock, disk } = underTest(dir);
    disk.mounted = false;
    const outbox = openOutbox(dir, { ...options, memoryBytes });
    for (let i = 0; i < n; i += 1) {
      const first = outbox.append(records(1, bytes));
      outbox.settle({ acked: [], rejected: [{ seq: first, reason: 'no' }] });
    }
    disk.mounted = true;
    clock.monotonic += 60_000;
    outbox.maintain();
    expect(outbox.whereabouts()).toEqual({ where: 'disk', cause: undefined });
    expect(outbox.ledger()).toMatchObject({ pending: 0, rejected: { no: n } });
    const db = new Database(join(dir, 'outbox.db'), { readonly: true });
    const letters = db.prepare<[], { seq: number; reason: string }>('SELECT seq, reason FROM dead_letters ORDER BY seq').all();
    db.close();
    return letters;
  };

  it('are dead letters when it does', () => {
    expect(refused(3, 10, 2 ** 20)).toEqual([0, 1, 2].map((i) => ({ seq: FIRST + i, reason: 'no' })));
  });

  it('the latest of them, as many as a quarter of the memory takes', () => {
    const letters = refused(100, 1000, 100_000);
    expect(letters.length).toBeGreaterThan(15);
    expect(letters.length).toBeLessThan(25);
    expect(letters.at(-1)?.seq).toBe(FIRST + 99);
    expect(refused(1200, 10, 2 ** 20).length).toBe(1000);
  });
});
