/**
 * Opening a buffer's file to read it, wherever it lies and whoever uses it, without leaving a trace beside it.
 *
 * Three ways. While an agent has the file open, the write-ahead log and its index are there and are shared with it: readers and the
 * writer do not disturb each other. Where neither is there, nobody has it open, and it is read as it stands, which needs no permission to
 * write to its folder (SQLite would otherwise make both files, even to read). A copy that has its log but not the index, on a medium that
 * cannot be written to, is copied to the folder for temporary files first, and that copy is gone as soon as it is open.
 */
import { constants, copyFileSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import Database from 'better-sqlite3';
import { codeOf, messageOf, NdtError } from '../../common/errors.ts';
import type { Db } from '../../common/sqlite.ts';
import { bytesText } from './text.ts';

// Read when the first database is opened: without it, `file:` names with options are not understood.
process.env.SQLITE_USE_URI ??= '1';

/** `shared`: with a running agent. `still`: nobody has it open. `copied`: what is read is a copy. */
export type Access = 'shared' | 'still' | 'copied';

export interface Opened {
  db: Db;
  access: Access;
}

/** @throws NdtError UNAVAILABLE where there is no such file, DATA where it is none of ours, IO where it cannot be read */
export function openToRead(file: string): Opened {
  const main = stat(file);
  if (main === undefined) {
    throw new NdtError(
      'UNAVAILABLE',
      `there is no buffer at ${file}: has the agent run with this data folder? Name another file with --file, or the configuration with --config`,
    );
  }
  if (!main.isFile()) throw new NdtError('USAGE', `${file} is not a file: name the buffer’s database, outbox.db`);
  const log = stat(`${file}-wal`);
  try {
    if ((log?.size ?? 0) === 0 && stat(`${file}-shm`) === undefined) return { db: first(asItStands(file)), access: 'still' };
    return { db: first(file), access: 'shared' };
  } catch (error) {
    if (!CANNOT_SHARE.test(codeOf(error) ?? '')) throw explained(file, error);
  }
  try {
    return { db: copied(file), access: 'copied' };
  } catch (error) {
    throw explained(file, error);
  }
}

const CANNOT_SHARE = /^SQLITE_(CANTOPEN|READONLY)/;

function stat(file: string) {
  try {
    return statSync(file);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new NdtError('IO', `${file} cannot be read (${code ?? messageOf(error)}): run this as the agent’s user`);
  }
}

/** The name by which SQLite takes a file as unchanging: it neither locks it nor looks for a log. */
function asItStands(file: string): string {
  return `file:${encodeURI(resolve(file)).replaceAll('?', '%3f').replaceAll('#', '%23')}?immutable=1`;
}

/** Opens, and reads the first page, which is where most of what can be wrong shows. */
function first(name: string): Db {
  const db = new Database(name, { readonly: true, timeout: 5000 });
  try {
    db.prepare('SELECT count(*) FROM sqlite_schema').get();
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function copied(file: string): Db {
  const dir = mkdtempSync(join(tmpdir(), 'ndt-buffer-'));
  try {
    const copy = join(dir, basename(file));
    for (const suffix of ['', '-wal']) {
      const size = stat(`${file}${suffix}`)?.size;
      if (size === undefined) continue;
      try {
        copyFileSync(`${file}${suffix}`, `${copy}${suffix}`, constants.COPYFILE_FICLONE);
      } catch (error) {
        throw new NdtError(
          'IO',
          `${file} has to be copied to be read, and that failed (${codeOf(error) ?? messageOf(error)}): set TMPDIR to a folder with ${bytesText(size)} free`,
        );
      }
    }
    return first(copy);
  } finally {
    // What is open stays readable, and nothing is left behind however this process ends.
    rmSync(dir, { recursive: true, force: true });
  }
}

function explained(file: string, error: unknown): unknown {
  const code = codeOf(error) ?? '';
  if (code === 'SQLITE_NOTADB')
    return new NdtError('DATA', `${file} is no SQLite database, or its first page is damaged: is it the buffer (outbox.db)?`, {
      cause: error,
    });
  if (code.startsWith('SQLITE_CORRUPT')) return damaged(file, error);
  if (code.startsWith('SQLITE_'))
    return new NdtError('IO', `${file} cannot be read (${messageOf(error)}): run this as the agent’s user, and check the disk (dmesg)`, {
      cause: error,
    });
  return error;
}

export function damaged(file: string, error: unknown): NdtError {
  return new NdtError(
    'DATA',
    `${file} is damaged (${messageOf(error)}): start the agent, which puts the file aside and saves what can be read; or try a copy with buffer export --file`,
    { cause: error },
  );
}
