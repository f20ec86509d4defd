import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { IN_DOUBT, planWrites, underTest } from '../../test/failing-disk.ts';
import { copyFiles, expectBalanced, FIRST, openOutbox, records, sum } from '../../test/outbox.ts';
import { tempDir } from '../../test/tempdir.ts';
import type { Outbox } from '../outbox.ts';
import { add, copyOf, newAccount, VERSIONS_AHEAD, withoutLongestReason } from './account.ts';
import { OutboxDb } from './database.ts';

/** Refuses the oldest, each for a reason of its own. */
function refuse(outbox: Outbox, reasons: readonly string[]): void {
  const seqs = outbox.read('all', reasons.length).map(({ seq }) => seq);
  outbox.settle({ acked: [], rejected: seqs.map((seq, i) => ({ seq, reason: reasons[i] ?? '' })) });
}

/** Longer in a mark than anywhere else: a control character takes six bytes there. */
const LONG = Array.from({ length: 12 }, (_, i) => `${String.fromCharCode(65 + i)}${'\u0001'.repeat(40)}`);

describe('reasons', () => {
  it('that are many and long: a mark is written all the same, and the ledger balances after the file is gone', () => {
    const dir = tempDir();
    const { options } = underTest(dir);
    const outbox = openOutbox(dir, options);
    outbox.append(records(40));
    refuse(outbox, LONG);
    // More than were reserved before.
    outbox.append(records(300));
    const before = outbox.ledger();
    const copy = copyFiles(dir, tempDir());
    outbox.close();
    rmSync(join(copy, 'outbox.db'));
    rmSync(join(copy, 'outbox.db-wal'), { force: true });
    const again = openOutbox(copy);
    expectBalanced(again);
    expect(again.ledger().last).toBeGreaterThanOrEqual(before.last);
    expect(sum(again.ledger().rejected)).toBe(12);
    expect(again.ledger().dropped.corrupt).toBeGreaterThanOrEqual(before.pending);
    again.close();
  });

  it('that a mark has under `other` are so in the file as well, which balances', () => {
    const dir = tempDir();
    const { options, clock } = underTest(dir);
    const outbox = openOutbox(dir, options);
    outbox.append(records(40));
    refuse(outbox, LONG);
    // A mark newer than the file, and a kill.
    clock.monotonic += 120_000;
    outbox.maintain();
    const copy = copyFiles(dir, tempDir());
    outbox.close();
    for (let i = 0; i < 2; i += 1) {
      const again = openOutbox(copy);
      expectBalanced(again);
      expect(again.stats().repairs).toBe(0);
      expect(sum(again.ledger().rejected)).toBe(12);
      expect(again.ledger().rejected.other).toBeGreaterThan(0);
      again.close();
    }
  });

  it('cut in the middle of a character are the same in memory and in the file', () => {
    const dir = tempDir();
    const { options, clock, told } = underTest(dir);
    const outbox = openOutbox(dir, options);
    outbox.append(records(10));
    refuse(outbox, [`${'r'.repeat(31)}😀`]);
    planWrites(IN_DOUBT);
    outbox.append(records(1));
    clock.monotonic += 60_000;
    outbox.maintain();
    expect(outbox.stats().repairs, told.text()).toBe(0);
    outbox.close();
    const again = openOutbox(dir, options);
    expect(again.ledger().rejected).toEqual(outbox.ledger().rejected);
    again.close();
  });

  it('of another program, beyond those that are kept, are `other` in memory and in the file', () => {
    const dir = tempDir();
    const { options } = underTest(dir);
    const outbox = openOutbox(dir, options);
    outbox.append(records(30));
    const names = Array.from({ length: 12 }, (_, i) => `reason ${i}`);
    const other = new OutboxDb(options.file, 2 ** 30);
    const dropOne = (reason: string, seq: number) =>
      other.db
        .transaction(() => {
          other.load();
          if (other.persisted === undefined) throw new Error('no account');
          const account = copyOf(other.persisted);
          account.dropped[reason] = (account.dropped[reason] ?? 0) + other.remove(seq, seq);
          account.version += VERSIONS_AHEAD;
          other.save(account, 0, other.ownTime());
        })
        .immediate();
    names.forEach((name, i) => {
      dropOne(name, FIRST + i);
    });
    outbox.append(records(1));
    dropOne('one more', FIRST + 20);
    outbox.append(records(1));
    expectBalanced(outbox);
    expect(outbox.ledger().dropped).toEqual({ ...Object.fromEntries(names.map((name) => [name, 1])), other: 1 });
    other.db.transaction(() => other.load())();
    expect(other.persisted?.dropped).toEqual(outbox.ledger().dropped);
    other.close();
    outbox.close();
    const again = openOutbox(dir, options);
    expect([again.stats().repairs, again.ledger()]).toEqual([0, outbox.ledger()]);
  });
});

it('the longest reason goes first, until none is left but `other`', () => {
  const account = newAccount(1);
  add(account.dropped, 'long enough', 2);
  add(account.rejected, 'longest of all', 3);
  add(account.rejected, 'no', 1);
  const first = withoutLongestReason(account);
  expect([first?.dropped, first?.rejected]).toEqual([{ 'long enough': 2 }, { no: 1, other: 3 }]);
  const last = first && withoutLongestReason(withoutLongestReason(first) ?? first);
  expect([last?.dropped, last?.rejected]).toEqual([{ other: 2 }, { other: 4 }]);
  expect(last && withoutLongestReason(last)).toBeUndefined();
  expect(account.rejected).toEqual({ 'longest of all': 3, no: 1 });
});
