import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Delivered, HEADER } from '../common/bus.ts';
import { EmbeddedBus } from '../common/bus-embedded.ts';
import { messageOf } from '../common/errors.ts';
import { Metrics } from '../common/metrics.ts';
import { printRecord } from '../common/record.ts';
import { openDb } from '../common/sqlite.ts';
import { delivered, deliveredPair, deliveredRecord, recordWith, TOPICS } from '../test/telemetry.ts';
import { tempDir } from '../test/tempdir.ts';
import { until } from '../test/until.ts';
import { Live } from './live.ts';
import { Store } from './store.ts';
import { retention, STORE_GROUP, StoreStage, storeTopics } from './store-stage.ts';

const SECOND = 1_000_000;
/** 2025-04-21T11:07:00Z: a whole minute. */
const T0 = 1_745_233_620 * SECOND;
const NOW = T0 + 86_400 * SECOND;

function openStore(file = join(tempDir(), 'store.db')): Store {
  const store = new Store(file, TOPICS);
  onTestFinished(() => store.close());
  return store;
}

function stored(store: Store, router = 'r1', stage: 'processed' | 'inferred' = 'processed') {
  return store.history.records(router, stage, 1000, { after: { at: 0, id: 0 } });
}

describe('taking records in', () => {
  it('keeps text, figures and latencies of a record', () => {
    const store = openStore();
    const record = recordWith({
      at: T0 + 217_227,
      rate: 301.97,
      length: 1464,
      occupation: 0.0018,
      power: 698.8,
      latency: { collected: 1.5, processed: 4, inferred: 11 },
    });
    expect(store.take([deliveredRecord(record, 7)])).toMatchObject({ duplicates: 0, deadLetters: [] });
    const [only] = stored(store, 'r1', 'inferred');
    expect(only).toMatchObject({ at: T0 + 217_227, agent: 'a1', seq: 7, body: printRecord(record) });
    expect(store.history.router('r1', NOW)).toEqual({
      router: 'r1',
      processed: undefined,
      inferred: {
        router: 'r1',
        stage: 'inferred',
        at: T0 + 217_227,
        rate: 301.97,
        length: 1464,
        occupation: 0.0018,
        power: 698.8,
        // process_timestamp is whole milliseconds.
        latency: { collected: 1.5, processed: 3.773, inferred: 11 },
        replayed: false,
      },
    });
  });

  it('has no latencies where the record does not tell', () => {
    const store = openStore();
    store.take([deliveredRecord(recordWith({ at: T0, latency: null }), 1)]);
    expect(store.history.router('r1', NOW)?.processed?.latency).toEqual({ collected: null, processed: null, inferred: null });
    const record = recordWith({ at: T0 + SECOND });
    const odd = { ...record, debug_params: { ...record.debug_params, collector_timestamp: 'soon', process_timestamp: 7 } };
    store.take([delivered('TP_r1', JSON.stringify(odd))]);
    expect(store.history.router('r1', NOW)?.processed?.latency).toEqual({ collected: null, processed: null, inferred: null });
  });

  it('takes a bare number as power, as other inference engines write it', () => {
    const store = openStore();
    const record = recordWith({ at: T0, power: 1 });
    store.take([
      delivered(
        'ML_r1',
        JSON.stringify({ ...record, output_ml_metrics: [{ name: 'node_network_power_consumption_wats', type: 'x', value: 512.5 }] }),
      ),
    ]);
    expect(store.history.router('r1', NOW)?.inferred?.power).toBe(512.5);
  });

  it('stores a record once, in the same batch, in a later one, and after a restart', () => {
    const file = join(tempDir(), 'store.db');
    const store = new Store(file, TOPICS);
    const pair = deliveredPair({ at: T0, power: 700 }, 1);
    expect(store.take([...pair, ...pair])).toMatchObject({ stored: [{ stage: 'processed' }, { stage: 'inferred' }], duplicates: 2 });
    expect(store.take(pair)).toMatchObject({ stored: [], duplicates: 2 });
    store.close();
    const again = openStore(file);
    expect(again.take(pair)).toMatchObject({ stored: [], duplicates: 2 });
    expect(stored(again)).toHaveLength(1);
    expect(again.history.buckets('r1', 'rate', T0, T0 + SECOND, SECOND)).toMatchObject([{ count: 1 }]);
  });

  it('tells agents apart, and an agent’s numbers', () => {
    const store = openStore();
    const record = recordWith({ at: T0 });
    const messages = [deliveredRecord(record, 1), deliveredRecord(record, 2), deliveredRecord(record, 1, { agent: 'a2' })];
    expect(store.take(messages)).toMatchObject({ duplicates: 0 });
    expect(stored(store).map(({ agent, seq }) => `${agent}/${seq}`)).toEqual(['a1/1', 'a1/2', 'a2/1']);
  });

  it('identifies the records of a producer that numbers nothing by their place on the bus', () => {
    const store = openStore();
    const first = deliveredRecord(recordWith({ at: T0 }), undefined, { offset: '1' });
    expect(store.take([first, first])).toMatchObject({ duplicates: 1 });
    const otherPartition = { ...first, partition: 1 };
    const next = deliveredRecord(recordWith({ at: T0 + SECOND }), undefined, { offset: '2' });
    expect(store.take([otherPartition, next])).toMatchObject({ duplicates: 0 });
    expect(stored(store).map(({ agent, seq }) => `${agent} ${seq}`)).toEqual(['bus:TP_r1/0 1', 'bus:TP_r1/1 1', 'bus:TP_r1/0 2']);
  });

  it('does not take records for duplicates when a bus was set up anew and its offsets begin again', () => {
    const store = openStore();
    store.take([deliveredRecord(recordWith({ at: T0 }), undefined, { offset: '1' })]);
    expect(store.take([deliveredRecord(recordWith({ at: T0 + SECOND }), undefined, { offset: '1' })])).toMatchObject({ duplicates: 0 });
    expect(stored(store)).toHaveLength(2);
  });

  it('keeps records in the order of their event times, whatever order they came in', () => {
    const store = openStore();
    const times = [5, 1, 4, 2, 3, 0].map((s) => T0 + s * SECOND);
    for (const [i, at] of times.entries()) store.take([deliveredRecord(recordWith({ at }), i + 1)]);
    expect(stored(store).map(({ at }) => at)).toEqual([...times].sort());
    expect(store.history.records('r1', 'processed', 2, {}).map(({ at }) => at)).toEqual([T0 + 5 * SECOND, T0 + 4 * SECOND]);
    expect(store.history.router('r1', NOW)?.processed?.at).toBe(T0 + 5 * SECOND);
  });

  it('does not let a record from a wrong clock in the future be the last one, unless there is no other', () => {
    const store = openStore();
    store.take([deliveredRecord(recordWith({ at: NOW + 3600 * SECOND }), 1)]);
    expect(store.history.router('r1', NOW)?.processed?.at).toBe(NOW + 3600 * SECOND);
    store.take([deliveredRecord(recordWith({ at: T0 }), 2)]);
    expect(store.history.router('r1', NOW)?.processed?.at).toBe(T0);
  });

  it('takes nothing of a batch when the database refuses some of it, and all of it afterwards', () => {
    const file = join(tempDir(), 'store.db');
    const store = openStore(file);
    const one = deliveredRecord(recordWith({ at: T0, router: 'r0' }), 1);
    store.take([one]);
    const other = openDb(file);
    onTestFinished(() => void other.close());
    other.exec(
      "CREATE TRIGGER full BEFORE INSERT ON figures WHEN NEW.at > 0 AND (SELECT count(*) FROM figures) > 3 BEGIN SELECT RAISE(ABORT, 'disk full'); END",
    );
    const batch = [1, 2, 3, 4, 5].map((s) => deliveredRecord(recordWith({ at: T0 + s * SECOND, router: 'fresh' }), s + 1));
    expect(() => store.take(batch)).toThrow('disk full');
    expect(stored(store, 'fresh')).toEqual([]);
    other.exec('DROP TRIGGER full');
    expect(store.take(batch)).toMatchObject({ duplicates: 0 });
    expect(stored(store, 'fresh')).toHaveLength(5);
  });
});

describe('what cannot be used', () => {
  it.each([
    ['no JSON', '{"node_exporter": ', /not JSON/],
    ['a missing field', '{"node_exporter":"r1:9100"}', /epoch_timestamp: expected text, got nothing/],
    ['no inputs', JSON.stringify({ ...recordWith({ at: T0 }), input_ml_metrics: undefined }), /input_ml_metrics: expected a list/],
    ['a wrong time', JSON.stringify({ ...recordWith({ at: T0 }), epoch_timestamp: 'yesterday' }), /epoch_timestamp: expected Unix seconds/],
    [
      'a time beyond numbers',
      JSON.stringify({ ...recordWith({ at: T0 }), epoch_timestamp: '99999999999' }),
      /epoch_timestamp: expected a time before the year 2255/,
    ],
    [
      'a figure that no double holds',
      printRecord(recordWith({ at: T0, rate: 123.5 })).replace('123.5', '1e999'),
      /input_ml_metrics\[0\]\.value: expected a number of at most 1e\+200, got Infinity/,
    ],
    [
      'a figure whose sums no double holds',
      printRecord(recordWith({ at: T0, rate: -1e308 })),
      /input_ml_metrics\[0\]\.value: expected a number of at most 1e\+200, got -1e\+308/,
    ],
  ])('becomes a dead letter that says why: %s', (_name, text, reason) => {
    const store = openStore();
    const good = deliveredRecord(recordWith({ at: T0 }), 1);
    const taken = store.take([delivered('TP_r1', text, { [HEADER.agent]: 'a1', [HEADER.seq]: '9' }), good]);
    expect(taken.stored).toHaveLength(1);
    expect(taken.deadLetters).toMatchObject([
      {
        topic: 'ndt.dead-letters',
        key: 'r1',
        headers: { [HEADER.agent]: 'a1', [HEADER.seq]: '9', [HEADER.origin]: 'TP_r1', [HEADER.reason]: expect.stringMatching(reason) },
      },
    ]);
    expect(taken.deadLetters[0]?.value.toString()).toBe(text);
  });

  it('an inferred record needs outputs, a processed one does not', () => {
    const store = openStore();
    const text = printRecord(recordWith({ at: T0 }));
    expect(store.take([delivered('TP_r1', text)]).deadLetters).toEqual([]);
    expect(store.take([delivered('ML_r1', text)]).deadLetters).toHaveLength(1);
  });

  it('bad notices are dead letters, unknown ones are passed over', () => {
    const store = openStore();
    const notice = (value: unknown) => delivered('ndt.notices', typeof value === 'string' ? value : JSON.stringify(value));
    const taken = store.take([
      notice('nothing'),
      notice([]),
      notice({ type: 'gap', agent: 'a1', from: 9, to: 3, count: 1, reason: 'age', at: 1 }),
      notice({ type: 'ledger', agent: 'a1', boot: 'b', produced: -1 }),
      notice({ type: 'weather', sunny: true }),
    ]);
    expect(taken.deadLetters.map(({ headers }) => headers[HEADER.reason])).toEqual([
      expect.stringContaining('not JSON'),
      'expected an object',
      'to: expected no less than from (9), got 3',
      'produced: expected a whole number of 0 or more',
    ]);
    expect(taken.notices).toBe(1);
  });
});

describe('series', () => {
  function filled(values: Array<[second: number, rate: number]>): Store {
    const store = openStore();
    store.take(values.map(([second, rate], i) => deliveredRecord(recordWith({ at: T0 + second * SECOND, rate }), i + 1)));
    return store;
  }

  it('gives average, least, greatest and count of each step, and leaves out steps without a record', () => {
    const store = filled([
      [0, 10],
      [1, 20],
      [9.999999, 60],
      [10, 5],
      [35, 7],
    ]);
    expect(store.history.buckets('r1', 'rate', T0, T0 + 60 * SECOND, 10 * SECOND)).toEqual([
      { at: T0, average: 30, least: 10, most: 60, count: 3 },
      { at: T0 + 10 * SECOND, average: 5, least: 5, most: 5, count: 1 },
      { at: T0 + 30 * SECOND, average: 7, least: 7, most: 7, count: 1 },
    ]);
  });

  it('includes the begin of the range and excludes its end', () => {
    const store = filled([
      [0, 1],
      [1, 2],
      [2, 3],
    ]);
    const rates = (from: number, to: number) =>
      store.history.buckets('r1', 'rate', T0 + from, T0 + to, SECOND).map(({ average }) => average);
    expect(rates(0, 2 * SECOND)).toEqual([1, 2]);
    expect(rates(1, 2 * SECOND + 1)).toEqual([2, 3]);
  });

  it('aligns steps to 1970 and cuts the first to the range', () => {
    const store = filled([
      [0, 1],
      [5, 3],
      [8, 5],
    ]);
    expect(store.history.buckets('r1', 'rate', T0 + 4 * SECOND, T0 + 20 * SECOND, 10 * SECOND)).toMatchObject([
      { at: T0, average: 4, count: 2 },
    ]);
  });

  it('leaves values out that are not there', () => {
    const store = openStore();
    store.take([deliveredRecord(recordWith({ at: T0 }), 1), ...deliveredPair({ at: T0 + SECOND, power: 700 }, 2)]);
    expect(store.history.buckets('r1', 'power', T0, T0 + 60 * SECOND, 60 * SECOND)).toEqual([
      { at: T0, average: 700, least: 700, most: 700, count: 1 },
    ]);
  });

  it('is the same from sums of minutes as from the records, whatever the range', () => {
    const store = openStore();
    let seed = 7;
    const random = () => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed / 2_147_483_647;
    };
    const samples = Array.from({ length: 1500 }, () => ({
      at: T0 + Math.floor(random() * 4 * 3600) * SECOND,
      rate: Math.floor(random() * 1000),
    }));
    for (let i = 0; i < samples.length; i += 250) {
      store.take(samples.slice(i, i + 250).map((sample, j) => deliveredRecord(recordWith(sample), i + j + 1)));
    }
    const naive = (from: number, to: number, step: number) => {
      const steps = new Map<number, number[]>();
      for (const { at, rate } of samples) {
        if (at < from || at >= to) continue;
        const start = Math.floor(at / step) * step;
        steps.set(start, [...(steps.get(start) ?? []), rate]);
      }
      return [...steps]
        .sort(([a], [b]) => a - b)
        .map(([at, rates]) => ({
          at,
          average: rates.reduce((a, b) => a + b) / rates.length,
          least: Math.min(...rates),
          most: Math.max(...rates),
          count: rates.length,
        }));
    };
    const second = fc.integer({ min: -600, max: 4 * 3600 + 600 });
    fc.assert(
      fc.property(second, second, fc.constantFrom(1, 7, 30, 60, 120, 300, 3600), (a, b, step) => {
        fc.pre(a < b);
        const range = [T0 + a * SECOND, T0 + b * SECOND, step * SECOND] as const;
        expect(store.history.buckets('r1', 'rate', ...range)).toEqual(naive(...range));
      }),
      { numRuns: 200 },
    );
  });
});

describe('pages of records', () => {
  it('are shorter where the records are large: all of them as one text would be none', () => {
    const store = openStore();
    const large = (seq: number) =>
      deliveredRecord({ ...recordWith({ at: T0 + seq * SECOND }), experiment_id: 'x'.repeat(8 * 2 ** 20) }, seq);
    for (let seq = 1; seq <= 6; seq += 1) store.take([large(seq)]);
    const first = store.history.records('r1', 'processed', 1000, { after: { at: 0, id: 0 } });
    expect(first.map(({ seq }) => seq)).toEqual([1, 2, 3, 4]);
    expect(store.history.records('r1', 'processed', 1000, { after: first.at(-1) ?? { at: 0, id: 0 } }).map(({ seq }) => seq)).toEqual([
      5, 6,
    ]);
  });

  it('walks in both directions over records of one time without losing or repeating one', () => {
    const store = openStore();
    const times = [0, 0, 0, 1, 2, 2, 3].map((s) => T0 + s * SECOND);
    store.take(times.map((at, i) => deliveredRecord(recordWith({ at }), i + 1)));
    const walk = (direction: 'before' | 'after') => {
      const seqs: number[] = [];
      let cursor = direction === 'after' ? { at: 0, id: 0 } : undefined;
      for (;;) {
        const page = store.history.records('r1', 'processed', 2, cursor === undefined ? {} : { [direction]: cursor });
        if (page.length === 0) return seqs;
        seqs.push(...page.map(({ seq }) => seq));
        cursor = page.at(-1);
      }
    };
    expect(walk('after')).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(walk('before')).toEqual([7, 6, 5, 4, 3, 2, 1]);
  });
});

describe('retention', () => {
  it('deletes by event time in small pieces, sums and identities with it, and nothing younger', () => {
    const store = openStore();
    // Ten minutes of records, three routers.
    const batch = Array.from({ length: 600 }, (_, s) =>
      ['r1', 'r2', 'r3'].map((router, i) => deliveredRecord(recordWith({ router, at: T0 + s * SECOND }), s * 3 + i + 1)),
    ).flat();
    store.take(batch);
    const horizon = T0 + 300 * SECOND + 30 * SECOND;
    const rounds: number[] = [];
    do rounds.push(store.retain(horizon, 100));
    while (rounds.at(-1) === 100);
    expect(rounds).toEqual([100, 100, 100, 100, 100, 100, 100, 100, 100, 0]);
    for (const router of ['r1', 'r2', 'r3']) {
      // Down to the minute of the horizon.
      expect(stored(store, router).map(({ at }) => at)).toEqual(Array.from({ length: 300 }, (_, s) => T0 + (300 + s) * SECOND));
      expect(store.history.buckets(router, 'rate', T0, T0 + 600 * SECOND, 60 * SECOND).map(({ at, count }) => [at, count])).toEqual(
        [5, 6, 7, 8, 9].map((minute) => [T0 + minute * 60 * SECOND, 60]),
      );
    }
  });

  it('forgets a router of which nothing is left', () => {
    const store = openStore();
    store.take([deliveredRecord(recordWith({ at: T0 }), 1)]);
    expect(store.retain(T0 + 3600 * SECOND)).toBe(1);
    expect(store.history.routers(NOW)).toEqual([]);
    expect(store.history.router('r1', NOW)).toBeUndefined();
  });

  it('runs by itself while the program does', async () => {
    const store = openStore();
    const now = Date.now() * 1000;
    store.take(Array.from({ length: 1200 }, (_, s) => deliveredRecord(recordWith({ at: now - (3600 + s) * SECOND }), s + 1)));
    store.take([deliveredRecord(recordWith({ at: now }), 5000)]);
    const ending = new AbortController();
    const running = retention(
      store,
      () => 1800,
      ending.signal,
      (error) => expect.fail(messageOf(error)),
      10,
    );
    await until(() => stored(store).length === 1, 'old records to go');
    ending.abort();
    await running;
  });
});

describe('on the bus', () => {
  it('stores what is processed, inferred and announced, and puts the rest among the dead letters', async () => {
    const dir = tempDir();
    const bus = new EmbeddedBus({ file: join(dir, 'bus.db') });
    const store = openStore(join(dir, 'store.db'));
    const live = new Live();
    const metrics = new Metrics();
    const ending = new AbortController();
    const running = bus.consume(STORE_GROUP, storeTopics(TOPICS), new StoreStage(store, live, metrics), ending.signal);
    const ledger = {
      type: 'ledger',
      agent: 'a1',
      boot: 'b',
      first: 1,
      last: 2,
      produced: 2,
      delivered: 2,
      pending: 0,
      dropped: {},
      rejected: {},
      at: 5,
    };
    const strip = ({ topic, key, headers, value }: Delivered) => ({ topic, key, headers, value });
    await bus.append(
      [
        ...deliveredPair({ at: T0, power: 700 }, 1),
        delivered('TP_r1', 'junk'),
        delivered('ndt.notices', JSON.stringify(ledger)),
        delivered('TD_r1', 'not for the store'),
      ].map(strip),
    );
    const dead = await until(() => {
      const topic = bus.log.topics().find(({ name }) => name === 'ndt.dead-letters');
      return topic === undefined ? undefined : bus.log.read(topic.id, topic.name, 0, 10);
    }, 'the dead letter');
    expect(dead).toMatchObject([{ headers: { [HEADER.origin]: 'TP_r1' } }]);
    await until(() => stored(store, 'r1', 'inferred').length === 1 && store.notices.ledgers().length === 1, 'the record and the ledger');
    expect(live.latest()).toMatchObject([{ router: 'r1', power: 700, latency_ms: 8 }]);
    expect(metrics.print()).toContain('ndt_stored_total{stage="inferred"} 1');
    ending.abort();
    await running;
    await bus.close();
  });

  it('tells who watches the last figures of an earlier run', () => {
    const store = openStore();
    store.take(deliveredPair({ at: T0, power: 700 }, 1));
    const live = new Live();
    new StoreStage(store, live, new Metrics());
    expect(live.latest()).toMatchObject([{ router: 'r1', at: T0 / SECOND, power: 700 }]);
  });
});
