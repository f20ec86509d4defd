/** Opening SQLite files: durable settings, and messages that say what to do when it cannot be done. */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import { codeOf, messageOf, NdtError } from './errors.ts';

export type Db = Database.Database;

/**
 * Opens (and makes) a database file with write-ahead log. `full` waits for the disk at every commit; `normal` may lose the last
 * commits in a power cut, never their order.
 * @throws NdtError CANNOT_CREATE where the file or its folder cannot be made or written
 */
export function openDb(file: string, durability: 'full' | 'normal' = 'full'): Db {
  ensureDir(dirname(file));
  try {
    const db = new Database(file, { timeout: 5000 });
    db.pragma('journal_mode = WAL');
    db.pragma(`synchronous = ${durability}`);
    db.pragma('wal_autocheckpoint = 1000');
    return db;
  } catch (error) {
    throw new NdtError(
      'CANNOT_CREATE',
      `cannot open the database ${file} (${messageOf(error)}): check that the file is ndt’s and that this user may write to it`,
      {
        cause: error,
      },
    );
  }
}

/** Makes a folder that this process can write to. @throws NdtError CANNOT_CREATE */
export function ensureDir(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o750 });
    accessSync(dir, constants.W_OK | constants.X_OK);
  } catch (error) {
    const code = codeOf(error) ?? messageOf(error);
    // The service may write to its state folder alone.
    const confined = code === 'EROFS' ? ', name it in ReadWritePaths= where systemd confines this program (systemctl edit)' : '';
    throw new NdtError(
      'CANNOT_CREATE',
      `cannot write to the data folder ${dir} (${code}): make it writable for this user${confined}, or set data_dir (NDT_DATA_DIR) to another folder`,
    );
  }
}

/**
 * Takes a folder for this process. The lock is a lock of the kernel on a file, so it is gone with the process, however that ends.
 * @throws NdtError UNAVAILABLE when another process has it
 */
export function lockDir(dir: string, name: string): () => void {
  ensureDir(dir);
  const db = new Database(`${dir}/${name}.lock`, { timeout: 0 });
  try {
    db.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    db.close();
    if (codeOf(error) !== 'SQLITE_BUSY') {
      throw new NdtError('CANNOT_CREATE', `cannot lock ${dir}/${name}.lock (${messageOf(error)}): check that this user may write to it`, {
        cause: error,
      });
    }
    throw new NdtError(
      'UNAVAILABLE',
      `another ndt ${name} is running on ${dir}: stop it, or give this one a data folder of its own (data_dir, NDT_DATA_DIR)`,
    );
  }
  return () => db.close();
}
