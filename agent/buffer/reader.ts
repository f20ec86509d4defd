/**
 * What is in a buffer's file: the one place beside the outbox that knows its tables. It only reads, a short transaction at a time, so that
 * the agent's log can be emptied in between; what it does not know it takes for something newer, and passes over.
 */
import { statSync } from 'node:fs';
import { codeOf, NdtError } from '../../common/errors.ts';
import type { Db } from '../../common/sqlite.ts';
import type { Reasons } from '../outbox/account.ts';
import { bytesOnDisk, checkRow, type Row } from '../outbox/database.ts';
import type { Era } from '../wall-clock.ts';
import { type Access, damaged, openToRead } from './open.ts';
import { sum } from './text.ts';

/** Sequence numbers and times of intake (Unix ms), both ends included. */
export interface Range {
  fromSeq?: number;
  toSeq?: number;
  fromAt?: number;
  toAt?: number;
}

/** What the file says of itself: produced = delivered + pending + all of dropped + all of rejected, where it balances. */
export interface FileLedger {
  /** The first sequence number of this file, and the last one given out; `first - 1` when none was. */
  first: number;
  last: number;
  /** Numbers between them that were never given out. */
  skipped: number;
  /** Without those that are in the agent's memory only. */
  produced: number;
  delivered: number;
  /** As written down, not counted. */
  pending: number;
  /** Records that are in the agent's memory only: they come into the file, or are lost with a power cut. */
  memory: number;
  dropped: Reasons;
  rejected: Reasons;
}

export interface DeadLetter {
  seq: number;
  /** When it was refused, Unix ms. */
  at: number;
  topic: string;
  key: string;
  reason: string;
  body: string;
}

/** Rows of one page: of about a kilobyte each. */
const PAGE_ROWS = 1000;

export class BufferFile {
  readonly file: string;
  readonly access: Access;
  private readonly db: Db;
  private readonly mark: string;

  /** @throws NdtError where the file is not there, cannot be read, or is no buffer */
  constructor(file: string) {
    this.file = file;
    this.mark = markOf(file);
    const { db, access } = openToRead(file);
    this.db = db;
    this.access = access;
    const missing = ['meta', 'records', 'counts'].filter((table) => !this.has(table));
    if (missing.length > 0) {
      db.close();
      const what = missing.length === 3 ? 'holds no buffer' : `lacks the table ${missing.join(', ')}`;
      throw new NdtError(
        'DATA',
        `${file} ${what}: is it the agent’s outbox.db? (A file without anything in it is what a crash at the very first start can leave.)`,
      );
    }
  }

  /** Runs `read` on one state of the file, whatever the agent does meanwhile. */
  snapshot<T>(read: () => T): T {
    return this.guarded(() => this.db.transaction(read).deferred());
  }

  /** Fixes the state that is read from here on, until `release`. The agent cannot empty its log meanwhile: see `logBytes`. */
  hold(): void {
    this.guarded(() => {
      this.db.exec('BEGIN');
      this.db.prepare('SELECT count(*) FROM meta').get();
    });
  }

  get holding(): boolean {
    return this.db.inTransaction;
  }

  release(): void {
    if (this.db.inTransaction) this.db.exec('COMMIT');
  }

  /** Whether somebody has begun to write to a file that was read as it stands, so that what was read may be of two states. */
  disturbed(): boolean {
    return this.access === 'still' && markOf(this.file) !== this.mark;
  }

  ledger(): FileLedger {
    return this.guarded(() => {
      const meta = new Map(
        this.db
          .prepare<[], { name: string; value: number }>('SELECT name, value FROM meta')
          .all()
          .map(({ name, value }) => [name, value]),
      );
      const first = meta.get('first_seq') ?? 1;
      const ledger: FileLedger = {
        first,
        last: meta.get('last_seq') ?? first - 1,
        skipped: meta.get('skipped') ?? 0,
        produced: 0,
        delivered: 0,
        pending: meta.get('pending') ?? 0,
        memory: meta.get('memory') ?? 0,
        dropped: {},
        rejected: {},
      };
      for (const { what, reason, n } of this.db
        .prepare<[], { what: string; reason: string; n: number }>('SELECT what, reason, n FROM counts')
        .all()) {
        if (what === 'produced' || what === 'delivered') ledger[what] = n;
        else if (what === 'dropped' || what === 'rejected') ledger[what][reason] = n;
      }
      return ledger;
    });
  }

  /** Records that really wait, counted one by one. */
  count(range: Range = {}): number {
    const { where, values } = condition(range);
    return this.number(`SELECT count(*) AS n FROM records ${where}`, values);
  }

  oldest(): { seq: number; at: number } | undefined {
    return this.guarded(() => this.db.prepare<[], { seq: number; at: number }>('SELECT seq, at FROM records ORDER BY seq LIMIT 1').get());
  }

  newest(): { seq: number; at: number } | undefined {
    return this.guarded(() =>
      this.db.prepare<[], { seq: number; at: number }>('SELECT seq, at FROM records ORDER BY seq DESC LIMIT 1').get(),
    );
  }

  /** The first and the last number of a range. */
  ends(range: Range): { first: number | undefined; last: number | undefined } {
    const { where, values } = condition(range);
    const one = (order: string) =>
      this.guarded(
        () =>
          this.db.prepare<unknown[], { seq: number }>(`SELECT seq FROM records ${where} ORDER BY seq ${order} LIMIT 1`).get(...values)?.seq,
      );
    return { first: one('ASC'), last: one('DESC') };
  }

  /** The newest records: how many, the bytes of their texts, and the times of the oldest and newest of them. */
  recent(limit: number): { n: number; bytes: number; from: number; to: number } {
    const sizes =
      'SELECT at, length(CAST(body AS BLOB)) + length(topic) + length(key) + length(boot) + 40 AS bytes FROM records ORDER BY seq DESC LIMIT ?';
    const text = `SELECT count(*) AS n, coalesce(sum(bytes), 0) AS bytes, coalesce(min(at), 0) AS "from", coalesce(max(at), 0) AS "to" FROM (${sizes})`;
    const none = { n: 0, bytes: 0, from: 0, to: 0 };
    return this.guarded(() => this.db.prepare<[number], typeof none>(text).get(limit) ?? none);
  }

  /** The next records above a number, in order, as they were written or as damage left them: `whole` tells. */
  page(above: number, range: Range = {}): Array<{ row: Row; whole: boolean }> {
    const { where, values } = condition({ ...range, fromSeq: Math.max(above + 1, range.fromSeq ?? 0) });
    const text = `SELECT seq, at, elapsed, era, boot, topic, key, body, crc FROM records ${where} ORDER BY seq LIMIT ${PAGE_ROWS}`;
    return this.guarded(() => this.db.prepare<unknown[], Row & { crc: number }>(text).all(...values)).map((stored) => ({
      row: stored,
      whole: isWhole(stored),
    }));
  }

  /** As `page`, of the records that were refused for good. */
  deadLetters(above: number, range: Range = {}): DeadLetter[] {
    if (!this.has('dead_letters')) return [];
    const { where, values } = condition({ ...range, fromSeq: Math.max(above + 1, range.fromSeq ?? 0) });
    const text = `SELECT seq, at, topic, key, reason, body FROM dead_letters ${where} ORDER BY seq LIMIT ${PAGE_ROWS}`;
    return this.guarded(() => this.db.prepare<unknown[], DeadLetter>(text).all(...values));
  }

  /** The numbers of all waiting records, as runs of neighbours, of which the first so many are told. */
  runs(told: number): { count: number; runs: number; first: Array<{ first: number; last: number }> } {
    return this.guarded(() => {
      const found = { count: 0, runs: 0, first: [] as Array<{ first: number; last: number }> };
      let run: { first: number; last: number } | undefined;
      for (const { seq } of this.db.prepare<[], { seq: number }>('SELECT seq FROM records ORDER BY seq').iterate()) {
        found.count += 1;
        if (run !== undefined && seq === run.last + 1) run.last = seq;
        else {
          run = { first: seq, last: seq };
          found.runs += 1;
          if (found.first.length < told) found.first.push(run);
        }
      }
      return found;
    });
  }

  countDeadLetters(): number {
    return this.has('dead_letters') ? this.number('SELECT count(*) AS n FROM dead_letters') : 0;
  }

  /** Notices that wait: gaps that have not been told yet. */
  countNotices(): number {
    return this.has('notices') ? this.number('SELECT count(*) AS n FROM notices') : 0;
  }

  /** What the wall clock was taken for, over time. */
  eras(): Era[] {
    return this.has('eras')
      ? this.guarded(() => this.db.prepare<[], Era>('SELECT id, boot, micros, trust FROM eras ORDER BY id').all())
      : [];
  }

  label(name: string): string | undefined {
    if (!this.has('labels')) return undefined;
    return this.guarded(() => this.db.prepare<[string], { value: string }>('SELECT value FROM labels WHERE name = ?').get(name)?.value);
  }

  /** What SQLite finds wrong with the file, at most 20 complaints; none where it is sound. */
  integrity(): string[] {
    try {
      const rows = this.db.prepare<[], { integrity_check: string }>('PRAGMA integrity_check(20)').all();
      return rows.flatMap((row) => row.integrity_check.split('\n')).filter((text) => text !== 'ok');
    } catch (error) {
      if (codeOf(error)?.startsWith('SQLITE_') === true && error instanceof Error) return [error.message];
      throw error;
    }
  }

  /** Bytes on disk, as they count against the cap. */
  bytes(): number {
    return bytesOnDisk(this.file);
  }

  /** Of the bytes on disk, those that are in use: the others are used again before the file grows. */
  usedBytes(): number {
    return this.guarded(() => {
      const number = (pragma: string) => Number(this.db.pragma(pragma, { simple: true }));
      return (number('page_count') - number('freelist_count')) * number('page_size') + this.logBytes();
    });
  }

  /** Bytes of the write-ahead log. */
  logBytes(): number {
    return statSync(`${this.file}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  }

  close(): void {
    this.db.close();
  }

  private has(table: string): boolean {
    return this.guarded(() => this.db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?").get(table) !== undefined);
  }

  private number(text: string, values: readonly unknown[] = []): number {
    return this.guarded(() => this.db.prepare<unknown[], { n: number }>(text).get(...values)?.n ?? 0);
  }

  private guarded<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      const code = codeOf(error) ?? '';
      if (/^SQLITE_(CORRUPT|IOERR|NOTADB|ERROR)/.test(code)) throw damaged(this.file, error);
      throw error;
    }
  }
}

/** How many wait in the file, by the counts: what the file says should be the same. */
export function remainder({ produced, delivered, dropped, rejected }: FileLedger): number {
  return produced - delivered - sum(dropped) - sum(rejected);
}

function isWhole(stored: Row & { crc: number }): boolean {
  try {
    checkRow(stored);
    return true;
  } catch {
    return false;
  }
}

/** The condition of a range, and what stands for its question marks. */
export function condition({ fromSeq, toSeq, fromAt, toAt }: Range): { where: string; values: number[] } {
  const parts: Array<[string, number]> = [];
  if (fromSeq !== undefined) parts.push(['seq >= ?', fromSeq]);
  if (toSeq !== undefined) parts.push(['seq <= ?', toSeq]);
  if (fromAt !== undefined) parts.push(['at >= ?', fromAt]);
  if (toAt !== undefined) parts.push(['at <= ?', toAt]);
  return { where: parts.length === 0 ? '' : `WHERE ${parts.map(([text]) => text).join(' AND ')}`, values: parts.map(([, value]) => value) };
}

/** Changes when somebody writes to the file, or begins to. What cannot be looked at is told of where it is opened. */
function markOf(file: string): string {
  try {
    const { ino, size, mtimeMs } = statSync(file);
    return `${ino} ${size} ${mtimeMs} ${statSync(`${file}-wal`, { throwIfNoEntry: false }) !== undefined}`;
  } catch {
    return '';
  }
}
