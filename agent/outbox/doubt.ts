/**
 * What the file says by the last commit, and what a commit that failed may have done to it all the same: a disk that says it has not written
 * may have. The version of the account that the file has tells which, when it is opened again.
 */
import { type Account, add, addDifference, copyOf, VERSIONS_AHEAD, withoutRejected } from './account.ts';
import type { OutboxDb } from './database.ts';
import { Ranges } from './ranges.ts';

/** Confirmed while the disk took nothing, and counted already: to be deleted there. */
export interface Gone {
  seqs: Ranges;
  rejected: Array<{ seq: number; reason: string }>;
}

interface Failed {
  before: Account;
  after: Account;
  /** It deleted what is gone, which is counted already. */
  isSpill: boolean;
}

export class Doubt {
  /** The account as the file had it last. */
  private filed: Account | undefined;
  private failed: Failed | undefined;
  /** The account of this life when it was to be added to the file's, as long as nothing tells whether it was. */
  private joining: Account | undefined;

  /** The file has this account. */
  settled(filed: Account | undefined): void {
    this.filed = filed;
    this.failed = this.joining = undefined;
  }

  /** A commit from one account to another failed. */
  commitFailed(before: Account, after: Account, isSpill = false): void {
    this.failed = { before: copyOf(before), after, isSpill };
  }

  /** What this life has done is about to be added to the file's account. */
  willJoin(own: Account): void {
    this.settled(undefined);
    this.joining = copyOf(own);
  }

  /** Whether that failed when it was to be committed. */
  get mayHaveJoined(): boolean {
    return this.joining !== undefined && this.failed !== undefined;
  }

  /** The account that goes on from the file's where this life was added to it although that failed; else undefined. */
  joined(account: Account, persisted: Account): Account | undefined {
    if (this.joining === undefined || this.madeBy(persisted) === undefined) return undefined;
    const whole = copyOf(persisted);
    addDifference(whole, this.joining, account);
    return whole;
  }

  /**
   * Brings account and file together again, in the same life; until this is written down it may be asked any number of times.
   * @param persisted what the file says
   * @returns the whole account; what is left of `gone`; the account without that, which is the file's; whether another program was there
   */
  resolve(before: Account, gone: Gone, db: OutboxDb, persisted: Account) {
    const account = copyOf(before);
    const made = this.madeBy(persisted);
    if (made !== undefined) {
      const { last, produced } = account;
      addDifference(account, made.before, made.after);
      // What it added is in memory as well, under the same numbers: that copy holds.
      Object.assign(account, { last, produced });
    }
    const known = made?.after ?? this.filed;
    const isForeign = known !== undefined && known.version !== persisted.version;
    if (isForeign) addDifference(account, known, persisted);
    const left = made === undefined && !isForeign ? gone : stillThere(gone, db);
    // What is not there any more was counted by what took it out as well: a settlement in doubt, or another program.
    if (made?.isSpill !== true) {
      for (const { seq, reason } of gone.rejected) if (!left.seqs.has(seq)) add(account.rejected, reason, -1);
      account.delivered -= gone.seqs.size - gone.rejected.length - (left.seqs.size - left.rejected.length);
    }
    account.version = Math.max(account.version, persisted.version) + 1;
    const delivered = account.delivered - left.seqs.size + left.rejected.length;
    const inFile = { ...copyOf(account), delivered, rejected: withoutRejected(account.rejected, left.rejected) };
    this.filed = persisted;
    // Where writing this fails, it may have been made all the same: then nothing has changed but the version.
    this.commitFailed(inFile, inFile);
    return { account, gone: left, inFile, isForeign };
  }

  /** The commit that failed, where it was made. Another program goes on from whatever it finds, by whole steps. */
  private madeBy({ version }: Account): Failed | undefined {
    const ahead = this.failed === undefined ? -1 : version - this.failed.after.version;
    return ahead >= 0 && ahead % VERSIONS_AHEAD === 0 ? this.failed : undefined;
  }
}

function stillThere(gone: Gone, db: OutboxDb): Gone {
  const seqs = new Ranges();
  for (const { first, last } of gone.seqs.all()) for (const seq of db.numbers(first, last)) seqs.add(seq);
  return { seqs, rejected: gone.rejected.filter(({ seq }) => seqs.has(seq)) };
}
