/**
 * Records per second through the embedded aggregator: bus, inference and store, all of it durable, against the same records parsed and
 * written to SQLite once.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { Live } from '../aggregator/live.ts';
import { Store } from '../aggregator/store.ts';
import { STORE_GROUP, StoreStage, storeTopics } from '../aggregator/store-stage.ts';
import { HEADER, type Message } from '../common/bus.ts';
import { EmbeddedBus } from '../common/bus-embedded.ts';
import { loadConfig } from '../common/config.ts';
import { Metrics } from '../common/metrics.ts';
import { epochText, parseRecord, printRecord } from '../common/record.ts';
import { topicsOf } from '../common/topics.ts';
import { loadModels, ML_GROUP, MlStage } from '../ml/worker.ts';
import { until } from '../test/until.ts';
import { type BenchTable, median, printTable, rounded } from './table.ts';

const RECORDS = 20_000;
const BATCH = 500;
const ROUTERS = 20;
const ROUNDS = 3;

function messages(): Message[] {
  const record = parseRecord(readFileSync(new URL('../test/fixtures/records/seed-processed.json', import.meta.url), 'utf8'), 'processed');
  return Array.from({ length: RECORDS }, (_, i) => {
    const router = `r${i % ROUTERS}`;
    const text = printRecord({
      ...record,
      node_exporter: `${router}:9100`,
      epoch_timestamp: epochText((1_745_233_000 + Math.floor(i / ROUTERS)) * 1e6),
    });
    return {
      topic: `TP_${router}`,
      key: router,
      headers: { [HEADER.agent]: 'bench', [HEADER.boot]: 'b', [HEADER.seq]: String(i + 1) },
      value: Buffer.from(text),
    };
  });
}

async function ours(all: Message[]): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), 'ndt-bench-'));
  const loaded = loadConfig(undefined, {});
  const metrics = new Metrics();
  const bus = new EmbeddedBus({ file: join(dir, 'bus.db') });
  const store = new Store(join(dir, 'store.db'), loaded.config.topics);
  const live = new Live();
  const stop = new AbortController();
  const stage = new StoreStage(store, live, metrics);
  let stored = 0;
  const counting = {
    handle: (batch: Parameters<StoreStage['handle']>[0]) => {
      const outcome = stage.handle(batch);
      stored += batch.length;
      return outcome;
    },
  };
  const running = [
    bus.consume(ML_GROUP, topicsOf(loaded.config.topics.processed), new MlStage(loaded, await loadModels(loaded), metrics), stop.signal),
    bus.consume(STORE_GROUP, storeTopics(loaded.config.topics), counting, stop.signal),
  ];
  const started = performance.now();
  for (let i = 0; i < all.length; i += BATCH) await bus.ingest(all.slice(i, i + BATCH));
  await until(() => stored === 2 * all.length, 'all records processed and inferred in the store', 120_000);
  const seconds = (performance.now() - started) / 1000;
  stop.abort();
  await Promise.all(running);
  live.close();
  store.close();
  await bus.close();
  rmSync(dir, { recursive: true });
  return all.length / seconds;
}

function reference(all: Message[]): number {
  const dir = mkdtempSync(join(tmpdir(), 'ndt-bench-'));
  const db = new Database(join(dir, 'reference.db'));
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  db.exec('CREATE TABLE records (id INTEGER PRIMARY KEY, router TEXT, body TEXT)');
  const insert = db.prepare('INSERT INTO records (router, body) VALUES (?, ?)');
  const started = performance.now();
  for (let i = 0; i < all.length; i += BATCH) {
    db.transaction(() => {
      for (const { value } of all.slice(i, i + BATCH)) {
        const record = JSON.parse(value.toString()) as { node_exporter: string };
        insert.run(record.node_exporter, JSON.stringify(record));
      }
    })();
  }
  const seconds = (performance.now() - started) / 1000;
  db.close();
  rmSync(dir, { recursive: true });
  return all.length / seconds;
}

export async function run(): Promise<BenchTable> {
  const all = messages();
  const [mine, once]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round += 1) {
    once.push(reference(all));
    mine.push(await ours(all));
  }
  const ratio = median(mine.map((value, i) => value / (once[i] ?? Number.NaN)));
  return {
    name: 'pipeline: records/s through the embedded aggregator (bus, inference, store), one process',
    rows: [
      { what: 'parse, print and insert once', 'records/s': Math.round(median(once)) },
      { what: 'ndt: take in, deduplicate, log, infer, log, store both', 'records/s': Math.round(median(mine)) },
    ],
    checks: [{ what: 'share of the bare insert', value: rounded(ratio), target: '>= 0.05', ok: ratio >= 0.05 }],
  };
}

if (import.meta.main) printTable(await run());
