/**
 * What can be read of a damaged database goes into a new one, and the damaged one is put aside.
 *
 * Rows are read in order, around pages that cannot be read; each must pass its checksum. The new file is made whole under another name
 * and then takes the old one's place, so a crash on the way leaves the old file, and it is done again. A file whose first page is damaged
 * is read through a copy that has the first page of a new file: tables are made in the same order, so they lie at the same places.
 */
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import Database from 'better-sqlite3';
import type { Baseline } from '../../common/rates.ts';
import type { Db } from '../../common/sqlite.ts';
import type { Era } from '../wall-clock.ts';
import { type Account, add, isSound, newAccount } from './account.ts';
import { crcOf, type DeadLetter, OutboxDb, PAGE, type Row } from './database.ts';
import { wordOf } from './faults.ts';
import { syncDir } from './high-water.ts';

export interface Range {
  first: number;
  last: number;
}

export interface Salvage {
  /** Records that could be read, now in the new file. */
  found: number;
  /** The lowest and the highest number found; 0 where none was. */
  lowest: number;
  highest: number;
  /** The holes between them: what is lost may lie in each, and what had been settled may as well. */
  holes: Range[];
  /** Name of the file that was put aside, within the folder. */
  aside: string | undefined;
}

/** How many damaged files are kept, and how many bytes of them. */
export interface Keep {
  files: number;
  bytes: number;
}

const AT_ONCE = 256;

/** The file that is being made, and takes the old one's place when it is whole. */
export function unfinished(file: string): string {
  return `${file}.new`;
}

/** Ends a replacement that a crash interrupted between its two steps. */
export function finishReplacement(file: string): void {
  const made = unfinished(file);
  if (!existsSync(made)) return;
  if (existsSync(file)) removeFiles(made);
  else renameFiles(made, file);
}

/**
 * Replaces a damaged file by a new one with what can be read of it.
 * @param account what the new file's account is, given what was found
 * @throws where the disk does not take the new file; the damaged one is then still in its place
 */
export function replace(
  file: string,
  maxBytes: number,
  keep: Keep,
  nowMs: number,
  finish: (db: OutboxDb, found: Omit<Salvage, 'aside'>) => void,
): Salvage {
  const made = unfinished(file);
  removeFiles(made);
  const target = new OutboxDb(made, maxBytes);
  let found: Omit<Salvage, 'aside'> = { ...NOTHING, holes: [] };
  try {
    found = existsSync(file) ? copyReadable(file, target) : found;
    target.write(true, () => finish(target, found));
  } catch (error) {
    target.close();
    removeFiles(made);
    throw error;
  }
  target.close();
  let aside: string | undefined;
  if (existsSync(file)) {
    aside = `${basename(file)}.damaged-${new Date(nowMs).toISOString().replace(/[-:]|\.\d+/g, '')}`;
    for (let n = 2; existsSync(join(dirname(file), aside)); n += 1) aside = `${aside.replace(/\.\d+$/, '')}.${n}`;
    renameFiles(file, join(dirname(file), aside));
  }
  renameFiles(made, file);
  syncDir(dirname(file));
  prune(file, keep);
  return { ...found, aside };
}

/** Files that were put aside, newest first. */
export function putAside(file: string): string[] {
  const prefix = `${basename(file)}.damaged-`;
  const modified = (name: string) => statSync(join(dirname(file), name)).mtimeMs;
  return readdirSync(dirname(file))
    .filter((name) => name.startsWith(prefix) && !/-(wal|shm)$/.test(name))
    .map((name) => ({ name, at: modified(name) }))
    .sort((a, b) => b.at - a.at || (a.name < b.name ? 1 : -1))
    .map(({ name }) => name);
}

/** What an account says of a file that may be damaged, or undefined where it cannot be read or cannot be right. */
export function accountIn(file: string): Account | undefined {
  return withReadable(file, (db) => readAccount(db));
}

function prune(file: string, keep: Keep): void {
  let bytes = 0;
  putAside(file).forEach((name, i) => {
    const path = join(dirname(file), name);
    for (const suffix of ['', '-wal']) bytes += statSync(path + suffix, { throwIfNoEntry: false })?.size ?? 0;
    if (i >= keep.files || bytes > keep.bytes) removeFiles(path);
  });
}

function renameFiles(from: string, to: string): void {
  rmSync(`${to}-shm`, { force: true });
  rmSync(`${from}-shm`, { force: true });
  rmSync(`${to}-wal`, { force: true });
  if (existsSync(`${from}-wal`)) renameSync(`${from}-wal`, `${to}-wal`);
  renameSync(from, to);
}

function removeFiles(file: string): void {
  for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(file + suffix, { force: true });
}

/** Runs `read` on the file as it stands, or on a copy with a first page that can be read. Undefined where neither can. */
function withReadable<T>(file: string, read: (db: Db) => T): T | undefined {
  const inPlace = openReadable(file);
  if (inPlace !== undefined) {
    try {
      return read(inPlace);
    } finally {
      inPlace.close();
    }
  }
  const dir = mkdtempSync(join(dirname(file), '.salvage-'));
  try {
    const copy = join(dir, 'outbox.db');
    try {
      copyFileSync(file, copy, constants.COPYFILE_FICLONE);
    } catch (error) {
      // A bad place on the disk stays bad: waiting for it would be for ever.
      if (wordOf(error) === 'io') return undefined;
      throw error;
    }
    graftFirstPage(copy, join(dir, 'template.db'));
    const grafted = openReadable(copy);
    if (grafted === undefined) return undefined;
    try {
      return read(grafted);
    } finally {
      grafted.close();
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Only to read, so that nothing is checked in from the log and what is damaged stays as it is. */
function openReadable(file: string): Db | undefined {
  let db: Db | undefined;
  try {
    db = new Database(file, { readonly: true, timeout: 250 });
    db.pragma('cache_size = -1024');
    // A schema with a letter changed is damaged as well.
    db.prepare(scanOf(db));
    return db;
  } catch {
    db?.close();
    return undefined;
  }
}

/** Gives a file the first page of a new one. */
function graftFirstPage(file: string, template: string): void {
  new OutboxDb(template, 2 ** 24).close();
  const page = Buffer.from(readFileSync(template).subarray(0, PAGE));
  page.writeUInt32BE(Math.floor(statSync(file).size / PAGE), 28);
  page.fill(0, 32, 40);
  const fd = openSync(file, 'r+');
  try {
    writeSync(fd, page, 0, PAGE, 0);
  } finally {
    closeSync(fd);
  }
}

const NOTHING = { found: 0, lowest: 0, highest: 0 } as const;
/** More holes than this become one. */
const HOLES_KEPT = 200;

function copyReadable(file: string, target: OutboxDb): Omit<Salvage, 'aside'> {
  const copied = withReadable(file, (db) => {
    const found: Omit<Salvage, 'aside'> = { ...NOTHING, holes: [] };
    scanRecords(db, readAccount(db)?.first ?? 1, Number.MAX_SAFE_INTEGER, (rows) => {
      target.write(false, () => {
        for (const row of rows) if (target.insertNew(row)) found.found += 1;
      });
      for (const { seq } of rows) noteFound(found, seq);
    });
    target.write(false, () => copyRest(db, target));
    return found;
  });
  return copied ?? { ...NOTHING, holes: [] };
}

function noteFound(found: Omit<Salvage, 'aside'>, seq: number): void {
  if (found.highest === 0) found.lowest = seq;
  else if (seq > found.highest + 1) {
    const hole = { first: found.highest + 1, last: seq - 1 };
    const before = found.holes.at(-1);
    if (before !== undefined && found.holes.length >= HOLES_KEPT) before.last = hole.last;
    else found.holes.push(hole);
  }
  found.highest = seq;
}

interface Columns extends Row {
  crc?: number;
}

/** Reads a file's records from a number on. A layout before this one had no checksum, no own time and no eras. */
function scanOf(db: Db): string {
  const columns = (db.pragma('table_info(records)') as Array<{ name: string }>).map(({ name }) => name);
  const isOld = !['crc', 'elapsed', 'era'].some((name) => columns.includes(name));
  const more = isOld ? '0 AS elapsed, 0 AS era' : 'elapsed, era, crc';
  return `SELECT seq, at, ${more}, boot, topic, key, body FROM records WHERE seq >= ? ORDER BY seq LIMIT ?`;
}

/** Reads all records that can be read, in the order of their numbers; `take` is given the good ones. */
function scanRecords(db: Db, low: number, high: number, take: (rows: Row[]) => void): void {
  const select = db.prepare<[number, number], Columns>(scanOf(db));
  const readableFrom = (from: number): Columns[] | undefined => {
    try {
      return select.all(from, 1);
    } catch {
      return undefined;
    }
  };
  let next = low;
  let limit = AT_ONCE;
  let stride = 1;
  while (next <= high) {
    let rows: Columns[];
    try {
      rows = select.all(next, limit);
    } catch {
      if (limit > 1) {
        limit = Math.floor(limit / 4) || 1;
        continue;
      }
      next = skipBad(next, high, readableFrom);
      limit = AT_ONCE;
      continue;
    }
    if (rows.length === 0) break;
    const good: Row[] = [];
    let after = next;
    for (const { crc, ...row } of rows) {
      // A number that is damaged itself says nothing about where to go on.
      if (row.seq < after || !isWhole(row) || (crc !== undefined && crcOf(row) !== crc)) continue;
      good.push(row);
      after = row.seq + 1;
    }
    if (good.length > 0) take(good);
    // A whole batch without a good row: ever further, so that this ends.
    else after = next + stride;
    stride = good.length === 0 ? stride * 2 : 1;
    next = after;
    limit = Math.min(AT_ONCE, limit * 2);
  }
}

function isWhole(row: Row): boolean {
  return typeof row.body === 'string' && typeof row.topic === 'string' && typeof row.key === 'string' && typeof row.boot === 'string';
}

/** The least number above `from` from which on can be read again: steps that double, then halves of the last one. */
function skipBad(from: number, high: number, readable: (from: number) => unknown): number {
  let step = 1;
  while (from + step <= high && readable(from + step) === undefined) step *= 2;
  if (from + step > high) return high + 1;
  let [bad, good] = [from + Math.floor(step / 2), from + step];
  while (good - bad > 1) {
    const middle = bad + Math.floor((good - bad) / 2);
    if (readable(middle) === undefined) bad = middle;
    else good = middle;
  }
  return good;
}

function readAccount(db: Db): Account | undefined {
  try {
    const meta = new Map(
      db
        .prepare<[], { name: string; value: number }>('SELECT name, value FROM meta')
        .all()
        .map(({ name, value }) => [name, value]),
    );
    const first = meta.get('first_seq');
    const last = meta.get('last_seq');
    if (first === undefined || last === undefined) return undefined;
    const account = {
      ...newAccount(first),
      version: meta.get('version') ?? 0,
      last,
      floor: meta.get('floor') ?? last,
      skipped: meta.get('skipped') ?? 0,
    };
    for (const { what, reason, n } of db
      .prepare<[], { what: string; reason: string; n: number }>('SELECT what, reason, n FROM counts')
      .all()) {
      if (what === 'produced' || what === 'delivered') account[what] = n;
      else if (what === 'dropped' || what === 'rejected') add(account[what], reason, n);
      else return undefined;
    }
    account.produced += meta.get('memory') ?? 0;
    return isSound(account) ? account : undefined;
  } catch {
    return undefined;
  }
}

/** Notices, baselines, dead letters and eras: as many as can be read. */
function copyRest(db: Db, target: OutboxDb): void {
  for (const { body } of readable<{ body: string }>(db, 'SELECT body FROM notices ORDER BY id')) if (isJson(body)) target.addNotice(body);
  const baselines = readable<{ router: string; baseline: string; crc: number }>(db, 'SELECT router, baseline, crc FROM baselines');
  for (const { router, baseline, crc } of baselines) {
    if (typeof baseline === 'string' && crc32(`${router} ${baseline}`) === crc)
      target.setBaseline(router, JSON.parse(baseline) as Baseline);
  }
  for (const letter of readable<DeadLetter>(db, 'SELECT seq, at, topic, key, reason, body FROM dead_letters ORDER BY seq DESC')) {
    if (Object.values(letter).every((value) => value !== null)) target.putDeadLetter(letter);
  }
  for (const era of readable<Era>(db, 'SELECT id, boot, micros, trust FROM eras ORDER BY id')) {
    if (typeof era.boot === 'string' && Number.isSafeInteger(era.micros)) target.setEra(era);
  }
}

/** Rows up to the first that cannot be read. */
function* readable<T>(db: Db, text: string): IterableIterator<T> {
  let rows: IterableIterator<T>;
  try {
    rows = db.prepare<[], T>(text).iterate();
  } catch {
    return;
  }
  for (;;) {
    let row: IteratorResult<T>;
    try {
      row = rows.next();
    } catch {
      return;
    }
    if (row.done === true) return;
    yield row.value;
  }
}

function isJson(text: unknown): boolean {
  try {
    return typeof text === 'string' && typeof JSON.parse(text) === 'object';
  } catch {
    return false;
  }
}
