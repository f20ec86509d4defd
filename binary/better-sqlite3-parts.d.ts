/** What the binary takes of better-sqlite3's inside, which has no types of its own. */
declare module 'better-sqlite3/lib/database.js' {
  import type Database from 'better-sqlite3';

  /** Makes the class over an addon that is loaded when the first database is opened. */
  export default function createDatabase(getAddon: () => unknown, allowNativeBinding: boolean): typeof Database;
}

declare module 'better-sqlite3/lib/sqlite-error.js' {
  import type Database from 'better-sqlite3';

  const SqliteError: typeof Database.SqliteError;
  export default SqliteError;
}
