/**
 * How an outbox begins: the file and the mark beside it are brought together, whatever ended the agent the last time.
 *
 * The newer of the two accounts holds. What by it should wait and is not there was lost, and is named; what waits although it was
 * confirmed (a power cut took the deletion back) is sent again under its number. Where numbers may have been used that left no trace, they
 * are counted as used, up to the mark: at most one block.
 */
import { existsSync, statSync } from 'node:fs';
import { messageOf } from '../../common/errors.ts';
import { type Account, add, copyOf, type DropReason, extendTo, newAccount, waiting } from './account.ts';
import { OutboxDb } from './database.ts';
import { DamageError, kindOf } from './faults.ts';
import type { Mark } from './high-water.ts';
import { accountIn, finishReplacement, type Keep, type Range, replace, type Salvage } from './salvage.ts';
import { logState } from './write-ahead-log.ts';

export interface Gap {
  first: number;
  last: number;
  count: number;
  reason: DropReason | 'unused';
}

export interface StartOptions {
  file: string;
  maxBytes: number;
  keep: Keep;
  mark: Mark | undefined;
  kernelBoot: string;
  nowMs: number;
  /** Set where the file is known to be damaged. */
  damage?: string | undefined;
  /** The notice that tells a gap. */
  gapText: (gap: Gap) => string;
}

export interface Started {
  db: OutboxDb;
  account: Account;
  /** To be told: what is lost, or skipped. */
  gaps: Gap[];
  /** Gaps whose notices are in the file already. */
  told: Gap[];
  /** Set where the file was damaged. */
  repaired: (Salvage & { why: string }) | undefined;
}

/** The first number of a new file: an agent that lost its disk must not use numbers again that were seen under its name. */
export function firstNumber(nowMs: number): number {
  return Math.max(1, Math.floor(nowMs));
}

/** @throws where the disk does not let it */
export function start(options: StartOptions): Started {
  const { file, maxBytes, keep, mark, kernelBoot, nowMs, gapText } = options;
  finishReplacement(file);
  const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  const unclean = mark !== undefined && !mark.clean;
  // The log has to be looked at before SQLite does.
  const log = unclean && mark.opened && size > 0 ? logState(file, mark.boot === kernelBoot) : 'whole';
  let why = options.damage;
  if (why !== undefined) {
    // Opening it would tell nothing new.
  } else if (size === 0 && mark !== undefined) why = existsSync(file) ? 'the file is empty' : 'the file is gone';
  else {
    try {
      const db = new OutboxDb(file, maxBytes);
      if (db.persisted === undefined && mark !== undefined) {
        db.close();
        throw new DamageError('the account is gone');
      }
      const torn = log === 'whole' ? undefined : `its log is ${log === 'none' ? 'gone' : 'torn'}`;
      const { account, gaps } = reconcile({
        ...options,
        stored: db.persisted,
        found: db.pending,
        lowest: 0,
        highest: 0,
        holes: [],
        damaged: torn !== undefined,
      });
      return {
        db,
        account,
        gaps,
        told: [],
        repaired: torn === undefined ? undefined : { why: torn, found: db.pending, lowest: 0, highest: 0, holes: [], aside: undefined },
      };
    } catch (error) {
      if (kindOf(error) !== 'damaged') throw error;
      why = messageOf(error);
    }
  }
  const stored = existsSync(file) ? accountIn(file) : undefined;
  let result: ReturnType<typeof reconcile> | undefined;
  const salvage = replace(file, maxBytes, keep, nowMs, (target, salvage) => {
    result = reconcile({ ...options, ...salvage, stored, damaged: true });
    // In one transaction: an account that owns up to losses is never without the notices of them.
    for (const gap of result.gaps) target.addNotice(gapText(gap));
    // Its time goes on where the newest record that was saved has it: with none of its own, no record would ever be too old.
    target.save({ ...result.account, floor: result.account.last }, 0, { elapsed: target.newestElapsed(), monotonic: 0 });
  });
  if (result === undefined) throw new Error('the new file was made without its account');
  return { db: new OutboxDb(file, maxBytes), account: result.account, gaps: [], told: result.gaps, repaired: { ...salvage, why } };
}

interface Findings extends Omit<StartOptions, 'gapText'>, Omit<Salvage, 'aside'> {
  /** The account that the file has, where it can be read. */
  stored: Account | undefined;
  damaged: boolean;
}

function reconcile({ stored, found, lowest, highest, holes, damaged, mark, kernelBoot, nowMs }: Findings): {
  account: Account;
  gaps: Gap[];
} {
  const known = mark !== undefined && (stored === undefined || mark.account.version > stored.version) ? mark.account : stored;
  const account = known === undefined ? newAccount(highest === 0 ? firstNumber(nowMs) : highest - found + 1) : copyOf(known);
  const floor = Math.min(stored?.floor ?? account.last, mark?.account.floor ?? account.last, account.last);
  const gaps: Gap[] = [];
  const rebooted = mark !== undefined && !mark.clean && mark.boot !== kernelBoot;
  const loose = mark !== undefined && !mark.clean && mark.loose;
  const cutOff = rebooted && mark.durability === 'normal';
  if (mark !== undefined && !mark.clean && (damaged || loose || cutOff)) extendTo(account, mark.reserved);
  extendTo(account, highest);

  const excess = waiting(account) - found;
  if (excess > 0) {
    const reason = damaged ? 'corrupt' : loose ? 'lost_in_memory' : 'power_cut';
    add(account.dropped, reason, excess);
    const ranges = highest === 0 && !damaged ? [{ first: floor + 1, last: account.last }] : around({ lowest, highest, holes }, account);
    gaps.push(...gapsOf(excess, reason, ranges, account));
  } else if (excess < 0) giveBack(account, -excess);

  if (rebooted && !loose && !damaged && mark.durability === 'full') {
    // The disk may have been read-only before the machine went down: what was sent from memory then has left no trace here. Every number
    // so far is below the clock's milliseconds, as no agent makes a thousand records a second for ever.
    const to = Math.max(mark.reserved, firstNumber(nowMs), account.last);
    if (to > account.last) {
      gaps.push({ first: account.last + 1, last: to, count: 0, reason: 'unused' });
      account.skipped += to - account.last;
      account.last = to;
    }
  }
  account.floor = account.last;
  return { account, gaps };
}

/** Records that wait again: they are no longer delivered, dropped or rejected. */
export function giveBack(account: Account, n: number): void {
  let left = n;
  const take = (have: number) => {
    const taken = Math.min(have, left);
    left -= taken;
    return have - taken;
  };
  account.delivered = take(account.delivered);
  for (const reasons of [account.dropped, account.rejected]) for (const reason in reasons) reasons[reason] = take(reasons[reason] ?? 0);
  // More than was ever produced: the account is older than the records.
  account.produced += left;
  account.skipped = account.last - account.first + 1 - account.produced;
}

/** Where the lost ones may be: between those found, above them, below them. The likeliest first. */
export function around({ lowest, highest, holes }: Pick<Salvage, 'lowest' | 'highest' | 'holes'>, account: Account): Range[] {
  if (highest === 0) return [{ first: account.first, last: account.last }];
  return [...holes, { first: highest + 1, last: account.last }, { first: account.first, last: lowest - 1 }];
}

/** Shares `count` out among ranges, within the account's numbers. A range without a count is told as well: what is lost may be there. */
export function gapsOf(count: number, reason: DropReason, ranges: readonly Range[], account: Account): Gap[] {
  let left = count;
  const gaps: Gap[] = [];
  for (const range of ranges) {
    const [first, last] = [Math.max(range.first, account.first), Math.min(range.last, account.last)];
    if (first > last) continue;
    const here = Math.min(left, last - first + 1);
    left -= here;
    gaps.push({ first, last, count: here, reason });
  }
  // More than the ranges hold: nothing tells where they were.
  if (left > 0) gaps.push({ first: account.first, last: account.last, count: left, reason });
  return gaps;
}
