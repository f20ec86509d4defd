/** The books of both sides compared: what the agent's file says, what the aggregator holds, and what was announced as lost. */
import Database from 'better-sqlite3';
import { size, subtract } from '../../../aggregator/ledger.ts';
import type { SeqRange } from '../../../common/dedupe.ts';

export interface Gap extends SeqRange {
  count: number;
  reason: string;
}

type Counts = { [reason: string]: number };

/** The agent's account as its file has it, and what waits in it. */
export interface Books {
  first: number;
  last: number;
  produced: number;
  delivered: number;
  pending: number;
  dropped: Counts;
  rejected: Counts;
  waits: number[];
  /** Gaps that were not told yet. */
  gaps: Gap[];
}

/** Reads the file, whether or not the agent runs. */
export function readBooks(file: string): Books {
  const db = new Database(file, { readonly: true });
  try {
    // One transaction: all of it is of one moment.
    return db.transaction(() => {
      const meta = new Map(
        db
          .prepare<[], { name: string; value: number }>('SELECT name, value FROM meta')
          .all()
          .map(({ name, value }) => [name, value]),
      );
      const books: Books = {
        first: meta.get('first_seq') ?? 0,
        last: meta.get('last_seq') ?? -1,
        produced: 0,
        delivered: 0,
        pending: meta.get('pending') ?? 0,
        dropped: {},
        rejected: {},
        waits: db
          .prepare<[], { seq: number }>('SELECT seq FROM records ORDER BY seq')
          .all()
          .map(({ seq }) => seq),
        gaps: gapsIn(db.prepare<[], { body: string }>('SELECT body FROM notices').all()),
      };
      for (const { what, reason, n } of db
        .prepare<[], { what: string; reason: string; n: number }>('SELECT what, reason, n FROM counts')
        .all()) {
        if (what === 'produced' || what === 'delivered') books[what] = n;
        else if (what === 'dropped' || what === 'rejected') books[what][reason] = n;
      }
      return books;
    })();
  } finally {
    db.close();
  }
}

function gapsIn(notices: ReadonlyArray<{ body: string }>): Gap[] {
  return notices
    .map(({ body }) => JSON.parse(body) as { type: string; from: number; to: number; count: number; reason: string })
    .filter(({ type }) => type === 'gap')
    .map(({ from, to, count, reason }) => ({ first: from, last: to, count, reason }));
}

export const sum = (counts: Counts): number => Object.values(counts).reduce((a, b) => a + b, 0);

/** What does not agree between the two sides; nothing but zeros and empty lists where all does. */
export interface Comparison {
  /** produced − (delivered + pending + dropped + rejected). */
  unbalanced: number;
  /** Rows that wait − what the account says waits. */
  miscounted: number;
  /** Numbers that the aggregator has more than once. */
  twice: number[];
  /** Numbers that neither arrived, nor wait, nor lie in a gap that was announced. */
  silent: SeqRange[];
  /** Numbers missing within gaps beyond what the gaps own up to. */
  understated: number;
  /** Numbers given out that did not arrive and do not wait; passed over ones are not among them. */
  missing: number;
}

/**
 * @param arrived the aggregator's numbers, in order
 * @param announced the gaps that the aggregator was told of
 */
export function compare(books: Books, arrived: readonly number[], announced: readonly Gap[]): Comparison {
  const twice = arrived.filter((seq, i) => i > 0 && seq === arrived[i - 1]);
  const have = [...new Set([...arrived, ...books.waits])].sort((a, b) => a - b);
  const gaps = [...announced, ...books.gaps];
  const absent = subtract([{ first: books.first, last: books.last }], rangesOf(have));
  const real = gaps.filter(({ reason }) => reason !== 'unused');
  // A number passed over was never a record.
  const lost = subtract(
    absent,
    gaps.filter(({ reason }) => reason === 'unused'),
  );
  const silent = subtract(lost, real);
  const named = real.reduce((all, { count }) => all + count, 0);
  const rejected = sum(books.rejected);
  return {
    unbalanced: books.produced - books.delivered - books.pending - sum(books.dropped) - rejected,
    miscounted: books.waits.length - books.pending,
    twice,
    silent,
    understated: Math.max(0, size(lost) - size(silent) - named),
    missing: size(lost),
  };
}

function rangesOf(numbers: readonly number[]): SeqRange[] {
  const ranges: SeqRange[] = [];
  for (const n of numbers) {
    const range = ranges.at(-1);
    if (range !== undefined && n === range.last + 1) range.last = n;
    else ranges.push({ first: n, last: n });
  }
  return ranges;
}
