/**
 * The outbox's part in memory: a bounded ring. It holds what waits for the disk (durability `on-outage`), and what comes in while the disk
 * is full, read-only, failing or slow. Its numbers are above all those in the database.
 */
import type { DeadLetter, Row } from './database.ts';
import { sizeOf } from './database.ts';

export type Policy = 'drop-oldest' | 'drop-newest' | 'thin-out';

/** Beside its texts, what a record takes in memory [bytes], about. */
const OVERHEAD = 160;
const MOST_LETTERS = 1000;
/** Of the memory that records may take. */
const LETTERS_SHARE = 0.25;

export class MemoryRing {
  private readonly rows = new Map<number, Row>();
  private bytesUsed = 0;

  get size(): number {
    return this.rows.size;
  }
  get bytes(): number {
    return this.bytesUsed;
  }
  /** The oldest record. */
  get oldest(): Row | undefined {
    return this.rows.values().next().value;
  }

  /** Whether a record fits beside what is there. */
  fits(row: Row, maxBytes: number): boolean {
    return this.bytesUsed + costOf(row) <= maxBytes;
  }

  /** Adds a record, whose number is above all others. */
  add(row: Row): void {
    this.rows.set(row.seq, row);
    this.bytesUsed += costOf(row);
  }

  remove(seq: number): Row | undefined {
    const row = this.rows.get(seq);
    if (row === undefined) return undefined;
    this.rows.delete(seq);
    this.bytesUsed -= costOf(row);
    return row;
  }

  /** Records of a range in order, at most so many. */
  read(first: number, last: number, limit: number): Row[] {
    const found: Row[] = [];
    for (const row of this.rows.values()) {
      if (row.seq < first) continue;
      if (row.seq > last || found.length >= limit) break;
      found.push(row);
    }
    return found;
  }

  all(): Row[] {
    return [...this.rows.values()];
  }

  /**
   * Makes room for a record by the policy. Returns the numbers that have to go; with `drop-newest` there are none, and the record itself
   * has to go where it does not fit.
   */
  makeRoom(row: Row, maxBytes: number, policy: Policy): number[] {
    const gone: number[] = [];
    // What an empty ring would not hold must not drive out what is there.
    if (policy === 'drop-newest' || costOf(row) > maxBytes) return gone;
    if (policy === 'thin-out' && !this.fits(row, maxBytes)) gone.push(...this.thin());
    while (this.rows.size > 0 && !this.fits(row, maxBytes)) {
      const oldest = this.oldest;
      if (oldest === undefined) break;
      this.remove(oldest.seq);
      gone.push(oldest.seq);
    }
    return gone;
  }

  /** Takes every second record of each router out of the older half. */
  private thin(): number[] {
    const rows = this.all();
    const odd = new Map<string, boolean>();
    const gone: number[] = [];
    for (const { seq, key } of rows.slice(0, Math.ceil(rows.length / 2))) {
      const drop = odd.get(key) === true;
      odd.set(key, !drop);
      if (!drop) continue;
      this.remove(seq);
      gone.push(seq);
    }
    return gone;
  }
}

/** Dead letters that wait for the disk, the newest ones. */
export class Letters {
  private readonly letters: DeadLetter[] = [];
  private bytesUsed = 0;

  get size(): number {
    return this.letters.length;
  }

  add(letter: DeadLetter, maxBytes: number): void {
    this.letters.push(letter);
    this.bytesUsed += costOf({ ...letter, boot: letter.reason });
    while (this.letters.length > MOST_LETTERS || this.bytesUsed > maxBytes * LETTERS_SHARE) {
      const oldest = this.letters.shift();
      if (oldest === undefined) break;
      this.bytesUsed -= costOf({ ...oldest, boot: oldest.reason });
    }
  }

  all(): readonly DeadLetter[] {
    return this.letters;
  }

  clear(): void {
    this.letters.length = 0;
    this.bytesUsed = 0;
  }
}

function costOf(row: Pick<Row, 'boot' | 'topic' | 'key' | 'body'>): number {
  return sizeOf(row) + OVERHEAD;
}
