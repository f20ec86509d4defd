/**
 * What goes when the buffer is full, or a record too old; inside the transaction that adds new ones.
 *
 * The cap is a number of pages: SQLite itself refuses to go beyond it, and room is made before that by estimate. Freed pages are used
 * again, so the file grows to its cap and stays there. Thinning keeps every second record of each router in the older half of the time
 * that is held, from the oldest on; where it has come to the middle it begins again: what is oldest has been halved most often, so a long
 * outage keeps its shape at a resolution that falls with age. The records kept are written anew, closely packed: half-empty pages would
 * free nothing.
 */
import type { DropReason } from './account.ts';
import { type OutboxDb, PAGE } from './database.ts';
import type { Policy } from './memory.ts';

/** Told of each range that was dropped, and how many of it. */
export type Dropped = (first: number, last: number, count: number, reason: DropReason) => void;

/** Pages are filled so far, on the whole. */
const FILL = 0.85;
const AT_ONCE = 256;
const THIN_AT_ONCE = 1024;

export class Bounds {
  /** Thinning has come this far. */
  private thinnedTo = 0;
  private readonly odd = new Map<string, boolean>();

  /** Drops what has waited too long, at most a few thousand at a time. */
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

  /** Makes room for so many bytes of new records. Returns false where the policy or the cap has none for them. */
  makeRoom(db: OutboxDb, bytes: number, policy: Policy, dropped: Dropped): boolean {
    const need = Math.ceil(bytes / (PAGE * FILL)) + 8;
    const over = () => db.livePages() + need - db.capacity;
    if (over() <= 0) return true;
    // What was refused for good is the first to go: nobody waits for it.
    if (db.trimDeadLetters(0) > 0 && over() <= 0) return true;
    if (policy === 'drop-newest') return false;
    // A little more than needed, so that the next records find room as well.
    const slack = Math.min(64, Math.floor(db.capacity / 64));
    if (policy === 'thin-out') {
      for (let round = 0; round < 64 && over() + slack > 0; round += 1) if (!this.thin(db, dropped)) break;
    }
    while (over() + slack > 0) {
      const rows = db.oldest(0, AT_ONCE);
      const first = rows[0];
      if (first === undefined) break;
      let freed = 0;
      let last = first.seq;
      for (const row of rows) {
        if (freed >= (over() + slack) * PAGE) break;
        freed += row.bytes;
        last = row.seq;
      }
      dropped(first.seq, last, db.remove(first.seq, last), 'buffer_full');
    }
    return over() <= 0;
  }

  /** Halves the next part of the older half. Returns false where there was nothing to halve. */
  private thin(db: OutboxDb, dropped: Dropped): boolean {
    const oldest = db.oldest(0, 1)[0]?.seq;
    const newest = db.persisted?.last;
    if (oldest === undefined || newest === undefined) return false;
    const middle = oldest + Math.floor((newest - oldest) / 2);
    for (let attempt = 0; attempt < 2; attempt += 1) {
      if (this.thinnedTo < oldest || this.thinnedTo >= middle) {
        this.thinnedTo = oldest - 1;
        this.odd.clear();
      }
      const rows = db.oldest(this.thinnedTo, THIN_AT_ONCE).filter(({ seq }) => seq <= middle);
      const [first, last] = [rows[0], rows.at(-1)];
      if (first === undefined || last === undefined) return false;
      this.thinnedTo = last.seq;
      const keep = new Set<number>();
      for (const { seq, key } of rows) {
        const drop = this.odd.get(key) === true;
        this.odd.set(key, !drop);
        if (!drop) keep.add(seq);
      }
      const gone = rows.length - keep.size;
      if (gone === 0) continue;
      const kept = db.read(first.seq, last.seq, -1).rows.filter(({ seq }) => keep.has(seq));
      db.remove(first.seq, last.seq);
      for (const row of kept) db.insert(row);
      dropped(first.seq, last.seq, rows.length - kept.length, 'thinned');
      return true;
    }
    return false;
  }
}
