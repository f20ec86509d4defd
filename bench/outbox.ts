/**
 * The outbox against the least that SQLite needs for the same records: a bare prepared insert (and a bare read and delete) in a
 * transaction, in the same run and on the same disk. For each durability and batch size: appending, reading and settling, and both in
 * turns; records a second, and bytes that the kernel wrote to disk per record (`/proc/self/io`).
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { bytesWritten } from '../agent/metrics.ts';
import { type Durability, Outbox } from '../agent/outbox.ts';
import { type BenchTable, median, printTable, rounded } from './table.ts';

const BODY = JSON.stringify({ node_exporter: 'r1:9100', filler: 'x'.repeat(900) });
const BATCHES = [1, 10, 100, 1000];
/** Records of one measurement, by batch size: about a second at most. */
const RECORDS: { [batch: number]: number } = { 1: 200, 10: 2000, 100: 10_000, 1000: 10_000 };
const ROUNDS = 5;

type Work = 'append' | 'read+settle' | 'mixed';

/** What is measured: `append` makes so many records durable, `take` reads and deletes so many. */
interface Subject {
  append(n: number): void;
  take(n: number): void;
  close(): void;
}

function ours(file: string, durability: Durability): Subject {
  const outbox = new Outbox({
    file,
    agentId: 'a',
    boot: 'b',
    noticeTopic: 'n',
    maxBytes: 2 ** 40,
    maxAgeMs: 0,
    durability,
    memoryBytes: 64 * 2 ** 20,
  });
  return {
    append: (n) => void outbox.append(Array.from({ length: n }, () => ({ topic: 'TP_r1', key: 'r1', body: BODY }))),
    take: (n) => outbox.settle({ acked: outbox.read('all', n).map(({ seq }) => seq), rejected: [] }),
    close: () => outbox.close(),
  };
}

function bare(file: string, synchronous: 'FULL' | 'NORMAL'): Subject {
  const db = new Database(file);
  db.pragma('journal_mode = WAL');
  db.pragma(`synchronous = ${synchronous}`);
  db.exec('CREATE TABLE records (seq INTEGER PRIMARY KEY, body TEXT NOT NULL)');
  const insert = db.prepare('INSERT INTO records (body) VALUES (?)');
  const read = db.prepare<[number], { seq: number; body: string }>('SELECT seq, body FROM records ORDER BY seq LIMIT ?');
  const remove = db.prepare('DELETE FROM records WHERE seq BETWEEN ? AND ?');
  return {
    append: db.transaction((n: number) => {
      for (let i = 0; i < n; i += 1) insert.run(BODY);
    }),
    take: (n) => {
      const rows = read.all(n);
      remove.run(rows[0]?.seq ?? 0, rows.at(-1)?.seq ?? 0);
    },
    close: () => void db.close(),
  };
}

interface Figures {
  /** Records a second. */
  speed: number;
  /** Bytes to disk per record. */
  bytes: number;
}

function measure(subject: Subject, work: Work, batch: number): Figures {
  const n = RECORDS[batch] ?? 1000;
  if (work === 'read+settle') for (let i = 0; i < n; i += 1000) subject.append(Math.min(1000, n - i));
  const before = bytesWritten() ?? Number.NaN;
  const started = performance.now();
  for (let i = 0; i < n; i += batch) {
    if (work !== 'read+settle') subject.append(batch);
    if (work !== 'append') subject.take(batch);
  }
  const seconds = (performance.now() - started) / 1000;
  subject.close();
  return { speed: n / seconds, bytes: ((bytesWritten() ?? Number.NaN) - before) / n };
}

export function run(): Promise<BenchTable> {
  const dir = mkdtempSync(join(tmpdir(), 'ndt-bench-'));
  const table: BenchTable = {
    name: 'outbox: records of 930 bytes, each batch one commit; times the bare better-sqlite3 loop in the same run',
    rows: [],
    checks: [],
  };
  let files = 0;
  const file = () => {
    files += 1;
    return join(dir, `${files}.db`);
  };
  const durabilities: Durability[] = ['full', 'normal', 'on-outage'];
  const works: Work[] = ['append', 'read+settle', 'mixed'];
  for (const durability of durabilities) {
    for (const work of works) {
      for (const batch of BATCHES) {
        const [mine, reference]: [Figures[], Figures[]] = [[], []];
        for (let round = 0; round < ROUNDS; round += 1) {
          mine.push(measure(ours(file(), durability), work, batch));
          reference.push(measure(bare(file(), durability === 'full' ? 'FULL' : 'NORMAL'), work, batch));
        }
        for (const name of readdirSync(dir)) rmSync(join(dir, name));
        const of = (figures: Figures[], key: keyof Figures) => median(figures.map((figure) => figure[key]));
        const ratio = median(mine.map(({ speed }, i) => speed / (reference[i]?.speed ?? Number.NaN)));
        table.rows.push({
          durability,
          work,
          batch,
          'records/s': Math.round(of(mine, 'speed')),
          'bare records/s': Math.round(of(reference, 'speed')),
          'x bare': rounded(ratio),
          'bytes/record': Math.round(of(mine, 'bytes')),
          'bare bytes/record': Math.round(of(reference, 'bytes')),
        });
        if (durability === 'full' && work === 'append' && batch === 100)
          table.checks.push({
            what: 'appending batches of 100, times the bare loop',
            value: rounded(ratio),
            target: '>= 0.5',
            ok: ratio >= 0.5,
          });
      }
    }
  }
  rmSync(dir, { recursive: true, force: true });
  return Promise.resolve(table);
}

if (import.meta.main) printTable(await run());
