import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type AgentSeqs, SeqSets } from '../common/dedupe.ts';
import { openDb } from '../common/sqlite.ts';
import { tempDir } from '../test/tempdir.ts';
import { accounts, size, subtract } from './ledger.ts';
import { type AgentLedger, Notices, parseNotice } from './notices.ts';

const ledgerWith = (settings: Partial<AgentLedger>): AgentLedger => ({
  agent: 'a1',
  boot: 'b1',
  first: 1001,
  last: 1010,
  produced: 10,
  delivered: 10,
  pending: 0,
  dropped: {},
  rejected: {},
  at: 1,
  ...settings,
});

/** What the aggregator's own bookkeeping says once these numbers have arrived. */
function seenOf(numbers: number[]): AgentSeqs[] {
  const db = openDb(join(tempDir(), 'seen.db'));
  onTestFinished(() => void db.close());
  const seen = new SeqSets(db);
  for (const n of numbers) seen.add('a1', n);
  return seen.agents();
}

const from = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i);
const gap = (first: number, last: number, count = last - first + 1) => ({ agent: 'a1', first, last, count, reason: 'age', at: 1 });

describe('accounts', () => {
  it('is complete when all that was delivered is here, wherever the numbers begin', () => {
    expect(accounts(seenOf(from(1001, 1010)), [ledgerWith({})], [])).toMatchObject([
      { state: 'complete', difference: 0, missing: [], unexplained: [] },
    ]);
  });

  it('does not count what came after the ledger, nor what has not come after it', () => {
    const seen = seenOf([...from(1001, 1010), 1011, 1015]);
    expect(accounts(seen, [ledgerWith({})], [])).toMatchObject([{ state: 'complete', difference: 0, missing: [] }]);
  });

  it('tells what was delivered and is not here', () => {
    const seen = seenOf([...from(1001, 1003), ...from(1006, 1009)]);
    expect(accounts(seen, [ledgerWith({})], [])).toMatchObject([
      {
        state: 'missing',
        difference: 3,
        unexplained: [
          { first: 1004, last: 1005 },
          { first: 1010, last: 1010 },
        ],
      },
    ]);
  });

  it('is not mistaken about lost records because others that were pending came meanwhile', () => {
    // 1001 to 1008 delivered, two pending; then 1009 to 1020 arrived, but 1004 never did.
    const seen = seenOf([...from(1001, 1003), ...from(1005, 1020)]);
    expect(accounts(seen, [ledgerWith({ delivered: 10, pending: 0 })], [])).toMatchObject([
      { difference: 1, unexplained: [{ first: 1004, last: 1004 }] },
    ]);
  });

  it('misses nothing while records wait at the agent', () => {
    const [only] = accounts(seenOf(from(1001, 1004)), [ledgerWith({ delivered: 4, pending: 6 })], []);
    expect(only).toMatchObject({ state: 'complete', difference: 0 });
    expect(only?.unexplained).toEqual([{ first: 1005, last: 1010 }]);
  });

  it('explains by gap notices what the agent dropped', () => {
    const seen = seenOf([1001, 1002, ...from(1007, 1010)]);
    const [only] = accounts(seen, [ledgerWith({ delivered: 6, dropped: { age: 4 } })], [gap(1003, 1004), gap(1005, 1006)]);
    expect(only).toMatchObject({ state: 'complete', difference: 0, missing: [{ first: 1003, last: 1006 }], unexplained: [] });
  });

  it('misses no number that the agent passed over without using it', () => {
    const passedOver = { ...gap(1004, 1007, 0), reason: 'unused' };
    expect(
      accounts(seenOf([...from(1001, 1003), ...from(1008, 1010)]), [ledgerWith({ produced: 6, delivered: 6 })], [passedOver]),
    ).toMatchObject([{ state: 'complete', difference: 0, missing: [], unexplained: [] }]);
  });

  it('is unknown without a ledger, and takes the first arrival for the first record', () => {
    expect(accounts(seenOf([1001, 1003]), [], [])).toMatchObject([
      { state: 'unknown', difference: undefined, missing: [{ first: 1002, last: 1002 }] },
    ]);
  });

  it('leaves out the numbers of an earlier disk of the agent', () => {
    const seen = seenOf([5, 6, 9, ...from(1001, 1010)]);
    expect(accounts(seen, [ledgerWith({})], [])).toMatchObject([{ state: 'complete', missing: [] }]);
  });

  it('misses the first records of an agent when only later ones came', () => {
    expect(accounts(seenOf(from(1003, 1010)), [ledgerWith({})], [])).toMatchObject([
      { difference: 2, unexplained: [{ first: 1001, last: 1002 }] },
    ]);
  });

  it('misses everything of an agent whose records never came', () => {
    expect(accounts([], [ledgerWith({})], [])).toMatchObject([{ difference: 10, unexplained: [{ first: 1001, last: 1010 }] }]);
    expect(accounts(seenOf([3]), [ledgerWith({})], [])).toMatchObject([{ difference: 10, unexplained: [{ first: 1001, last: 1010 }] }]);
  });

  it('counts exactly what is lost, for any history', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('arrived', 'lost', 'pending', 'dropped', 'rejected'), { minLength: 1, maxLength: 40 }),
        (fates) => {
          const of = (fate: string) => fates.flatMap((f, i) => (f === fate ? [1001 + i] : []));
          const ledger = ledgerWith({
            last: 1000 + fates.length,
            produced: fates.length,
            delivered: of('arrived').length + of('lost').length,
            pending: of('pending').length,
            dropped: { age: of('dropped').length },
            rejected: { junk: of('rejected').length },
          });
          const seen = naiveSeen(of('arrived'));
          const [only] = accounts(
            seen,
            [ledger],
            of('dropped').map((n) => gap(n, n)),
          );
          expect(only?.difference).toBe(of('lost').length);
          expect(size(only?.unexplained ?? [])).toBe(of('lost').length + of('pending').length + of('rejected').length);
        },
      ),
    );
  });
});

function naiveSeen(numbers: number[]): AgentSeqs[] {
  const [lowest] = numbers;
  const highest = numbers.at(-1);
  if (lowest === undefined || highest === undefined) return [];
  const missing = from(lowest, highest)
    .filter((n) => !numbers.includes(n))
    .map((n) => ({ first: n, last: n }));
  return [{ agent: 'a1', lowest, highest, received: numbers.length, duplicates: 0, missing }];
}

it('subtracts ranges from ranges', () => {
  const range = (first: number, last: number) => ({ first, last });
  expect(subtract([range(1, 10)], [range(3, 4), range(1, 1), range(10, 12)])).toEqual([range(2, 2), range(5, 9)]);
  expect(subtract([range(1, 3), range(7, 9)], [range(2, 8)])).toEqual([range(1, 1), range(9, 9)]);
  expect(subtract([range(1, 3)], [range(1, 3), range(1, 3)])).toEqual([]);
  expect(subtract([range(1, 3)], [range(1, 9), range(2, 2)])).toEqual([]);
});

describe('notices', () => {
  function open(): Notices {
    const db = openDb(join(tempDir(), 'store.db'));
    onTestFinished(() => void db.close());
    return new Notices(db);
  }
  const ledger = (fields: object) => parseNotice(JSON.stringify({ type: 'ledger', ...ledgerWith({}), ...fields }));
  const gapNotice = (first: number, last: number, reason = 'age') =>
    parseNotice(JSON.stringify({ type: 'gap', agent: 'a1', from: first, to: last, count: last - first + 1, reason, at: last }));

  it('keeps the last ledger of each agent', () => {
    const notices = open();
    notices.take(ledger({ produced: 5, delivered: 5, last: 1005 }));
    notices.take(ledger({ produced: 9, delivered: 7, last: 1009, pending: 2 }));
    notices.take(ledger({ agent: 'a0' }));
    expect(notices.ledgers()).toMatchObject([{ agent: 'a0' }, { agent: 'a1', produced: 9, pending: 2 }]);
  });

  it('keeps the newer one when an older one is sent again, whatever the agent’s clock says', () => {
    const notices = open();
    const old = ledger({ produced: 5, delivered: 5, at: 9000 });
    notices.take(old);
    notices.take(ledger({ produced: 9, delivered: 7, at: 1000 }));
    notices.take(old);
    expect(notices.ledgers()).toMatchObject([{ produced: 9, at: 1000 }]);
    notices.take(ledger({ boot: 'b2', produced: 1, delivered: 0, at: 1 }));
    expect(notices.ledgers()).toMatchObject([{ boot: 'b2', produced: 1 }]);
  });

  it('reads the ledger of an agent that does not tell its numbers', () => {
    expect(ledger({ first: undefined, last: undefined, produced: 10 })).toMatchObject({ first: 1, last: 10 });
  });

  it('counts a range that is thinned out again, and each notice of it once', () => {
    const notices = open();
    const thinned = (first: number, last: number, count: number, at: number) =>
      parseNotice(JSON.stringify({ type: 'gap', agent: 'a1', from: first, to: last, count, reason: 'thinned', at }));
    // As agent/outbox/bounds.ts tells them: the first sweep over 1 to 100, one over what that left, and one that begins and ends there.
    const sweeps = [thinned(2, 100, 50, 1000), thinned(3, 99, 25, 2000), thinned(3, 99, 12, 3000), thinned(101, 200, 50, 4000)];
    for (const notice of [...sweeps, ...sweeps]) notices.take(notice);
    expect(notices.gaps().map(({ first, last, count }) => [first, last, count])).toEqual([
      [2, 100, 50],
      [3, 99, 37],
      [101, 200, 50],
    ]);
    // All of a range is another thing than some of it.
    notices.take(gapNotice(10, 20, 'thinned'));
    expect(notices.gaps()).toHaveLength(4);
  });

  it('joins neighbouring gaps of one reason and keeps each once', () => {
    const notices = open();
    for (const notice of [
      gapNotice(1, 10),
      gapNotice(11, 20),
      gapNotice(1, 10),
      gapNotice(11, 20),
      gapNotice(21, 25, 'buffer_full'),
      gapNotice(30, 31),
    ])
      notices.take(notice);
    expect(notices.gaps().map(({ first, last, count, reason }) => [first, last, count, reason])).toEqual([
      [1, 20, 20, 'age'],
      [21, 25, 5, 'buffer_full'],
      [30, 31, 2, 'age'],
    ]);
  });
});
