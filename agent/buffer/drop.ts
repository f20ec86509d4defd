/** `buffer drop`: waiting records that nobody wants any more, dropped on purpose: counted, and told as a gap. */
import { setTimeout as sleep } from 'node:timers/promises';
import { NdtError } from '../../common/errors.ts';
import { add, runs } from '../outbox/account.ts';
import { BufferFile, condition, type Range } from './reader.ts';
import { ReturnableNumbers } from './returnable.ts';
import { agentInFile, type Target } from './target.ts';
import { BufferWriter, type Change } from './writer.ts';

/** Records of one transaction. It keeps a running agent waiting, which must not take it for a fault of the disk (a quarter of a second). */
const AT_ONCE = { running: 200, stopped: 2000 };
const PAUSE_MS = 5;
/** Ranges of one transaction that can be brought back; where every other record is gone already, there would be no end of them. */
const MOST_RANGES = 200;
const REASON_LENGTH = 200;

export interface Dropped {
  count: number;
  first: number | undefined;
  last: number | undefined;
}

/** What there is to drop, without doing it. */
export function toDrop({ file: path }: Target, range: Range): Dropped {
  const file = new BufferFile(path);
  try {
    return file.snapshot(() => ({ count: file.count(range), ...file.ends(range) }));
  } finally {
    file.close();
  }
}

/** @throws NdtError USAGE */
export function checkReason(reason: string | undefined): string {
  const text = reason?.trim() ?? '';
  if (text === '') throw new NdtError('USAGE', 'buffer drop: --reason TEXT is missing: it is what the ledger and the gap notice will say');
  if (text.length > REASON_LENGTH || /\p{C}/u.test(text))
    throw new NdtError('USAGE', `buffer drop: --reason: expected one line of at most ${REASON_LENGTH} characters`);
  return text;
}

export async function drop(target: Target, range: Range, reason: string, nowMs: () => number = Date.now): Promise<Dropped> {
  const agent = agentInFile(target);
  const writer = new BufferWriter(target, agent, true);
  const atOnce = writer.running ? AT_ONCE.running : AT_ONCE.stopped;
  const dropped: Dropped = { count: 0, first: undefined, last: undefined };
  try {
    // Records that come in from now on are not meant.
    let bounded: Range | undefined;
    for (;;) {
      const seqs = writer.change((change) => {
        bounded ??= { ...range, toSeq: Math.min(range.toSeq ?? Number.MAX_SAFE_INTEGER, change.account.last) };
        return dropSome(change, bounded, atOnce, { agent, reason, at: Math.max(0, Math.floor(nowMs())) });
      });
      dropped.count += seqs.length;
      dropped.first ??= seqs[0];
      dropped.last = seqs.at(-1) ?? dropped.last;
      if (seqs.length < atOnce) return dropped;
      if (writer.running) await sleep(PAUSE_MS);
    }
  } finally {
    writer.close();
  }
}

function dropSome(
  { db, account }: Change,
  range: Range,
  atOnce: number,
  { agent, reason, at }: { agent: string; reason: string; at: number },
): number[] {
  const { where, values } = condition(range);
  const text = `SELECT seq FROM records ${where} ORDER BY seq LIMIT ${atOnce}`;
  const seqs = db.db
    .prepare<unknown[], { seq: number }>(text)
    .all(...values)
    .map(({ seq }) => seq);
  const [first, last] = [seqs[0], seqs.at(-1)];
  if (first === undefined || last === undefined) return seqs;
  const ranges = runs(seqs);
  for (const run of ranges) db.remove(run.first, run.last);
  const before = { ...account.dropped };
  add(account.dropped, reason, seqs.length);
  // A long reason is counted under a shorter one.
  const counted = Object.keys(account.dropped).find((key) => account.dropped[key] !== (before[key] ?? 0)) ?? reason;
  const few = ranges.length <= MOST_RANGES;
  const gaps = few ? ranges.map((run) => ({ ...run, count: run.last - run.first + 1 })) : [{ first, last, count: seqs.length }];
  for (const gap of gaps) db.addNotice(JSON.stringify({ type: 'gap', agent, from: gap.first, to: gap.last, count: gap.count, reason, at }));
  if (few) {
    const returnable = new ReturnableNumbers(db.db);
    for (const run of ranges) returnable.add({ ...run, reason: counted });
  }
  return seqs;
}
