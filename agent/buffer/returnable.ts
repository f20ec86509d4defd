/**
 * Numbers that may come in by `buffer import` although they lie between the first and the last of the file: those that were dropped on
 * purpose, by their reason, and those that this file never gave out, without one. A table of ours in the file; the outbox passes it over.
 */
import type { Db } from '../../common/sqlite.ts';

export interface Returnable {
  first: number;
  last: number;
  /** What it was dropped for; `''` where it was never given out. */
  reason: string;
}

export class ReturnableNumbers {
  private readonly statements;

  /** Makes the table; inside a transaction. */
  constructor(db: Db) {
    db.exec('CREATE TABLE IF NOT EXISTS returnable (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, reason TEXT NOT NULL)');
    this.statements = {
      add: db.prepare('INSERT INTO returnable (first, last, reason) VALUES (?, ?, ?)'),
      at: db.prepare<[number], Returnable>('SELECT first, last, reason FROM returnable WHERE first <= ? ORDER BY first DESC LIMIT 1'),
      remove: db.prepare('DELETE FROM returnable WHERE first = ?'),
    };
  }

  add(range: Returnable): void {
    if (range.first <= range.last) this.statements.add.run(range.first, range.last, range.reason);
  }

  /** Takes a number out, and returns its reason; undefined where it is none of these. */
  take(seq: number): string | undefined {
    const range = this.statements.at.get(seq);
    if (range === undefined || seq > range.last) return undefined;
    this.statements.remove.run(range.first);
    this.add({ ...range, last: seq - 1 });
    this.add({ ...range, first: seq + 1 });
    return range.reason;
  }
}
