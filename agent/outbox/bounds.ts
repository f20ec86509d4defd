/**
 * What goes when the buffer is full, or a record too old.
 *
 * The cap is a number of pages: SQLite itself refuses to go beyond it, and room is made before that by estimate, in small steps, each a
 * transaction of its own, because the log counts as well. Freed pages are used again, so the file grows to its cap and stays there.
 *
 * Thinning keeps every second record of each router, part by part from the oldest on: wherever records are closer together than their age
 * allows, which is a whole number of records per doubling of age. So the older half is halved first, then its older half again, and a long
 * outage keeps its shape at a resolution that falls with age. The records kept are written anew, closely packed: half-empty pages would
 * free nothing.
 */
import type { DropReason } from './account.ts';
import { type OutboxDb, PAGE } from './database.ts';
import type { Policy } from './memory.ts';

/** Told of each range that was dropped, and how many of it. */
export type Dropped = (first: number, last: number, count: number, reason: DropReason) => void;

const AT_ONCE = 256;
const THIN_AT_ONCE = 1024;
/** Records younger than so many numbers are not thinned any more: then the oldest go. */
const DENSE_LEAST = 64;

export class Bounds {
  /** Thinning has come this far, and has dropped so many on its way from the oldest. */
  private thinnedTo = 0;
  private thinned = 0;
  /** Records whose age in numbers is below this keep their full density; above it, this divided by their age. */
  private dense = Number.POSITIVE_INFINITY;
  private readonly odd = new Map<string, boolean>();

  /** Drops what has waited too long, at most a few thousand at a time; inside a transaction. */
  dropAged(db: OutboxDb, cutoff: number, dropped: Dropped): void {
    for (let round = 0; round < 20; round += 1) {
      const rows = db.oldest(0, AT_ONCE);
      let aged = rows.findIndex(({ elapsed }) => elapsed >= cutoff);
      if (aged < 0) aged = rows.length;
      const [first, last] = [rows[0], rows[aged - 1]];
      if (first === undefined || last === undefined) return;
      dropped(first.seq, last.seq, db.remove(first.seq, last.seq), 'age');
      if (aged < rows.length) return;
    }
  }

  /** Pages that are wanted for new records of so many pages beyond those that are free; 0 or less where there is room. */
  wanted(db: OutboxDb, pages: number): number {
    return db.livePages() + pages + 8 - db.capacity;
  }

  /**
   * One step towards room; inside a transaction.
   * @param pages how many are wanted
   * @returns false where nothing more can go
   */
  step(db: OutboxDb, pages: number, policy: Policy, dropped: Dropped): boolean {
    // What was refused for good is the first to go: nobody waits for it.
    if (db.trimDeadLetters(0) > 0) return true;
    if (policy === 'drop-newest') return false;
    if (policy === 'thin-out' && this.thin(db, dropped)) return true;
    const rows = db.oldest(0, AT_ONCE);
    const first = rows[0];
    if (first === undefined) return false;
    // A little more than needed, so that the next records find room as well.
    const bytes = (pages + Math.min(64, Math.floor(db.capacity / 64))) * PAGE;
    let freed = 0;
    let last = first.seq;
    for (const row of rows) {
      if (freed >= bytes) break;
      freed += row.bytes;
      last = row.seq;
    }
    dropped(first.seq, last, db.remove(first.seq, last), 'buffer_full');
    return true;
  }

  /** Halves the next part that is too dense for its age. Returns false where there is none. */
  private thin(db: OutboxDb, dropped: Dropped): boolean {
    const oldest = db.oldest(0, 1)[0]?.seq;
    const newest = db.persisted?.last;
    if (oldest === undefined || newest === undefined) return false;
    // Within the range that is held: a sweep over it halves at least its older half.
    this.dense = Math.min(this.dense, Math.max(DENSE_LEAST, newest - oldest));
    for (;;) {
      const rows = this.part(db, newest - this.dense);
      const [first, last] = [rows[0], rows.at(-1)];
      if (first === undefined || last === undefined) {
        if (this.thinned === 0) {
          if (this.dense <= DENSE_LEAST) return false;
          this.dense = Math.max(DENSE_LEAST, Math.floor(this.dense / 2));
        }
        this.thinnedTo = oldest - 1;
        this.thinned = 0;
        this.odd.clear();
        continue;
      }
      this.thinnedTo = last.seq;
      const age = newest - first.seq;
      if ((rows.length / (last.seq - first.seq + 1)) * age <= this.dense) continue;
      const keep = new Set<number>();
      for (const { seq, key } of rows) {
        const drop = this.odd.get(key) === true;
        this.odd.set(key, !drop);
        if (!drop) keep.add(seq);
      }
      if (keep.size === rows.length) continue;
      const kept = db.read(first.seq, last.seq, -1).rows.filter(({ seq }) => keep.has(seq));
      db.remove(first.seq, last.seq);
      for (const row of kept) db.insert(row);
      this.thinned += rows.length - kept.length;
      dropped(first.seq, last.seq, rows.length - kept.length, 'thinned');
      return true;
    }
  }

  /** The next rows to thin, as many as one transaction may write. */
  private part(db: OutboxDb, until: number): Array<{ seq: number; key: string }> {
    const found: Array<{ seq: number; key: string }> = [];
    let bytes = 0;
    for (const row of db.oldest(this.thinnedTo, THIN_AT_ONCE)) {
      bytes += row.bytes;
      if (row.seq > until || (found.length > 1 && bytes > db.mostBytes)) break;
      found.push(row);
    }
    return found;
  }
}
