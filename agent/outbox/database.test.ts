import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { openOutbox, record } from '../../test/outbox.ts';
import { tempDir } from '../../test/tempdir.ts';
import { OutboxDb } from './database.ts';

it('opens beside a program that writes, and sees the account of one moment', async () => {
  const dir = tempDir();
  const outbox = openOutbox(dir);
  outbox.append([record('first')], new Map());
  outbox.close();
  const file = join(dir, 'outbox.db');
  // As an agent does that takes records in, but as fast as it can.
  const script = `
    import Database from ${JSON.stringify(import.meta.resolve('better-sqlite3'))};
    const db = new Database(${JSON.stringify(file)});
    db.pragma('synchronous = OFF');
    const step = db.transaction(() => {
      db.exec("UPDATE meta SET value = value + 1 WHERE name IN ('pending', 'last_seq', 'version')");
      db.exec("UPDATE counts SET n = n + 1 WHERE what = 'produced'");
    });
    console.log('writes');
    const pause = new Int32Array(new SharedArrayBuffer(4));
    // Others get the lock as well.
    for (;;) {
      for (let i = 0; i < 5; i += 1) step.immediate();
      Atomics.wait(pause, 0, 0, 0.5);
    }
  `;
  const writer = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void writer.kill('SIGKILL'));
  await once(writer.stdout, 'data');

  const seen = new Set<number>();
  for (let i = 0; i < 300; i += 1) {
    const db = new OutboxDb(file, 2 ** 30);
    seen.add(db.persisted?.last ?? 0);
    db.close();
  }
  // It did write meanwhile.
  expect(seen.size).toBeGreaterThan(10);
  expect(writer.exitCode).toBeNull();
});
