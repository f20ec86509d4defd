/** Appends to the outbox, against the least that SQLite needs for the same bytes: a bare prepared insert in a transaction. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { Outbox } from '../agent/outbox.ts';
import { type BenchTable, median, printTable, rounded } from './table.ts';

const BATCH = 100;
const BATCHES = 100;
const ROUNDS = 9;
const BODY = JSON.stringify({ node_exporter: 'r1:9100', filler: 'x'.repeat(900) });

/** Appends per second of one round. */
function ours(dir: string, round: number): number {
  const outbox = new Outbox({
    file: join(dir, `ours-${round}.db`),
    agentId: 'a',
    boot: 'b',
    noticeTopic: 'n',
    maxBytes: 2 ** 40,
    maxAgeMs: 0,
  });
  const records = Array.from({ length: BATCH }, () => ({ topic: 'TP_r1', key: 'r1', body: BODY }));
  const started = performance.now();
  for (let i = 0; i < BATCHES; i += 1) outbox.append(records);
  const seconds = (performance.now() - started) / 1000;
  outbox.close();
  return (BATCH * BATCHES) / seconds;
}

function bare(dir: string, round: number): number {
  const db = new Database(join(dir, `bare-${round}.db`));
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  db.exec('CREATE TABLE records (seq INTEGER PRIMARY KEY, body TEXT NOT NULL)');
  const insert = db.prepare('INSERT INTO records (body) VALUES (?)');
  const batch = db.transaction(() => {
    for (let i = 0; i < BATCH; i += 1) insert.run(BODY);
  });
  const started = performance.now();
  for (let i = 0; i < BATCHES; i += 1) batch();
  const seconds = (performance.now() - started) / 1000;
  db.close();
  return (BATCH * BATCHES) / seconds;
}

export function run(): Promise<BenchTable> {
  const dir = mkdtempSync(join(tmpdir(), 'ndt-bench-'));
  const [mine, reference]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round += 1) {
    mine.push(ours(dir, round));
    reference.push(bare(dir, round));
  }
  rmSync(dir, { recursive: true });
  const ratio = median(mine.map((value, i) => value / (reference[i] ?? Number.NaN)));
  return Promise.resolve({
    name: `outbox: records/s appended in batches of ${BATCH}, each batch on disk before the next`,
    rows: [
      { what: 'bare better-sqlite3 loop', 'records/s': Math.round(median(reference)), 'µs/record': rounded(1e6 / median(reference)) },
      { what: 'ndt outbox', 'records/s': Math.round(median(mine)), 'µs/record': rounded(1e6 / median(mine)) },
    ],
    checks: [{ what: 'times the bare loop', value: rounded(ratio), target: '>= 0.5', ok: ratio >= 0.5 }],
  });
}

if (import.meta.main) printTable(await run());
