import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { FULL, LOCKED, type Outcome, planWrites, underTest } from '../../test/failing-disk.ts';
import { expectBalanced, gapsOf, openOutbox, records } from '../../test/outbox.ts';
import { tempDir } from '../../test/tempdir.ts';
import type { Outbox } from '../outbox.ts';

/** More than 600 kB take, so that there is something to tell. */
function overfill(outbox: Outbox): void {
  for (let i = 0; i < 100; i += 1) outbox.append(records(10, 1000));
}

const confirm = (outbox: Outbox, seqs: readonly number[]) => outbox.settle({ acked: [...seqs], rejected: [] });
const numbersOf = (outbox: Outbox) => outbox.notices(100).map(({ seq }) => seq);

describe('notices', () => {
  it.each<[string, Outcome]>([
    ['full', FULL],
    ['locked', LOCKED],
    ['read_only', { code: 'SQLITE_READONLY' }],
  ])('confirmed while the disk is %s are not given out again, and are deleted when it takes that', (cause, outcome) => {
    const dir = tempDir();
    const { options, clock } = underTest(dir);
    const outbox = openOutbox(dir, { ...options, maxBytes: 600_000 });
    overfill(outbox);
    planWrites(outcome);
    outbox.append(records(1));
    expect(outbox.whereabouts().cause).toBe(cause);
    const given = numbersOf(outbox);
    expect(given.length).toBeGreaterThan(0);
    confirm(outbox, given);
    expect(numbersOf(outbox)).toEqual([]);
    clock.monotonic += 60_000;
    outbox.maintain();
    expect(outbox.whereabouts().cause).toBeUndefined();
    expect(numbersOf(outbox)).toEqual([]);
    outbox.close();
    expect(numbersOf(openOutbox(dir, options))).toEqual([]);
  });

  it('in memory are bounded, also where every second record goes and an uplink that fails takes them again and again', () => {
    const dir = tempDir();
    const { options, disk } = underTest(dir);
    disk.mounted = false;
    const outbox = openOutbox(dir, { ...options, policy: 'thin-out', memoryBytes: 100_000 });
    for (let i = 0; i < 10_000; i += 1) {
      outbox.append(records(1, 500));
      if (i % 20 === 0) outbox.notices(500);
    }
    const gaps = gapsOf(outbox);
    const { dropped, first, last } = outbox.ledger();
    expect(gaps.length).toBeLessThan(300);
    expect(gaps.reduce((all, { count }) => all + count, 0)).toBe(dropped.memory_full);
    for (const { from, to, count } of gaps) {
      expect([from >= first, to <= last]).toEqual([true, true]);
      expect(count).toBeLessThanOrEqual(to - from + 1);
    }
  });

  it('in memory go over to the disk also where no record does', () => {
    const dir = tempDir();
    const { options, clock } = underTest(dir);
    const outbox = openOutbox(dir, { ...options, maxBytes: 600_000 });
    overfill(outbox);
    const given = numbersOf(outbox);
    planWrites(FULL);
    confirm(outbox, given);
    clock.monotonic += 60_000;
    outbox.maintain();
    const db = new Database(join(dir, 'outbox.db'), { readonly: true });
    expect(db.prepare('SELECT count(*) AS n FROM notices').get()).toEqual({ n: 0 });
    db.close();
  });

  it('of a repair are not taken for those that were on their way before it', () => {
    const dir = tempDir();
    const { options } = underTest(dir);
    const outbox = openOutbox(dir, { ...options, maxBytes: 600_000 });
    overfill(outbox);
    confirm(outbox, numbersOf(outbox));
    overfill(outbox);
    const inFlight = numbersOf(outbox);
    const db = new Database(join(dir, 'outbox.db'));
    db.exec(`DELETE FROM records WHERE seq >= ${outbox.ledger().last - 10}`);
    db.exec("UPDATE meta SET value = value - 11 WHERE name = 'pending'");
    db.close();
    outbox.append(records(1));
    expect(outbox.stats().repairs).toBe(1);
    confirm(outbox, inFlight);
    expect(gapsOf(outbox)).toContainEqual(expect.objectContaining({ reason: 'corrupt', count: 11 }));
    expectBalanced(outbox);
  });

  it('with a number that cannot be right are damage, which a repair heals for good', () => {
    const dir = tempDir();
    const { options, told } = underTest(dir);
    const outbox = openOutbox(dir, { ...options, maxBytes: 600_000 });
    overfill(outbox);
    const db = new Database(join(dir, 'outbox.db'));
    db.exec(`INSERT INTO notices (id, body) VALUES (${2 ** 40 - 1}, '{}')`);
    db.close();
    outbox.settle({ acked: numbersOf(outbox).slice(0, 1), rejected: [] });
    for (let i = 0; i < 3; i += 1) overfill(outbox);
    expect(outbox.whereabouts(), told.text()).toEqual({ where: 'disk', cause: undefined });
    expect(outbox.stats().repairs, told.text()).toBe(1);
    expectBalanced(outbox);
  });
});
