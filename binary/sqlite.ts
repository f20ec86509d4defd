/** better-sqlite3 as the released binary has it: the addon comes out of the binary itself. */
import { dirname, resolve } from 'node:path';
import createDatabase from 'better-sqlite3/lib/database.js';
import SqliteError from 'better-sqlite3/lib/sqlite-error.js';
import { ADDON, loadAddon } from './addon.ts';

let addon: unknown;
/** Of the database that is opened first: it is opened to be written to. */
let dataFolder: string | undefined;

const Database = createDatabase(() => {
  addon ??= loadAddon(ADDON, dataFolder);
  return addon;
}, false);
Database.SqliteError = SqliteError;

export default new Proxy(Database, {
  construct(target, args: unknown[], newTarget) {
    const [file] = args;
    if (typeof file === 'string' && file !== '' && file !== ':memory:') dataFolder ??= dirname(resolve(file));
    return Reflect.construct(target, args, newTarget) as object;
  },
});
