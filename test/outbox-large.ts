/** A buffer's file with a backlog of any size, made quickly. */
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import Database from 'better-sqlite3';
import { FIRST, openOutbox } from './outbox.ts';

/** Makes `outbox.db` with so many records in a folder. */
export function makeBacklog(dir: string, n: number): void {
  openOutbox(dir).close();
  const db = new Database(join(dir, 'outbox.db'));
  db.pragma('synchronous = OFF');
  db.pragma('wal_autocheckpoint = 20000');
  db.function('crc', { deterministic: true }, (text, seq) => crc32(String(text), crc32(`${String(seq)} 1 1 0 b0 TP_r1 r1 `)));
  db.transaction(() => {
    db.prepare(
      `INSERT INTO records (seq, at, elapsed, era, boot, topic, key, body, crc)
       WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?)
       SELECT ${FIRST} + i, 1, 1, 0, 'b0', 'TP_r1', 'r1', '{"i":' || i || '}', crc('{"i":' || i || '}', ${FIRST} + i) FROM n`,
    ).run(n);
    const set = db.prepare('INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value');
    for (const name of ['last_seq', 'floor']) set.run(name, FIRST + n - 1);
    set.run('pending', n);
    // Above the mark beside it.
    set.run('version', 1000);
    db.prepare("UPDATE counts SET n = ? WHERE what = 'produced'").run(n);
  })();
  db.close();
}
