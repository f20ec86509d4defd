/**
 * The account of an agent's records: produced = delivered + pending + dropped (by reason) + rejected (by reason), at every moment.
 *
 * Every number from `first` to `last` was given out once, or skipped on purpose, so `produced` follows from the numbers; and what was
 * produced and is neither delivered, dropped nor rejected waits. A file whose account breaks one of the two identities is damaged.
 */

export type Reasons = { [reason: string]: number };

/** What is written down of the account. A later one has a higher `version`, wherever it is written. */
export interface Account {
  version: number;
  /** The first sequence number, and the last one given out; `first - 1` when none was. */
  first: number;
  last: number;
  /** Every number up to here is in the database, or settled: what is lost with the memory is above it. */
  floor: number;
  /** Numbers that were passed over and never given out. */
  skipped: number;
  produced: number;
  delivered: number;
  dropped: Reasons;
  rejected: Reasons;
}

/** produced = delivered + pending + all of dropped + all of rejected, at every moment. */
export interface Ledger {
  /** The first sequence number of this file. */
  first: number;
  /** The last one given out; `first - 1` when none was. */
  last: number;
  produced: number;
  delivered: number;
  pending: number;
  dropped: Reasons;
  rejected: Reasons;
}

/** What another program adds to the version: above that of any mark that an agent may have written beside the file since its last commit. */
export const VERSIONS_AHEAD = 1000;

/** Why records were dropped. */
export type DropReason = 'buffer_full' | 'age' | 'thinned' | 'memory_full' | 'corrupt' | 'lost_in_memory' | 'power_cut';

/** The reasons of a receiving side may be many; what comes after so many different ones is counted under `other`. */
const REASONS_KEPT = 12;
const REASON_LENGTH = 32;

export function newAccount(first: number): Account {
  return { version: 0, first, last: first - 1, floor: first - 1, skipped: 0, produced: 0, delivered: 0, dropped: {}, rejected: {} };
}

export function copyOf(account: Account): Account {
  return { ...account, dropped: { ...account.dropped }, rejected: { ...account.rejected } };
}

export function total(reasons: Reasons): number {
  let sum = 0;
  for (const reason in reasons) sum += reasons[reason] ?? 0;
  return sum;
}

/** Records that wait, by the account. */
export function waiting(account: Account): number {
  return account.produced - account.delivered - total(account.dropped) - total(account.rejected);
}

export function add(reasons: Reasons, reason: string, n: number): void {
  if (n === 0) return;
  // Half a character would be another one in the file.
  const short = reason.slice(0, REASON_LENGTH).toWellFormed();
  const key = short in reasons || Object.keys(reasons).length < REASONS_KEPT ? short : 'other';
  reasons[key] = (reasons[key] ?? 0) + n;
}

/** Adds to an account what happened between two states of another. */
export function addDifference(account: Account, before: Account, after: Account): void {
  account.first += after.first - before.first;
  account.last += after.last - before.last;
  account.skipped += after.skipped - before.skipped;
  account.produced += after.produced - before.produced;
  account.delivered += after.delivered - before.delivered;
  for (const what of ['dropped', 'rejected'] as const) {
    for (const reason in after[what]) add(account[what], reason, (after[what][reason] ?? 0) - (before[what][reason] ?? 0));
  }
}

/** The same account with the longest of its reasons counted under `other`; undefined where it has no other. */
export function withoutLongestReason(account: Account): Account | undefined {
  const shorter = copyOf(account);
  let longest: { reasons: Reasons; reason: string; bytes: number } | undefined;
  for (const reasons of [shorter.dropped, shorter.rejected]) {
    for (const reason in reasons) {
      const bytes = Buffer.byteLength(JSON.stringify(reason));
      if (reason !== 'other' && bytes > (longest?.bytes ?? 0)) longest = { reasons, reason, bytes };
    }
  }
  if (longest === undefined) return undefined;
  const { reasons, reason } = longest;
  reasons.other = (reasons.other ?? 0) + (reasons[reason] ?? 0);
  delete reasons[reason];
  return shorter;
}

/** The reasons without those that are counted later. */
export function withoutRejected(rejected: Account['rejected'], later: ReadonlyArray<{ reason: string }>): Account['rejected'] {
  const less = { ...rejected };
  for (const { reason } of later) add(less, reason, -1);
  return less;
}

/** Whether an account read from somewhere can be one. */
export function isSound(account: Account): boolean {
  const numbers = [account.version, account.first, account.last, account.floor, account.skipped, account.produced, account.delivered];
  const counts = [...Object.values(account.dropped), ...Object.values(account.rejected)];
  return (
    [...numbers, ...counts].every((n) => Number.isSafeInteger(n) && n >= 0) &&
    account.produced === account.last - account.first + 1 - account.skipped &&
    account.floor <= account.last &&
    waiting(account) >= 0
  );
}

/** Gives out the numbers up to `last` without a record: they may have been used by a life of the agent that left no other trace. */
export function extendTo(account: Account, last: number): number {
  const more = Math.max(0, last - account.last);
  account.last += more;
  account.produced += more;
  return more;
}

/** Numbers as runs of neighbours, in order. */
export function runs(numbers: readonly number[]): Array<{ first: number; last: number }> {
  const found: Array<{ first: number; last: number }> = [];
  const sorted = isSorted(numbers) ? numbers : [...numbers].sort((a, b) => a - b);
  for (const n of sorted) {
    const run = found.at(-1);
    if (run !== undefined && n === run.last + 1) run.last = n;
    else if (run === undefined || n !== run.last) found.push({ first: n, last: n });
  }
  return found;
}

function isSorted(numbers: readonly number[]): boolean {
  for (let i = 1; i < numbers.length; i += 1) if ((numbers[i] ?? 0) < (numbers[i - 1] ?? 0)) return false;
  return true;
}
