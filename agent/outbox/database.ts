/**
 * The outbox's database file: its tables, its statements, its transactions. What is decided about records is decided elsewhere.
 *
 * A row carries a checksum over all that goes out of it, because SQLite notices a damaged page but not a damaged text. The counts are
 * written with the records they count, in one transaction, so that the file as it stands balances: a reader of a copy needs nothing else.
 * `counts.produced` is without the records that are in the agent's memory only; `meta.memory` says how many those are.
 */
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import Database from 'better-sqlite3';
import type { Baseline } from '../../common/rates.ts';
import { type Db, ensureDir } from '../../common/sqlite.ts';
import type { Era } from '../wall-clock.ts';
import { type Account, copyOf, isSound, newAccount, type Reasons, waiting } from './account.ts';
import { BoundError, DamageError } from './faults.ts';

/** A record that waits. */
export interface Row {
  seq: number;
  /** When it came in: Unix ms, and ms of the outbox's own time. */
  at: number;
  elapsed: number;
  /** The wall clock's era in which it was made. */
  era: number;
  boot: string;
  topic: string;
  key: string;
  body: string;
}

/** Rows that are not as they were written. Their numbers may be wrong as well: what is lost lies between their good neighbours. */
export interface DamagedRows {
  seqs: number[];
  first: number;
  last: number;
}

interface StoredRow extends Row {
  crc: number;
}

export interface DeadLetter {
  seq: number;
  at: number;
  topic: string;
  key: string;
  reason: string;
  body: string;
}

/** What the file knows of time: the outbox's own, and what it was measured against. */
export interface OwnTime {
  elapsed: number;
  monotonic: number;
  boot: string;
}

export const LAYOUT = 2;
export const PAGE = 4096;
/** Pages of the index of the write-ahead log, the marks file, and rounding. */
const FILES_BESIDE = 96 * 1024;
/** Numbers of notices come nowhere near. */
const MOST_NOTICES = 2 ** 39;
const DEAD_LETTERS_KEPT = 10_000;
/** A short wait: a reader must not hold the polling up. */
const LOCK_WAIT_MS = 250;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS counts (what TEXT NOT NULL, reason TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (what, reason)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, elapsed INTEGER NOT NULL, era INTEGER NOT NULL,
    boot TEXT NOT NULL, topic TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, crc INTEGER NOT NULL
  );
  CREATE TABLE IF NOT EXISTS notices (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS baselines (router TEXT PRIMARY KEY, baseline TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS dead_letters (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, topic TEXT NOT NULL, key TEXT NOT NULL, reason TEXT NOT NULL, body TEXT NOT NULL
  );
  CREATE TABLE IF NOT EXISTS eras (id INTEGER PRIMARY KEY, boot TEXT NOT NULL, micros INTEGER NOT NULL, trust TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS labels (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
`;

export function crcOf({ seq, at, elapsed, era, boot, topic, key, body }: Row): number {
  return crc32(body, crc32(`${seq} ${at} ${elapsed} ${era} ${boot} ${topic} ${key} `));
}

/** Bytes that a row takes in the file, about. */
export function sizeOf({ boot, topic, key, body }: Pick<Row, 'boot' | 'topic' | 'key' | 'body'>): number {
  return Buffer.byteLength(body) + boot.length + Buffer.byteLength(topic) + Buffer.byteLength(key) + 40;
}

/** Of a row that is longer than a page takes, so much stays in it at least. https://www.sqlite.org/fileformat2.html#b_tree_pages */
const LOCAL = { most: PAGE - 35, least: Math.floor(((PAGE - 12) * 32) / 255) - 23 };

/** Pages that rows take at the end of the table: a row that does not fit beside the one before it begins a page, and leaves the rest empty. */
export function pagesOf(rows: readonly Row[]): number {
  let pages = 0;
  let left = 0;
  for (const row of rows) {
    let size = sizeOf(row);
    if (size > LOCAL.most) {
      const tail = LOCAL.least + ((size - LOCAL.least) % (PAGE - 4));
      const local = tail <= LOCAL.most ? tail : LOCAL.least;
      pages += Math.ceil((size - local) / (PAGE - 4));
      size = local;
    }
    if (size > left) {
      pages += 1;
      left = PAGE - 8;
    }
    left -= size;
  }
  // And those that lead there.
  return pages + Math.ceil(pages / 200);
}

/** @throws DamageError when what was read is not what was written */
export function checkRow(row: StoredRow): Row {
  const { crc, ...rest } = row;
  if (typeof row.body !== 'string' || typeof row.topic !== 'string' || typeof row.key !== 'string' || crcOf(rest) !== crc) {
    throw new DamageError(`record ${row.seq} is not as it was written`);
  }
  return rest;
}

function isGood(row: StoredRow): boolean {
  try {
    checkRow(row);
    return true;
  } catch {
    return false;
  }
}

/** The last number of a notice in this life, whatever file it was in. */
let lastNotice = 0;

export class OutboxDb {
  readonly file: string;
  readonly db: Db;
  /** Records in the file. */
  pending = 0;
  /** The account as the file has it. */
  persisted: Account | undefined;
  private readonly statements;
  private memory = 0;
  private time: Omit<OwnTime, 'boot'> = { elapsed: -1, monotonic: -1 };
  private durable: boolean | undefined;
  private version: number | undefined;
  private walBytes = 0;
  private maxBytes = 0;

  /**
   * Opens the file, or makes it.
   * @throws the system's or SQLite's error; DamageError where the content is not ours
   */
  constructor(file: string, maxBytes: number) {
    this.file = file;
    ensureDir(dirname(file));
    this.db = new Database(file, { timeout: LOCK_WAIT_MS });
    try {
      this.db.pragma(`page_size = ${PAGE}`);
      this.db.pragma('auto_vacuum = INCREMENTAL');
      this.db.pragma('journal_mode = WAL');
      // The backlog goes through once: remembering its pages would only take memory.
      this.db.pragma('cache_size = -1024');
      const layout = Number(this.db.pragma('user_version', { simple: true }));
      const isEmpty = this.db.prepare('SELECT 1 FROM sqlite_schema').get() === undefined;
      if (!isEmpty && layout !== LAYOUT) throw new DamageError(`the file has layout ${layout}, expected ${LAYOUT}`);
      if (isEmpty) {
        this.db
          .transaction(() => {
            this.db.exec(SCHEMA);
            this.db.pragma(`user_version = ${LAYOUT}`);
          })
          .immediate();
      }
      this.statements = prepare(this.db);
      this.setMaxBytes(maxBytes);
      // Another program may be writing.
      this.db.transaction(() => this.load())();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Sets the cap on all of it on disk: database, log, and the small files beside them. */
  setMaxBytes(maxBytes: number): void {
    this.maxBytes = maxBytes;
    this.walBytes = Math.max(32 * PAGE, Math.min(4 * 2 ** 20, Math.floor(maxBytes / 8)));
    this.db.pragma(`wal_autocheckpoint = ${Math.floor(this.walBytes / 2 / (PAGE + 24))}`);
    this.db.pragma(`journal_size_limit = ${this.walBytes}`);
    this.db.pragma(`max_page_count = ${this.capacity}`);
  }

  /** Pages that the database may have. */
  get capacity(): number {
    return Math.max(32, Math.floor((this.maxBytes - this.walBytes - FILES_BESIDE) / PAGE));
  }

  /** Most bytes that one transaction may write. */
  get mostBytes(): number {
    return Math.floor(this.walBytes / 3);
  }

  /** Pages in use. */
  livePages(): number {
    const { all, free } = this.pages();
    return all - free;
  }

  /** Bytes on disk: what the files take, blocks that the file system set aside included. */
  bytes(): number {
    return bytesOnDisk(this.file);
  }

  /**
   * Runs `work` as one transaction. What another program has changed meanwhile is in `changed`, relative to `persisted`.
   * @param durable whether to wait for the disk
   */
  write<T>(durable: boolean, work: () => T): T {
    this.keepLogSmall();
    if (this.durable !== durable) {
      this.db.exec(`PRAGMA synchronous = ${durable ? 'FULL' : 'NORMAL'}`);
      this.durable = durable;
    }
    const before = { pending: this.pending, persisted: this.persisted, memory: this.memory, time: this.time };
    try {
      const result = this.db.transaction(work).immediate();
      this.version = this.statements.dataVersion.get()?.data_version;
      return result;
    } catch (error) {
      Object.assign(this, before);
      throw error;
    }
  }

  /** Whether another program has written since the last transaction of ours. Ask inside a transaction. */
  changedByOthers(): boolean {
    return this.version !== undefined && this.statements.dataVersion.get()?.data_version !== this.version;
  }

  /** Reads account and counts as they stand. Inside a transaction: they are of one moment then. @throws DamageError where they cannot be right */
  load(): void {
    const { all, free } = this.pages();
    if (all * PAGE > sizeOnDisk(this.file) + sizeOnDisk(`${this.file}-wal`) || free >= all)
      throw new DamageError('the file says that it is longer than it is');
    const meta = new Map(this.statements.allMeta.all().map(({ name, value }) => [name, value]));
    this.pending = meta.get('pending') ?? 0;
    this.memory = meta.get('memory') ?? 0;
    this.time = { elapsed: meta.get('elapsed') ?? 0, monotonic: meta.get('monotonic') ?? 0 };
    const first = meta.get('first_seq');
    if (first === undefined) {
      if (this.statements.oldest.get(0, 1) !== undefined) throw new DamageError('the file has records and no account');
      this.persisted = undefined;
      return;
    }
    const account: Account = {
      ...newAccount(first),
      version: meta.get('version') ?? 0,
      last: meta.get('last_seq') ?? first - 1,
      floor: meta.get('floor') ?? first - 1,
      skipped: meta.get('skipped') ?? 0,
    };
    for (const { what, reason, n } of this.statements.counts.all()) {
      if (what === 'produced' || what === 'delivered') account[what] = n;
      else if (what === 'dropped' || what === 'rejected') account[what][reason] = n;
      else throw new DamageError(`the counts have a line "${String(what)}"`);
    }
    account.produced += this.memory;
    const wholes = [this.pending, this.memory, this.time.elapsed].every((n) => Number.isSafeInteger(n) && n >= 0);
    if (!wholes || !isSound(account) || waiting(account) !== this.pending + this.memory)
      throw new DamageError('the account does not balance');
    this.persisted = account;
  }

  /** What the file says of time. */
  ownTime(): OwnTime {
    return { ...this.time, boot: this.label('kernel_boot') ?? '' };
  }

  get clean(): boolean {
    return this.statements.meta.get('clean')?.value === 1;
  }

  label(name: string): string | undefined {
    return this.statements.label.get(name)?.value;
  }
  setLabel(name: string, value: string): void {
    this.statements.setLabel.run(name, value);
  }
  setClean(clean: boolean): void {
    this.statements.setMeta.run('clean', clean ? 1 : 0);
  }

  /** Writes what is new in the account, and the time. Inside a transaction. */
  save(account: Account, memory: number, time: Omit<OwnTime, 'boot'>): void {
    const old = this.persisted;
    const { setMeta } = this.statements;
    const put = (name: string, value: number, before: number | undefined) => {
      if (value !== before) setMeta.run(name, value);
    };
    put('version', account.version, old?.version);
    put('first_seq', account.first, old?.first);
    put('last_seq', account.last, old?.last);
    put('floor', account.floor, old?.floor);
    put('skipped', account.skipped, old?.skipped);
    // Others may have changed these two: they are written whenever anything is.
    setMeta.run('pending', this.pending);
    put('memory', memory, old === undefined ? undefined : this.memory);
    put('elapsed', Math.floor(time.elapsed), this.time.elapsed);
    put('monotonic', Math.floor(time.monotonic), this.time.monotonic);
    const stored = account.produced - memory;
    if (old === undefined || stored !== old.produced - this.memory) this.statements.setCount.run('produced', '', stored);
    if (old === undefined || account.delivered !== old.delivered) this.statements.setCount.run('delivered', '', account.delivered);
    for (const what of ['dropped', 'rejected'] as const) this.saveReasons(what, account[what], old?.[what] ?? {});
    this.memory = memory;
    this.time = { elapsed: Math.floor(time.elapsed), monotonic: Math.floor(time.monotonic) };
    this.persisted = copyOf(account);
  }

  insert(row: Row): void {
    const { seq, at, elapsed, era, boot, topic, key, body } = row;
    this.statements.insert.run(seq, at, elapsed, era, boot, topic, key, body, crcOf(row));
    this.pending += 1;
  }

  /** As `insert`; returns false where the number is there already. */
  insertNew(row: Row): boolean {
    if (this.statements.has.get(row.seq) !== undefined) return false;
    this.insert(row);
    return true;
  }

  /** Removes the records of a range; returns how many there were. */
  remove(first: number, last: number): number {
    const { changes } = this.statements.remove.run(first, last);
    this.pending -= changes;
    return changes;
  }

  /**
   * The records of a range in order, at most so many (-1: all), and apart from them those that are not as they were written.
   * @throws DamageError where their numbers are out of order
   */
  read(first: number, last: number, limit: number): { rows: Row[]; damaged: DamagedRows[] } {
    const stored = this.statements.read.all(first, last, limit);
    const damaged: DamagedRows[] = [];
    let below = first - 1;
    for (const [i, { seq }] of stored.entries()) {
      if (!(seq > below)) throw new DamageError(`record ${seq} comes after ${below}`);
      below = seq;
      const row = stored[i];
      if (row === undefined || isGood(row)) continue;
      const before = stored[i - 1]?.seq ?? seq - 1;
      const open = damaged.at(-1);
      if (open !== undefined && open.seqs.at(-1) === before) open.seqs.push(seq);
      else damaged.push({ first: before + 1, last: 0, seqs: [seq] });
      const group = damaged.at(-1);
      if (group !== undefined) group.last = (stored[i + 1]?.seq ?? seq + 1) - 1;
    }
    if (damaged.length === 0) return { rows: stored, damaged };
    const bad = new Set(damaged.flatMap(({ seqs }) => seqs));
    return { rows: stored.filter(({ seq }) => !bad.has(seq)), damaged };
  }

  /** The oldest records above a number, without their bodies. */
  oldest(above: number, limit: number): Array<{ seq: number; key: string; at: number; elapsed: number; bytes: number }> {
    return this.statements.oldest.all(above, limit);
  }

  notices(limit: number): Array<{ id: number; body: string }> {
    return this.statements.notices.all(limit);
  }
  /** Numbers are not used twice in one life: a late confirmation must not meet another notice. */
  addNotice(body: string): number {
    const inFile = this.statements.lastNotice.get()?.id ?? 0;
    if (inFile > lastNotice && inFile >= MOST_NOTICES) throw new DamageError(`a notice has the number ${inFile}`);
    const id = Math.max(lastNotice, inFile) + 1;
    this.statements.addNotice.run(id, body);
    lastNotice = id;
    return id;
  }
  setNotice(id: number, body: string): void {
    this.statements.setNotice.run(body, id);
  }
  removeNotice(id: number): void {
    this.statements.removeNotice.run(id);
  }

  /** Moves a record to the dead letters, of which the newest are kept. Returns whether it was there. */
  bury(seq: number, reason: string, now: number): boolean {
    this.statements.bury.run(now, reason, seq);
    return this.remove(seq, seq) > 0;
  }
  putDeadLetter({ seq, at, topic, key, reason, body }: DeadLetter): void {
    this.statements.putDead.run(seq, at, topic, key, reason, body);
  }
  trimDeadLetters(keep = DEAD_LETTERS_KEPT): number {
    return this.statements.trimDead.run(keep).changes;
  }

  baselines(): Map<string, Baseline> {
    const found = new Map<string, Baseline>();
    for (const { router, baseline, crc } of this.statements.baselines.all()) {
      // One that is damaged would make a spike: without it the router starts anew.
      if (crc32(`${router} ${baseline}`) === crc) found.set(router, JSON.parse(baseline) as Baseline);
    }
    return found;
  }
  setBaseline(router: string, baseline: Baseline): void {
    const text = JSON.stringify(baseline);
    this.statements.setBaseline.run(router, text, crc32(`${router} ${text}`));
  }

  eras(): Era[] {
    return this.statements.eras.all();
  }
  setEra({ id, boot, micros, trust }: Era): void {
    this.statements.setEra.run(id, boot, micros, trust);
  }
  /** Forgets eras of which no record waits any more. */
  dropErasBelow(id: number): void {
    this.statements.dropEras.run(id);
  }

  /** Gives free pages at the end back to the file system, at most so many at a time, where much is free or the cap was lowered. */
  shrink(pages: number): void {
    const { all, free } = this.pages();
    const tooMany = all - this.capacity;
    if (tooMany <= 0 && (free < 256 || free < all / 4)) return;
    this.db.pragma(`incremental_vacuum(${pages})`);
    if (tooMany > 0) this.db.pragma(`max_page_count = ${this.capacity}`);
  }

  /** The numbers of the records of a range, in order. */
  *numbers(first: number, last: number): IterableIterator<number> {
    for (const { seq } of this.statements.numbers.iterate(first, last)) yield seq;
  }

  /** The own time at which the newest record was made [ms]; 0 where there is none. */
  newestElapsed(): number {
    return this.statements.newest.get()?.elapsed ?? 0;
  }

  /** Whether any record can be found. */
  hasRecords(): boolean {
    return this.statements.oldest.get(0, 1) !== undefined;
  }

  close(): void {
    try {
      this.db.close();
    } catch {
      // Damaged or on a disk that is gone: there is nothing left to write.
    }
  }

  private pages(): { all: number; free: number } {
    return { all: this.statements.pageCount.get()?.page_count ?? 0, free: this.statements.freeCount.get()?.freelist_count ?? 0 };
  }

  private saveReasons(what: 'dropped' | 'rejected', now: Reasons, before: Reasons): void {
    for (const reason in now) {
      const n = now[reason] ?? 0;
      if (n !== before[reason]) this.statements.setCount.run(what, reason, n);
    }
    // What was counted under another name since, `other` perhaps.
    for (const reason in before) if (!(reason in now)) this.statements.dropCount.run(what, reason);
  }

  /** The log counts against the cap: where a reader keeps it from starting again, nothing more is written. */
  private keepLogSmall(): void {
    if (sizeOnDisk(`${this.file}-wal`) <= this.walBytes) return;
    this.db.pragma('wal_checkpoint(TRUNCATE)');
    if (sizeOnDisk(`${this.file}-wal`) > this.walBytes)
      throw new BoundError('another program reads the buffer and keeps its log from being emptied');
  }
}

/** Bytes of a file on disk: its length or its blocks, whichever is more; 0 where there is none. */
export function sizeOnDisk(file: string): number {
  const stat = statSync(file, { throwIfNoEntry: false });
  return stat === undefined ? 0 : Math.max(stat.size, stat.blocks * 512);
}

/** All that an outbox has on disk. */
export function bytesOnDisk(file: string): number {
  let sum = 0;
  for (const suffix of ['', '-wal', '-shm', '.seq']) sum += sizeOnDisk(`${file}${suffix}`);
  return sum;
}

function prepare(db: Db) {
  return {
    pageCount: db.prepare<[], { page_count: number }>('PRAGMA page_count'),
    freeCount: db.prepare<[], { freelist_count: number }>('PRAGMA freelist_count'),
    dataVersion: db.prepare<[], { data_version: number }>('PRAGMA data_version'),
    allMeta: db.prepare<[], { name: string; value: number }>('SELECT name, value FROM meta'),
    meta: db.prepare<[string], { value: number }>('SELECT value FROM meta WHERE name = ?'),
    setMeta: db.prepare('INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value'),
    counts: db.prepare<[], { what: string; reason: string; n: number }>('SELECT what, reason, n FROM counts'),
    setCount: db.prepare('INSERT INTO counts (what, reason, n) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = excluded.n'),
    dropCount: db.prepare('DELETE FROM counts WHERE what = ? AND reason = ?'),
    insert: db.prepare('INSERT INTO records (seq, at, elapsed, era, boot, topic, key, body, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)'),
    has: db.prepare<[number], object>('SELECT 1 FROM records WHERE seq = ?'),
    numbers: db.prepare<[number, number], { seq: number }>('SELECT seq FROM records WHERE seq BETWEEN ? AND ? ORDER BY seq'),
    newest: db.prepare<[], { elapsed: number }>('SELECT elapsed FROM records ORDER BY seq DESC LIMIT 1'),
    remove: db.prepare('DELETE FROM records WHERE seq BETWEEN ? AND ?'),
    read: db.prepare<[number, number, number], StoredRow>(
      'SELECT seq, at, elapsed, era, boot, topic, key, body, crc FROM records WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?',
    ),
    oldest: db.prepare<[number, number], { seq: number; key: string; at: number; elapsed: number; bytes: number }>(
      'SELECT seq, key, at, elapsed, octet_length(body) + octet_length(topic) + octet_length(key) + octet_length(boot) + 40 AS bytes FROM records WHERE seq > ? ORDER BY seq LIMIT ?',
    ),
    notices: db.prepare<[number], { id: number; body: string }>('SELECT id, body FROM notices ORDER BY id LIMIT ?'),
    addNotice: db.prepare('INSERT INTO notices (id, body) VALUES (?, ?)'),
    lastNotice: db.prepare<[], { id: number }>('SELECT id FROM notices ORDER BY id DESC LIMIT 1'),
    setNotice: db.prepare('UPDATE notices SET body = ? WHERE id = ?'),
    removeNotice: db.prepare('DELETE FROM notices WHERE id = ?'),
    bury: db.prepare(
      'INSERT OR IGNORE INTO dead_letters (seq, at, topic, key, reason, body) SELECT seq, ?, topic, key, ?, body FROM records WHERE seq = ?',
    ),
    putDead: db.prepare('INSERT OR IGNORE INTO dead_letters (seq, at, topic, key, reason, body) VALUES (?, ?, ?, ?, ?, ?)'),
    trimDead: db.prepare('DELETE FROM dead_letters WHERE seq <= (SELECT seq FROM dead_letters ORDER BY seq DESC LIMIT 1 OFFSET ?)'),
    baselines: db.prepare<[], { router: string; baseline: string; crc: number }>('SELECT router, baseline, crc FROM baselines'),
    setBaseline: db.prepare(
      'INSERT INTO baselines (router, baseline, crc) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET baseline = excluded.baseline, crc = excluded.crc',
    ),
    eras: db.prepare<[], Era>('SELECT id, boot, micros, trust FROM eras ORDER BY id'),
    setEra: db.prepare(
      'INSERT INTO eras (id, boot, micros, trust) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET boot = excluded.boot, micros = excluded.micros, trust = excluded.trust',
    ),
    dropEras: db.prepare('DELETE FROM eras WHERE id < ?'),
    label: db.prepare<[string], { value: string }>('SELECT value FROM labels WHERE name = ?'),
    setLabel: db.prepare('INSERT INTO labels (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value'),
  };
}
