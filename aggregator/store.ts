/**
 * The store: every processed and inferred record once, by event time, in one SQLite file.
 *
 * `records` holds the JSON texts and what identifies them; `figures` the charted numbers, clustered by router, stage and event time, so
 * that a chart reads neighbouring rows and never touches the texts; `minutes` the same added up by minute, for charts over days.
 *
 * A record is identified by stage, agent and sequence number. Records of producers that number nothing are identified by their place on
 * the bus together with their event time: offsets begin anew when a bus is set up anew, and nothing may be taken for a duplicate then.
 */
import { type Delivered, HEADER, type Message } from '../common/bus.ts';
import { parseRecord, RecordError, routerOf, type TelemetryRecord } from '../common/record.ts';
import type { Config } from '../common/schema.ts';
import { type Db, openDb } from '../common/sqlite.ts';
import { type TopicSet, topicsOf } from '../common/topics.ts';
import { type Figures, figuresOf, METRIC_NAMES, type Metric, MINUTE_MICROS, STAGE_NUMBER, type StoredStage } from './figures.ts';
import { History } from './history.ts';
import { Inventories, inventoryIn, type StoredInventory } from './inventories.ts';
import { type Notice, Notices, parseNotice } from './notices.ts';
import { deadLetter } from './rates.ts';

/** What became of a batch. */
export interface Taken {
  /** Records that are new, in the batch's order. */
  stored: Figures[];
  duplicates: number;
  notices: number;
  /** Inventories, also those that are older than what is known. */
  inventories: number;
  /** What could not be used, with the reason and its origin in headers. */
  deadLetters: Message[];
}

interface Candidate {
  record: TelemetryRecord;
  text: string;
  figures: Figures;
  agent: string;
  seq: number;
  /** 0 where the agent numbers its records, else the event time. */
  nonce: number;
}

interface Sum {
  n: number;
  sum: number;
  least: number;
  most: number;
}

type Minute = { router: number; stage: number; minute: number } & { [metric in Metric]: Sum };

export class Store {
  readonly history: History;
  readonly notices: Notices;
  readonly inventories: Inventories;
  private readonly db: Db;
  private readonly topics: { processed: TopicSet; inferred: TopicSet; inventory: TopicSet; notices: string; deadLetters: string };
  private readonly stageOfTopic = new Map<string, StoredStage | 'notices' | 'inventory' | undefined>();
  private readonly routerIds = new Map<string, number>();
  private readonly agentIds = new Map<string, number>();
  private readonly statements;

  /** @throws NdtError CANNOT_CREATE where the file cannot be made or opened */
  constructor(file: string, topics: Config['topics']) {
    this.db = openDb(file, 'full');
    this.db.exec(`
      CREATE TABLE IF NOT EXISTS routers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
      CREATE TABLE IF NOT EXISTS agents (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
      CREATE TABLE IF NOT EXISTS records (
        id INTEGER PRIMARY KEY, stage INTEGER NOT NULL, agent INTEGER NOT NULL, seq INTEGER NOT NULL, nonce INTEGER NOT NULL, body TEXT NOT NULL
      );
      CREATE UNIQUE INDEX IF NOT EXISTS records_once ON records (agent, stage, seq, nonce);
      CREATE TABLE IF NOT EXISTS figures (
        router INTEGER NOT NULL, stage INTEGER NOT NULL, at INTEGER NOT NULL, id INTEGER NOT NULL,
        rate REAL, length REAL, occupation REAL, power REAL, collected REAL, processed REAL, inferred REAL, replayed INTEGER NOT NULL,
        PRIMARY KEY (router, stage, at, id)
      ) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS minutes (
        router INTEGER NOT NULL, stage INTEGER NOT NULL, minute INTEGER NOT NULL,
        ${METRIC_NAMES.map((m) => `${m}_n INTEGER NOT NULL, ${m}_sum REAL NOT NULL, ${m}_min REAL, ${m}_max REAL`).join(', ')},
        PRIMARY KEY (router, stage, minute)
      ) WITHOUT ROWID;
    `);
    this.topics = {
      processed: topicsOf(topics.processed),
      inferred: topicsOf(topics.inferred),
      inventory: topicsOf(topics.inventory),
      notices: topics.notices,
      deadLetters: topics.dead_letters,
    };
    this.notices = new Notices(this.db);
    this.inventories = new Inventories(this.db);
    this.history = new History(this.db);
    this.statements = {
      addRouter: this.db.prepare('INSERT INTO routers (name) VALUES (?) ON CONFLICT DO NOTHING'),
      routerId: this.db.prepare<[string], { id: number }>('SELECT id FROM routers WHERE name = ?'),
      addAgent: this.db.prepare('INSERT INTO agents (name) VALUES (?) ON CONFLICT DO NOTHING'),
      agentId: this.db.prepare<[string], { id: number }>('SELECT id FROM agents WHERE name = ?'),
      addRecord: this.db.prepare('INSERT INTO records (stage, agent, seq, nonce, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING'),
      addFigures: this.db.prepare('INSERT INTO figures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)'),
      addMinute: this.db.prepare(
        `INSERT INTO minutes VALUES (?, ?, ?, ${METRIC_NAMES.map(() => '?, ?, ?, ?').join(', ')}) ON CONFLICT DO UPDATE SET ${METRIC_NAMES.map(
          (m) =>
            `${m}_n = ${m}_n + excluded.${m}_n, ${m}_sum = ${m}_sum + excluded.${m}_sum, ` +
            `${m}_min = coalesce(min(${m}_min, excluded.${m}_min), ${m}_min, excluded.${m}_min), ` +
            `${m}_max = coalesce(max(${m}_max, excluded.${m}_max), ${m}_max, excluded.${m}_max)`,
        ).join(', ')}`,
      ),
      series: this.db.prepare<[], { router: number; stage: number }>(
        'SELECT r.id AS router, s.column1 AS stage FROM routers r CROSS JOIN (VALUES (1), (2)) s',
      ),
      old: this.db.prepare<[number, number, number, number], { at: number; id: number }>(
        'SELECT at, id FROM figures WHERE router = ? AND stage = ? AND at < ? ORDER BY at, id LIMIT ?',
      ),
      dropRecord: this.db.prepare('DELETE FROM records WHERE id = ?'),
      dropFigures: this.db.prepare('DELETE FROM figures WHERE router = ? AND stage = ? AND (at, id) <= (?, ?)'),
      dropMinutes: this.db.prepare('DELETE FROM minutes WHERE router = ? AND stage = ? AND minute < ?'),
    };
  }

  /**
   * Stores a batch in one transaction; durable when it returns. What came before is counted and changes nothing.
   * @throws what SQLite throws (a full disk); then nothing of the batch is stored
   */
  take(batch: readonly Delivered[]): Taken {
    const taken: Taken = { stored: [], duplicates: 0, notices: 0, inventories: 0, deadLetters: [] };
    const candidates: Candidate[] = [];
    const notices: Notice[] = [];
    const inventories: StoredInventory[] = [];
    for (const message of batch) {
      try {
        const stage = this.stageOf(message.topic);
        if (stage === 'notices') notices.push(parseNotice(message.value.toString()));
        else if (stage === 'inventory') inventories.push(inventoryIn(message));
        else candidates.push(candidate(message, stage));
      } catch (error) {
        if (!(error instanceof RecordError)) throw error;
        taken.deadLetters.push(deadLetter(message, error.message, this.topics.deadLetters));
      }
    }
    try {
      this.db
        .transaction(() => {
          const minutes = new Map<string, Minute>();
          for (const entry of candidates) {
            if (this.add(entry, minutes)) taken.stored.push(entry.figures);
            else taken.duplicates += 1;
          }
          for (const { router, stage, minute, ...sums } of minutes.values()) {
            this.statements.addMinute.run(router, stage, minute, ...METRIC_NAMES.flatMap((m) => sumColumns(sums[m])));
          }
          for (const notice of notices) this.notices.take(notice);
          for (const inventory of inventories) this.inventories.take(inventory);
        })
        .immediate();
    } catch (error) {
      // Numbers given out in a transaction that is taken back are void.
      this.routerIds.clear();
      this.agentIds.clear();
      throw error;
    }
    taken.notices = notices.length;
    taken.inventories = inventories.length;
    return taken;
  }

  /**
   * Deletes the oldest records from before `beforeMicros` (event time, rounded down to a minute), at most about `limit`, in one transaction.
   * @returns how many; fewer than `limit` means that nothing old is left
   */
  retain(beforeMicros: number, limit = 500): number {
    const minute = Math.floor(beforeMicros / MINUTE_MICROS);
    const horizon = minute * MINUTE_MICROS;
    return this.db
      .transaction(() => {
        let deleted = 0;
        for (const { router, stage } of this.statements.series.all()) {
          const rows = this.statements.old.all(router, stage, horizon, limit - deleted);
          const last = rows.at(-1);
          if (last === undefined) {
            this.statements.dropMinutes.run(router, stage, minute);
            continue;
          }
          for (const { id } of rows) this.statements.dropRecord.run(id);
          this.statements.dropFigures.run(router, stage, last.at, last.id);
          // Whole minutes only, once all of their records are gone.
          this.statements.dropMinutes.run(router, stage, rows.length < limit - deleted ? minute : Math.floor(last.at / MINUTE_MICROS));
          deleted += rows.length;
          if (deleted >= limit) break;
        }
        return deleted;
      })
      .immediate();
  }

  close(): void {
    this.db.close();
  }

  private stageOf(topic: string): StoredStage | 'notices' | 'inventory' {
    let stage = this.stageOfTopic.get(topic);
    if (stage === undefined) {
      if (topic === this.topics.notices) stage = 'notices';
      else if (this.topics.inventory.matches(topic)) stage = 'inventory';
      else if (this.topics.inferred.matches(topic)) stage = 'inferred';
      else if (this.topics.processed.matches(topic)) stage = 'processed';
      else throw new RecordError('', `${topic} is no topic of processed or inferred records`);
      this.stageOfTopic.set(topic, stage);
    }
    return stage;
  }

  private add({ text, figures, agent, seq, nonce }: Candidate, minutes: Map<string, Minute>): boolean {
    const stage = STAGE_NUMBER[figures.stage];
    const { changes, lastInsertRowid } = this.statements.addRecord.run(stage, this.agentId(agent), seq, nonce, text);
    if (changes === 0) return false;
    const router = this.routerId(figures.router);
    const { at, rate, length, occupation, power, latency, replayed } = figures;
    const { collected, processed, inferred } = latency;
    this.statements.addFigures.run(
      router,
      stage,
      at,
      lastInsertRowid,
      rate,
      length,
      occupation,
      power,
      collected,
      processed,
      inferred,
      replayed ? 1 : 0,
    );
    const minute = Math.floor(at / MINUTE_MICROS);
    const key = `${router} ${stage} ${minute}`;
    let sums = minutes.get(key);
    if (sums === undefined) {
      sums = { router, stage, minute, rate: noSum(), length: noSum(), occupation: noSum(), power: noSum() };
      minutes.set(key, sums);
    }
    for (const metric of METRIC_NAMES) addTo(sums[metric], figures[metric]);
    return true;
  }

  private routerId(name: string): number {
    return idOf(name, this.routerIds, () => {
      this.statements.addRouter.run(name);
      return this.statements.routerId.get(name)?.id;
    });
  }

  private agentId(name: string): number {
    return idOf(name, this.agentIds, () => {
      this.statements.addAgent.run(name);
      return this.statements.agentId.get(name)?.id;
    });
  }
}

function candidate({ topic, partition, offset, headers, value }: Delivered, stage: StoredStage): Candidate {
  const text = value.toString();
  const record = parseRecord(text, stage);
  const figures = figuresOf(record, routerOf(record), stage, headers[HEADER.replayed] === '1');
  if (!Number.isSafeInteger(figures.at))
    throw new RecordError('epoch_timestamp', `expected a time before the year 2255, got "${record.epoch_timestamp}"`);
  const agent = headers[HEADER.agent];
  const seq = Number(headers[HEADER.seq]);
  if (agent !== undefined && Number.isSafeInteger(seq)) return { record, text, figures, agent, seq, nonce: 0 };
  return { record, text, figures, agent: `bus:${topic}/${partition}`, seq: Number(offset), nonce: figures.at };
}

function idOf(name: string, ids: Map<string, number>, find: () => number | undefined): number {
  let id = ids.get(name);
  if (id === undefined) {
    id = find();
    if (id === undefined) throw new Error(`${name} is neither new nor there`);
    ids.set(name, id);
  }
  return id;
}

function noSum(): Sum {
  return { n: 0, sum: 0, least: Number.POSITIVE_INFINITY, most: Number.NEGATIVE_INFINITY };
}

function addTo(sum: Sum, value: number | null): void {
  if (value === null) return;
  sum.n += 1;
  sum.sum += value;
  if (value < sum.least) sum.least = value;
  if (value > sum.most) sum.most = value;
}

function sumColumns({ n, sum, least, most }: Sum): Array<number | null> {
  return [n, sum, n === 0 ? null : least, n === 0 ? null : most];
}
