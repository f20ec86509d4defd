import fc from 'fast-check';
import { expect, it } from 'vitest';
import { leafOf, leavesOf, tcpFlow } from '../../test/netflow.ts';
import { type AggregateOptions, FlowAggregator } from './aggregate.ts';
import { type NetflowCounters, newCounters } from './counters.ts';
import type { LeafPath } from './leaves.ts';
import type { Fields, Flow } from './normalise.ts';

/** Begins a window of 60 s [s]. */
const T = 1_646_564_400;

function aggregator(options: Partial<AggregateOptions> = {}): { stage: FlowAggregator; counters: NetflowCounters } {
  const counters = newCounters();
  return { stage: new FlowAggregator({ windowS: 60, latenessS: 30, maxFlows: 1000, ...options }, counters), counters };
}

const during = (from: number, to: number, fields: Fields = {}): Flow => tcpFlow({ TimeFlowStart: from, TimeFlowEnd: to, ...fields });

it('sums up a flow that is exported several times, with its rates', () => {
  const { stage, counters } = aggregator();
  const counted = (n: number): Fields => ({
    BytesIn: 1000 * n,
    PacketsIn: n,
    BytesOut: 0,
    PacketsOut: 0,
    TCPFlags: 1 << n,
    MinTTL: 60 - n,
    MaxTTL: 60 + n,
    SequenceNum: n,
  });
  expect(
    [during(T, T + 10, counted(1)), during(T + 20, T + 30, counted(3)), during(T + 5, T + 20, counted(2))].flatMap((flow) =>
      stage.add(flow),
    ),
  ).toEqual([]);
  const [record, more] = stage.flush();
  expect(more).toBeUndefined();
  expect(leavesOf(record)).toMatchObject({
    'flow-id': leafOf(during(T, T), 'flow-id'),
    'first-switched': T,
    'last-switched': T + 30,
    'bytes-in': 6000,
    'pkts-in': 6,
    'bytes-out': 0,
    'tcp-flags': 'syn rst psh',
    'min-ttl': 57,
    'max-ttl': 63,
    'sequence-number': 2,
    'aggregate/window-start': T * 1000,
    'aggregate/window-end': (T + 60) * 1000,
    'aggregate/flows': 3,
    'aggregate/duration': 30_000,
    'aggregate/bytes-in-per-second': '200.000',
    'aggregate/pkts-in-per-second': '0.200',
    'aggregate/bytes-in-per-packet': '1000.000',
    'aggregate/bytes-out-per-second': '0.000',
  });
  expect(leafOf(record, 'aggregate/bytes-out-per-packet')).toBeUndefined();
  expect(counters.leftOut).toEqual({});
});

it('rounds rates half up to three decimals', () => {
  const { stage } = aggregator();
  stage.add(tcpFlow({ TimeFlowStartMs: T * 1000, TimeFlowEndMs: T * 1000 + 6000, BytesIn: 2, PacketsIn: 3 }));
  // 2/6 s, 3/6 s, 2/3; 0.0005 would go up.
  expect(leavesOf(stage.flush()[0])).toMatchObject({
    'aggregate/bytes-in-per-second': '0.333',
    'aggregate/pkts-in-per-second': '0.500',
    'aggregate/bytes-in-per-packet': '0.667',
  });
  stage.add(tcpFlow({ TimeFlowStart: T, TimeFlowEnd: T + 50, BytesIn: 1, PacketsIn: 2000 }));
  expect(leafOf(stage.flush()[0], 'aggregate/bytes-in-per-packet')).toBe('0.001');
});

it('has no rate where there is nothing to divide by', () => {
  const { stage, counters } = aggregator();
  stage.add(during(T, T, { BytesIn: 10, PacketsIn: 0 }));
  const leaves = leavesOf(stage.flush()[0]);
  expect(leaves['aggregate/duration']).toBe(0);
  expect(Object.keys(leaves).filter((path) => path.includes('-per-'))).toEqual([]);
  stage.add(during(T + 9, T + 1, { BytesIn: 10 }));
  expect(leavesOf(stage.flush()[0])).not.toHaveProperty('aggregate/duration');
  expect(counters.leftOut).toEqual({});
});

it('adds beyond 2^53 exactly, and counts what is beyond 64 bits', () => {
  const { stage, counters } = aggregator();
  stage.add(during(T, T + 2, { BytesIn: '9007199254740993', PacketsIn: '18446744073709551615' }));
  stage.add(during(T, T + 2, { BytesIn: '9007199254740993', PacketsIn: 1 }));
  stage.add(during(T, T + 2, { PacketsIn: 1 }));
  const leaves = leavesOf(stage.flush()[0]);
  expect(leaves['bytes-in']).toBe(18014398509481986n);
  expect(leaves['aggregate/bytes-in-per-second']).toBe('9007199254740993.000');
  expect(leaves).not.toHaveProperty('pkts-in');
  expect(counters.leftOut).toEqual({ 'pkts-in': 1, 'aggregate/pkts-in-per-second': 1 });
  stage.add(during(T, T + 1, { BytesIn: '18446744073709551615' }));
  expect(leavesOf(stage.flush()[0])).not.toHaveProperty('aggregate/bytes-in-per-second');
  expect(counters.leftOut).toEqual({ 'pkts-in': 1, 'aggregate/pkts-in-per-second': 1, 'aggregate/bytes-in-per-second': 1 });
});

it('writes a window when event time has passed its end by the lateness', () => {
  const { stage, counters } = aggregator();
  expect(stage.add(during(T, T + 59))).toEqual([]);
  expect(stage.add(during(T, T + 89))).toEqual([]);
  // Late, but not too late.
  expect(stage.add(during(T, T + 1, { BytesIn: 7 }))).toEqual([]);
  const closed = stage.add(during(T, T + 90));
  expect(closed.map((record) => [leafOf(record, 'aggregate/window-start'), leafOf(record, 'aggregate/flows')])).toEqual([[T * 1000, 2]]);
  expect(counters.late).toBe(0);
  const late = stage.add(during(T, T + 58));
  expect(late.map((record) => [leafOf(record, 'aggregate/window-start'), leafOf(record, 'aggregate/flows')])).toEqual([[T * 1000, 1]]);
  expect(counters.late).toBe(1);
});

it('keeps flows apart that are not the same: by tuple, observer, direction and sampling', () => {
  const { stage } = aggregator();
  const others: Fields[] = [
    {},
    { SrcPort: 1001 },
    { SamplerAddress: '192.0.2.2' },
    { SourceId: 3 },
    { FlowDirection: 1 },
    { Proto: 17 },
    { SamplingRate: 1000 },
  ];
  for (const other of [...others, ...others]) stage.add(during(T, T + 1, other));
  const records = stage.flush();
  expect(records.map((record) => leafOf(record, 'aggregate/flows'))).toEqual(others.map(() => 2));
});

it('is not moved by a router whose clock is ahead, nor by another one’s flows', () => {
  const { stage } = aggregator();
  stage.add(during(T, T + 1));
  // An hour ahead of the collector that received it.
  expect(stage.add(during(T, T + 3600, { TimeReceived: T + 2, SrcPort: 5 }))).toEqual([]);
  expect(stage.add(during(T, T + 3600, { SamplerAddress: '192.0.2.2' }))).toEqual([]);
});

it('goes by arrival where a flow has no times, and passes it on where it has neither', () => {
  const { stage } = aggregator();
  expect(stage.add(tcpFlow({ TimeReceived: T + 61 }))).toEqual([]);
  expect(leafOf(stage.flush()[0], 'aggregate/window-start')).toBe((T + 60) * 1000);
  // As GoFlow2 writes it where the exporter's template has none.
  expect(stage.add(tcpFlow({ TimeReceived: T + 121, TimeFlowStart: 0, TimeFlowEnd: 0 }))).toEqual([]);
  expect(leafOf(stage.flush()[0], 'aggregate/window-start')).toBe((T + 120) * 1000);
  const timeless = tcpFlow();
  for (const flow of [timeless, during(0, 0)]) expect(stage.add(flow)).toEqual([flow]);
  expect(leavesOf(timeless)).not.toHaveProperty('aggregate/flows');
});

it('closes the windows of silent routers as time goes on, and forgets them', () => {
  const { stage } = aggregator();
  stage.add(during(T, T + 1));
  expect(stage.advance((T + 89) * 1000)).toEqual([]);
  expect(stage.advance((T + 90) * 1000)).toHaveLength(1);
  expect(stage.size).toEqual({ flows: 0, observers: 0 });
  // What comes after that is late.
  expect(stage.add(during(T, T + 1))).toHaveLength(1);
});

it('goes by a clock again that was set back, and by nothing less', () => {
  const { stage, counters } = aggregator();
  const ahead = (T + 365 * 86_400) * 1000;
  expect(stage.advance(ahead)).toEqual([]);
  expect(stage.add(during(T, T + 365 * 86_400, { BytesIn: 1 }))).toEqual([]);
  expect(stage.advance(ahead - 3_600_000)).toEqual([]);
  expect(stage.add(during(T, T + 1))).toHaveLength(1);
  expect(counters.late).toBe(1);
  // What was held by the wrong time goes out.
  expect(stage.advance(T * 1000).map((record) => leafOf(record, 'bytes-in'))).toEqual([1]);
  expect(stage.size).toEqual({ flows: 0, observers: 0 });
  expect(stage.add(during(T, T + 2))).toEqual([]);
  expect(stage.advance((T + 90) * 1000)).toHaveLength(1);
  expect(counters.late).toBe(1);
});

it('holds no more than it may: the oldest window goes early', () => {
  const { stage, counters } = aggregator({ maxFlows: 3 });
  for (const port of [1, 2]) stage.add(during(T, T + 1, { SrcPort: port }));
  stage.add(during(T, T + 61, { SrcPort: 3 }));
  const early = stage.add(during(T, T + 61, { SrcPort: 4 }));
  expect(early.map((record) => leafOf(record, 'src-port'))).toEqual([1, 2]);
  expect(counters.early).toBe(1);
  expect(stage.size.flows).toBe(2);
  expect(stage.flush()).toHaveLength(2);
});

const someFlow = fc.record({
  SrcPort: fc.integer({ min: 1, max: 3 }),
  SamplerAddress: fc.constantFrom('192.0.2.1', '192.0.2.2'),
  TimeFlowStart: fc.integer({ min: T, max: T + 400 }),
  length: fc.nat(100),
  BytesIn: fc.oneof(fc.nat(), fc.constant('9007199254740993')),
  PacketsIn: fc.nat(10),
});

it('loses and doubles nothing, in whatever order flows come', () => {
  fc.assert(
    fc.property(fc.array(someFlow, { maxLength: 40 }), fc.integer({ min: 1, max: 20 }), (all, maxFlows) => {
      const { stage } = aggregator({ maxFlows });
      const flows = all.map(({ length, ...fields }) => tcpFlow({ ...fields, TimeFlowEnd: fields.TimeFlowStart + length }));
      const records = [...flows.flatMap((flow) => stage.add(flow)), ...stage.flush()];
      expect(stage.size.flows).toBe(0);
      // Summed by window, observer and port, once over the records and once over the flows themselves.
      const total = (list: readonly Flow[], window: (flow: Flow) => unknown, path: LeafPath): Record<string, bigint> => {
        const sums: Record<string, bigint> = {};
        for (const flow of list) {
          const key = [window(flow), leafOf(flow, 'sampler-address'), leafOf(flow, 'src-port')].join();
          sums[key] = (sums[key] ?? 0n) + BigInt(leafOf(flow, path) ?? 1);
        }
        return sums;
      };
      const windowOf = (flow: Flow) => Math.floor((flow.endMs ?? 0) / 60_000) * 60_000;
      for (const path of ['bytes-in', 'pkts-in', 'aggregate/flows'] as const) {
        expect(total(records, (record) => leafOf(record, 'aggregate/window-start'), path)).toEqual(total(flows, windowOf, path));
      }
    }),
  );
});
