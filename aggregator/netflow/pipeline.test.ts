import fc from 'fast-check';
import { expect, it } from 'vitest';
import { AGGREGATE_DEFAULTS } from './aggregate.ts';
import { BIDIRECTIONAL_DEFAULTS } from './bidirectional.ts';
import { newCounters } from './counters.ts';
import { at } from './leaves.ts';
import { type NetflowOptions, NetflowPipeline, normaliseMessage } from './pipeline.ts';

const T = 1_646_564_400;

function message(fields: object): Buffer {
  return Buffer.from(
    JSON.stringify({
      SrcAddr: '10.0.0.1',
      DstAddr: '10.0.0.2',
      SrcPort: 1000,
      DstPort: 80,
      Proto: 6,
      TimeFlowStart: T,
      TimeFlowEnd: T + 1,
      ...fields,
    }),
  );
}
const REQUEST = message({ BytesIn: 100 });
const REPLY = message({ SrcAddr: '10.0.0.2', DstAddr: '10.0.0.1', SrcPort: 80, DstPort: 1000, TimeFlowStart: T + 1, BytesIn: 7000 });

function recordsOf(result: ReturnType<NetflowPipeline['message']>): Array<Record<string, unknown>> {
  if ('error' in result) throw new Error(result.error);
  return result.output.map((text) => JSON.parse(String(text))['netflow-v9:netflow']['export-packet']['flow-data-record'][0]);
}

it('counts every message once', () => {
  const counters = newCounters();
  normaliseMessage(REQUEST, { counters });
  normaliseMessage(message({ SrcPort: 70000, Proto: 47 }), { counters });
  expect(normaliseMessage(Buffer.from('{"SrcAddr":'), { counters })).toEqual({ error: 'bad JSON: Unexpected end of JSON input' });
  expect(normaliseMessage(message({ DstAddr: '' }), { counters })).toEqual({ error: 'no destination address (DstAddr)' });
  expect(normaliseMessage(Buffer.from([5, 1, 2]), { counters })).toHaveProperty('error');
  expect(counters).toEqual({
    in: 5,
    shapes: { seed: 2, v1: 0, v2: 0, protobuf: 0 },
    normalised: 2,
    bad: 3,
    out: 2,
    leftOut: { 'src-port': 1, protocol: 1 },
    late: 0,
    early: 0,
    merged: 0,
  });
});

it('gives nothing of a message of which one part is bad, and counts nothing of it', () => {
  const good = [0x32, 4, 10, 0, 0, 1, 0x3a, 4, 10, 0, 0, 2];
  const counters = newCounters();
  expect(normaliseMessage(Buffer.from([12, ...good, 6, ...good.slice(0, 6)]), { counters })).toEqual({
    error: 'no destination address (dst_addr)',
  });
  expect(counters).toEqual({ ...newCounters(), in: 1, bad: 1 });
});

it('sums up and merges where it is told to', () => {
  const records = (options: NetflowOptions) => {
    const pipeline = new NetflowPipeline(options);
    const now = [REQUEST, REPLY, REQUEST].flatMap((value) => recordsOf(pipeline.message(value)));
    const later = pipeline
      .flush()
      .map((record) => JSON.parse(pipeline.write(record))['netflow-v9:netflow']['export-packet']['flow-data-record'][0]);
    expect(pipeline.counters.out).toBe(now.length + later.length);
    return [now, later].map((list) =>
      list.map((record) => [record['bytes-in'], record.reverse?.['bytes-in'], record.aggregate?.flows, record.reverse?.flows]),
    );
  };
  expect(records({})).toEqual([[100, 7000, 100].map((bytes) => [bytes, undefined, undefined, undefined]), []]);
  expect(records({ aggregate: AGGREGATE_DEFAULTS })).toEqual([
    [],
    [
      [200, undefined, 2, undefined],
      [7000, undefined, 1, undefined],
    ],
  ]);
  expect(records({ bidirectional: BIDIRECTIONAL_DEFAULTS })).toEqual([
    [[100, 7000, undefined, undefined]],
    [[100, undefined, undefined, undefined]],
  ]);
  expect(records({ aggregate: AGGREGATE_DEFAULTS, bidirectional: BIDIRECTIONAL_DEFAULTS })).toEqual([[], [[200, 7000, 2, 1]]]);
});

it('sums up what was sampled at different rates apart, so that each sum can be scaled by its own', () => {
  const pipeline = new NetflowPipeline({ aggregate: AGGREGATE_DEFAULTS });
  for (const [SamplingRate, BytesIn] of [
    [1000, 10],
    [1, 5000],
    [1000, 20],
  ])
    expect(recordsOf(pipeline.message(message({ SamplingRate, BytesIn })))).toEqual([]);
  expect(pipeline.flush().map(({ values }) => [values[at('sampling-interval')], values[at('bytes-in')]])).toEqual([
    [1000, 30],
    [1, 5000],
  ]);
});

it.each([
  ['the seed', { TimeReceived: T + 61, TimeFlowStart: 0, TimeFlowEnd: 0 }],
  [
    'version 2',
    {
      ...Object.fromEntries(Object.keys(JSON.parse(String(REQUEST)) as object).map((name) => [name, undefined])),
      src_addr: '10.0.0.1',
      dst_addr: '10.0.0.2',
      proto: 'TCP',
      time_received_ns: (T + 61) * 1e9,
      time_flow_start_ns: 0,
      time_flow_end_ns: 0,
    },
  ],
])('puts a flow whose template has no times into the window of its arrival, in the form of %s', (_, fields) => {
  const pipeline = new NetflowPipeline({ aggregate: AGGREGATE_DEFAULTS });
  expect(recordsOf(pipeline.message(message(fields)))).toEqual([]);
  expect(pipeline.flush().map(({ values }) => values[at('aggregate/window-start')])).toEqual([(T + 60) * 1000]);
});

/** A store as the bus has one: what it was given, null for what to forget. */
class Store {
  readonly state = new Map<string, Buffer>();

  commit(changes: Map<string, Buffer | null>): number {
    for (const [key, value] of changes) value === null ? this.state.delete(key) : this.state.set(key, value);
    return changes.size;
  }
}

it('goes on where it was committed, and commits only what changed', () => {
  const options = { aggregate: AGGREGATE_DEFAULTS, trackChanges: true };
  const store = new Store();
  const before = new NetflowPipeline(options);
  before.message(REQUEST);
  before.message(message({ SrcPort: 2, BytesIn: 1 }));
  // Two sums, the router's time, the settings.
  expect(store.commit(before.takeChanges())).toBe(4);
  before.message(REQUEST);
  expect(store.commit(before.takeChanges())).toBe(1);
  expect(before.takeChanges().size).toBe(0);

  const after = new NetflowPipeline(options);
  expect(after.restore(store.state)).toEqual([]);
  after.message(REQUEST);
  expect(after.flush().map((record) => record.values[at('bytes-in')])).toEqual([300, 1]);
  store.commit(after.takeChanges());
  expect([...store.state.keys()].filter((key) => key.startsWith('sum'))).toEqual([]);
  expect(new NetflowPipeline({ aggregate: AGGREGATE_DEFAULTS }).takeChanges().size).toBe(0);
});

it('forgets on restore what was not committed, and tells its settings anew', () => {
  const pipeline = new NetflowPipeline({ aggregate: AGGREGATE_DEFAULTS, trackChanges: true });
  pipeline.message(REQUEST);
  expect(pipeline.held).toBe(1);
  pipeline.restore(new Map());
  expect(pipeline.held).toBe(0);
  expect([...pipeline.takeChanges().keys()]).toEqual(['stages']);
});

it('writes what stages held that are set otherwise now, and forgets it', () => {
  for (const [held, now] of [
    [{ aggregate: AGGREGATE_DEFAULTS }, { aggregate: { ...AGGREGATE_DEFAULTS, windowS: 300 } }],
    [{ aggregate: AGGREGATE_DEFAULTS }, {}],
    [{ bidirectional: BIDIRECTIONAL_DEFAULTS }, { aggregate: AGGREGATE_DEFAULTS, bidirectional: BIDIRECTIONAL_DEFAULTS }],
  ] satisfies Array<[NetflowOptions, NetflowOptions]>) {
    const store = new Store();
    const before = new NetflowPipeline({ ...held, trackChanges: true });
    before.message(REQUEST);
    before.message(message({ SrcPort: 2 }));
    store.commit(before.takeChanges());

    const after = new NetflowPipeline({ ...now, trackChanges: true });
    const records = after.restore(store.state);
    expect(records.map((record) => record.values[at('src-port')])).toEqual([1000, 2]);
    expect(records[0]?.values[at('aggregate/window-end')]).toBe('aggregate' in held ? (T + 60) * 1000 : undefined);
    expect(after.counters.out).toBe(2);
    expect(after.flush()).toEqual([]);
    store.commit(after.takeChanges());
    expect([...store.state.keys()]).toEqual('aggregate' in now ? ['stages'] : []);
  }
});

it('gives the same over restarts anywhere as without', () => {
  const some = fc.record({
    SrcPort: fc.integer({ min: 1, max: 6 }),
    back: fc.boolean(),
    SamplerAddress: fc.constantFrom('192.0.2.1', '192.0.2.2'),
    TimeFlowEnd: fc.option(fc.integer({ min: T, max: T + 300 }), { nil: undefined }),
    BytesIn: fc.oneof(fc.nat(), fc.constant('9007199254740993')),
    restart: fc.boolean(),
    /** Also back, as a clock that was ahead. */
    advance: fc.option(fc.oneof(fc.integer({ min: T, max: T + 300 }), fc.constant(T - 4000)), { freq: 5, nil: undefined }),
  });
  const stages = fc.constantFrom<NetflowOptions>(
    { aggregate: { windowS: 60, latenessS: 30, maxFlows: 4 } },
    { bidirectional: { timeoutS: 30, maxFlows: 4 } },
    { aggregate: AGGREGATE_DEFAULTS, bidirectional: BIDIRECTIONAL_DEFAULTS },
  );
  fc.assert(
    fc.property(fc.array(some, { maxLength: 30 }), stages, (flows, options) => {
      const written = (restarts: boolean) => {
        const store = new Store();
        const counters = newCounters();
        let pipeline = new NetflowPipeline({ ...options, trackChanges: restarts }, counters);
        const out: string[] = [];
        for (const { restart, advance, back, ...fields } of flows) {
          const result = pipeline.message(
            message(back ? { ...fields, SrcAddr: '10.0.0.2', DstAddr: '10.0.0.1', SrcPort: 80, DstPort: fields.SrcPort } : fields),
          );
          if ('error' in result) throw new Error(result.error);
          out.push(...result.output.map(String));
          if (advance !== undefined) out.push(...pipeline.advance(advance * 1000).map((record) => pipeline.write(record)));
          store.commit(pipeline.takeChanges());
          if (!restarts || !restart) continue;
          pipeline = new NetflowPipeline({ ...options, trackChanges: true }, counters);
          expect(pipeline.restore(new Map([...store.state].sort(([a], [b]) => (a < b ? -1 : 1))))).toEqual([]);
        }
        out.push(...pipeline.flush().map((record) => pipeline.write(record)));
        return { records: out.sort(), counters };
      };
      expect(written(true)).toEqual(written(false));
    }),
    { numRuns: 300 },
  );
});

it('lets go what is due as time goes on', () => {
  const pipeline = new NetflowPipeline({ aggregate: AGGREGATE_DEFAULTS });
  expect(recordsOf(pipeline.message(REQUEST))).toEqual([]);
  expect(pipeline.advance(T * 1000)).toHaveLength(0);
  expect(pipeline.advance((T + 90) * 1000)).toHaveLength(1);
  expect(new NetflowPipeline().advance(T)).toEqual([]);
});
