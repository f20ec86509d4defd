/** Reading the store: routers, series, records, latencies. Times are event times in Unix µs; ranges are [from, to). */
import type { Db } from '../common/sqlite.ts';
import { type Figures, type Latencies, METRICS, type Metric, MINUTE_MICROS, STAGE_NUMBER, type StoredStage } from './figures.ts';

/** A record's place in the order of one router's stage: event time, then the order in which it came in. */
export interface Cursor {
  at: number;
  id: number;
}

export interface RouterState {
  router: string;
  processed: Figures | undefined;
  inferred: Figures | undefined;
}

/** One step of a series that has values. */
export interface Bucket {
  /** Where the step begins: a multiple of the step since 1970. */
  at: number;
  average: number;
  least: number;
  most: number;
  count: number;
}

export interface StoredRecord extends Cursor {
  agent: string;
  seq: number;
  /** The JSON text as it came. */
  body: string;
}

export interface Quantiles {
  count: number;
  p50: number;
  p99: number;
}

/** A record this far ahead of our clock comes from a wrong one, and is no router's last while there is another. */
const AHEAD_MICROS = 60_000_000;
/** Characters of records in one answer: a thousand of the largest would be no string any more. */
const LONGEST_PAGE = 32 * 2 ** 20;
const LATENCY_ROWS = 5000;

interface FigureRow extends Latencies {
  at: number;
  rate: number | null;
  length: number | null;
  occupation: number | null;
  power: number | null;
  replayed: number;
}

interface Range {
  router: number;
  stage: number;
  from: number;
  to: number;
}

export class History {
  private readonly statements;
  private readonly series: Readonly<Record<Metric, { all(range: Range & { step: number; inner: number; outer: number }): Bucket[] }>>;

  constructor(db: Db) {
    const columns = 'at, rate, length, occupation, power, collected, processed, inferred, replayed';
    const page = `SELECT f.at, f.id, a.name AS agent, r.seq, r.body FROM figures f JOIN records r ON r.id = f.id JOIN agents a ON a.id = r.agent
      WHERE f.router = @router AND f.stage = @stage AND (f.at, f.id) > (@lowAt, @lowId) AND (f.at, f.id) < (@highAt, @highId)`;
    type Page = { router: number; stage: number; lowAt: number; lowId: number; highAt: number; highId: number; limit: number };
    this.statements = {
      routers: db.prepare<[], { id: number; name: string }>('SELECT id, name FROM routers ORDER BY name'),
      router: db.prepare<[string], { id: number }>('SELECT id FROM routers WHERE name = ?'),
      last: db.prepare<[number, number, number], FigureRow>(
        `SELECT ${columns} FROM figures WHERE router = ? AND stage = ? AND at < ? ORDER BY at DESC, id DESC LIMIT 1`,
      ),
      first: db.prepare<[number, number], { at: number }>('SELECT at FROM figures WHERE router = ? AND stage = ? ORDER BY at LIMIT 1'),
      newestFirst: db.prepare<[Page], StoredRecord>(`${page} ORDER BY f.at DESC, f.id DESC LIMIT @limit`),
      oldestFirst: db.prepare<[Page], StoredRecord>(`${page} ORDER BY f.at, f.id LIMIT @limit`),
      latencies: db.prepare<[number, number, number, number], Latencies>(
        'SELECT collected, processed, inferred FROM figures WHERE router = ? AND stage = ? AND at >= ? AND replayed = 0 ORDER BY at DESC LIMIT ?',
      ),
    };
    const part = (metric: Metric, low: string, high: string) => `
      SELECT at / CAST(@step AS INTEGER) AS b, sum(${metric}) AS s, min(${metric}) AS lo, max(${metric}) AS hi, count(${metric}) AS n
      FROM figures WHERE router = @router AND stage = @stage AND at >= ${low} AND at < ${high} GROUP BY b`;
    // Whole minutes inside of the range come added up, the rest of it record by record.
    const statement = (metric: Metric) =>
      db.prepare<[Range & { step: number; inner: number; outer: number }], Bucket>(`
        SELECT b * CAST(@step AS INTEGER) AS at, sum(s) / sum(n) AS average, min(lo) AS least, max(hi) AS most, sum(n) AS count FROM (
          ${part(metric, '@from', '@inner')}
          UNION ALL
          SELECT minute * ${MINUTE_MICROS} / CAST(@step AS INTEGER) AS b, sum(${metric}_sum) AS s, min(${metric}_min) AS lo, max(${metric}_max) AS hi, sum(${metric}_n) AS n
          FROM minutes WHERE router = @router AND stage = @stage AND minute >= CAST(@inner AS INTEGER) / ${MINUTE_MICROS} AND minute < CAST(@outer AS INTEGER) / ${MINUTE_MICROS}
            AND @inner < @outer GROUP BY b
          UNION ALL
          ${part(metric, '@outer', '@to')}
        ) GROUP BY b HAVING sum(n) > 0 ORDER BY b`);
    this.series = { rate: statement('rate'), length: statement('length'), occupation: statement('occupation'), power: statement('power') };
  }

  /** All routers that have a record, by name. */
  routers(nowMicros: number): RouterState[] {
    return this.statements.routers
      .all()
      .map(({ id, name }) => this.stateOf(id, name, nowMicros))
      .filter(({ processed, inferred }) => processed !== undefined || inferred !== undefined);
  }

  /** One router, or undefined when it has no record. */
  router(name: string, nowMicros: number): RouterState | undefined {
    const id = this.statements.router.get(name)?.id;
    if (id === undefined) return undefined;
    const state = this.stateOf(id, name, nowMicros);
    return state.processed === undefined && state.inferred === undefined ? undefined : state;
  }

  /** Event time of the router's oldest record. */
  oldest(name: string): number | undefined {
    const id = this.statements.router.get(name)?.id;
    if (id === undefined) return undefined;
    const times = Object.values(STAGE_NUMBER).flatMap((stage) => this.statements.first.get(id, stage)?.at ?? []);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /**
   * Average, least and greatest value of each step of [from, to) in which the router had one, in order. Steps begin at multiples of
   * `step` since 1970, so the first and the last may be cut by the range: only records within it count.
   */
  buckets(name: string, metric: Metric, from: number, to: number, step: number): Bucket[] {
    const router = this.statements.router.get(name)?.id;
    if (router === undefined) return [];
    const whole = step % MINUTE_MICROS === 0;
    const inner = whole ? Math.min(Math.ceil(from / MINUTE_MICROS) * MINUTE_MICROS, to) : to;
    const outer = whole ? Math.max(Math.floor(to / MINUTE_MICROS) * MINUTE_MICROS, inner) : to;
    return this.series[metric].all({ router, stage: STAGE_NUMBER[METRICS[metric].stage], from, to, step, inner, outer });
  }

  /**
   * Records of [from, to). With `after`: those behind it, oldest first. Otherwise newest first, with `before` those in front of it.
   * Fewer than `limit` where they are large: the cursors lead on.
   */
  records(
    name: string,
    stage: StoredStage,
    limit: number,
    range: { from?: number; to?: number; before?: Cursor; after?: Cursor },
  ): StoredRecord[] {
    const router = this.statements.router.get(name)?.id;
    if (router === undefined) return [];
    const lows = [{ at: range.from ?? 0, id: -1 }, ...(range.after === undefined ? [] : [range.after])];
    const highs = [{ at: range.to ?? Number.MAX_SAFE_INTEGER, id: -1 }, ...(range.before === undefined ? [] : [range.before])];
    const low = lows.reduce((a, b) => (compare(a, b) > 0 ? a : b));
    const high = highs.reduce((a, b) => (compare(a, b) < 0 ? a : b));
    const statement = range.after === undefined ? this.statements.newestFirst : this.statements.oldestFirst;
    const page = { router, stage: STAGE_NUMBER[stage], lowAt: low.at, lowId: low.id, highAt: high.at, highId: high.id, limit };
    const found: StoredRecord[] = [];
    let length = 0;
    for (const record of statement.iterate(page)) {
      found.push(record);
      length += record.body.length;
      if (length >= LONGEST_PAGE) break;
    }
    return found;
  }

  /** Latencies since `from` of records that did not wait out an outage, the newest 5000 at most. */
  latencies(name: string, from: number): { [stage in keyof Latencies]: Quantiles | undefined } {
    const router = this.statements.router.get(name)?.id;
    const none = { collected: undefined, processed: undefined, inferred: undefined };
    if (router === undefined) return none;
    const inferred = this.statements.latencies.all(router, STAGE_NUMBER.inferred, from, LATENCY_ROWS);
    const rows = inferred.length > 0 ? inferred : this.statements.latencies.all(router, STAGE_NUMBER.processed, from, LATENCY_ROWS);
    const of = (stage: keyof Latencies) => quantiles(rows.flatMap((row) => row[stage] ?? []));
    return { collected: of('collected'), processed: of('processed'), inferred: of('inferred') };
  }

  private stateOf(id: number, router: string, nowMicros: number): RouterState {
    const last = (stage: StoredStage): Figures | undefined => {
      const row =
        this.statements.last.get(id, STAGE_NUMBER[stage], nowMicros + AHEAD_MICROS) ??
        this.statements.last.get(id, STAGE_NUMBER[stage], Number.MAX_SAFE_INTEGER);
      if (row === undefined) return undefined;
      const { collected, processed, inferred, replayed, ...figures } = row;
      return { router, stage, ...figures, latency: { collected, processed, inferred }, replayed: replayed === 1 };
    };
    return { router, processed: last('processed'), inferred: last('inferred') };
  }
}

function compare(a: Cursor, b: Cursor): number {
  return a.at - b.at || a.id - b.id;
}

/** Median and 99th percentile by nearest rank; undefined of nothing. */
export function quantiles(values: number[]): Quantiles | undefined {
  if (values.length === 0) return undefined;
  values.sort((a, b) => a - b);
  const rank = (q: number) => values[Math.ceil(values.length * q) - 1] ?? Number.NaN;
  return { count: values.length, p50: rank(0.5), p99: rank(0.99) };
}
