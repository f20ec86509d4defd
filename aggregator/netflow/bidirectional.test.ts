import fc from 'fast-check';
import { expect, it } from 'vitest';
import { answer, leafOf, leavesOf, tcpFlow } from '../../test/netflow.ts';
import { type BidirectionalOptions, FlowMerger, pairsOf } from './bidirectional.ts';
import { newCounters } from './counters.ts';
import { Changes } from './held-state.ts';
import type { Flow } from './normalise.ts';

const T = 1_646_564_400;

function merger(options: Partial<BidirectionalOptions> = {}) {
  const counters = newCounters();
  return { stage: new FlowMerger({ timeoutS: 30, maxFlows: 1000, ...options }, counters), counters };
}

it('puts both directions into one record, the one that began first in front', () => {
  const request = tcpFlow({ TimeFlowStart: T, TimeFlowEnd: T + 5, BytesIn: 100, PacketsIn: 2, TCPFlags: 2 });
  const reply = answer({ TimeFlowStart: T + 1, TimeFlowEnd: T + 6, BytesIn: 9000, PacketsIn: 8, BytesOut: 1, PacketsOut: 1, TCPFlags: 18 });
  for (const order of [
    [request, reply],
    [reply, request],
  ]) {
    const { stage, counters } = merger();
    const records = order.flatMap((flow) => stage.add(flow));
    expect(records).toHaveLength(1);
    expect(leavesOf(records[0])).toEqual({
      ...leavesOf(request),
      'reverse/flow-id': leafOf(reply, 'flow-id'),
      'reverse/first-switched': T + 1,
      'reverse/last-switched': T + 6,
      'reverse/bytes-in': 9000,
      'reverse/pkts-in': 8,
      'reverse/bytes-out': 1,
      'reverse/pkts-out': 1,
      'reverse/tcp-flags': 'syn ack',
    });
    expect(counters.merged).toBe(1);
    expect(stage.flush()).toEqual([]);
  }
});

it('goes by the ports, then by the addresses, where the first packets do not tell', () => {
  for (const [a, b] of [
    [tcpFlow(), answer()],
    [tcpFlow({ TimeFlowStart: T }), answer({ TimeFlowStart: T })],
    [tcpFlow({ SrcPort: 80 }), answer({ DstPort: 80 })],
  ] as const) {
    for (const order of [
      [a, b],
      [b, a],
    ]) {
      const { stage } = merger();
      const [record] = order.flatMap((flow) => stage.add(flow));
      expect([leafOf(record, 'flow-id'), leafOf(record, 'reverse/flow-id')]).toEqual([leafOf(a, 'flow-id'), leafOf(b, 'flow-id')]);
    }
  }
});

it('lets a flow go alone when its answer does not come in time', () => {
  const { stage } = merger();
  const alone = tcpFlow({ TimeFlowEnd: T });
  expect(stage.add(alone)).toEqual([]);
  expect(stage.add(tcpFlow({ SrcPort: 7, TimeFlowEnd: T + 30 }))).toEqual([]);
  expect(stage.add(tcpFlow({ SrcPort: 8, TimeFlowEnd: T + 31 }))).toEqual([alone]);
  // Another router's time does not count, the clock of the stage does.
  expect(stage.add(tcpFlow({ SamplerAddress: '192.0.2.2', TimeFlowEnd: T + 3600 }))).toEqual([]);
  expect(stage.advance((T + 62) * 1000).map((flow) => leafOf(flow, 'src-port'))).toEqual([7, 8]);
});

it('does not pair what is not one conversation', () => {
  for (const other of [{ SamplerAddress: '192.0.2.2' }, { FlowDirection: 1 }, { DstPort: 1001 }, { Proto: 17 }]) {
    const { stage } = merger();
    expect([...stage.add(tcpFlow()), ...stage.add(answer(other))]).toEqual([]);
    expect(stage.flush()).toHaveLength(2);
  }
});

it('lets the older of two exports of one direction go', () => {
  const { stage } = merger();
  const first = tcpFlow({ BytesIn: 1 });
  expect(stage.add(first)).toEqual([]);
  expect(stage.add(tcpFlow({ BytesIn: 2 }))).toEqual([first]);
  expect(stage.add(answer()).map((record) => leafOf(record, 'bytes-in'))).toEqual([2]);
});

it('passes on a flow that is its own reverse', () => {
  const { stage, counters } = merger();
  const same = { SrcAddr: '10.0.0.1', DstAddr: '10.0.0.1', SrcPort: 5, DstPort: 5 };
  expect([...stage.add(tcpFlow(same)), ...stage.add(tcpFlow(same))]).toHaveLength(2);
  expect(pairsOf([tcpFlow(same), tcpFlow(same)], counters)).toHaveLength(2);
  expect(counters.merged).toBe(0);
});

it('holds no more than it may: those that wait longest go', () => {
  const { stage } = merger({ maxFlows: 2 });
  const flows = [1, 2, 3].map((port) => tcpFlow({ SrcPort: port }));
  expect(flows.flatMap((flow) => stage.add(flow))).toEqual([flows[0]]);
});

it('lets them go in the order in which they came, also when they come back in another', () => {
  const changes = new Changes();
  const before = new FlowMerger({ timeoutS: 30, maxFlows: 3 }, newCounters(), changes);
  for (const port of [2, 1, 3]) before.add(tcpFlow({ SrcPort: port }));
  const held = [...changes.take().values()].map(String);
  for (const order of [held, held.toReversed(), held.toSorted()]) {
    const { stage } = merger({ maxFlows: 3 });
    stage.restore(order);
    const gone = [4, 5, 6].flatMap((port) => stage.add(tcpFlow({ SrcPort: port })));
    expect(gone.map((flow) => leafOf(flow, 'src-port'))).toEqual([2, 1, 3]);
  }
});

it('forgets a router of which nothing waits', () => {
  const { stage } = merger();
  stage.add(tcpFlow({ TimeFlowEnd: T }));
  expect(stage.advance((T + 31) * 1000)).toHaveLength(1);
  expect(stage.size).toEqual({ flows: 0, observers: 0 });
});

it('goes by a clock again that was set back', () => {
  const { stage } = merger();
  const ahead = T + 365 * 86_400;
  const [before, after] = [tcpFlow({ SrcPort: 1, TimeFlowEnd: T }), tcpFlow({ SrcPort: 2, TimeFlowEnd: T })];
  expect(stage.advance(ahead * 1000)).toEqual([]);
  // It would wait for its answer until that time is reached again.
  expect(stage.add(before)).toEqual([]);
  expect(stage.advance((ahead - 3600) * 1000)).toEqual([]);
  expect(stage.advance(T * 1000)).toEqual([before]);
  expect(stage.size).toEqual({ flows: 0, observers: 0 });
  expect(stage.add(after)).toEqual([]);
  expect(stage.advance((T + 30) * 1000)).toEqual([]);
  expect(stage.advance((T + 31) * 1000)).toEqual([after]);
});

it('pairs the records of one batch', () => {
  const counters = newCounters();
  const [a, b, c] = [tcpFlow({ BytesIn: 1 }), answer({ BytesIn: 2 }), tcpFlow({ SrcPort: 9 })];
  const records = pairsOf([a, c, b], counters);
  expect(records.map((record) => [leafOf(record, 'bytes-in'), leafOf(record, 'reverse/bytes-in')])).toEqual([
    [1, 2],
    [undefined, undefined],
  ]);
  expect(counters.merged).toBe(1);
});

it('keeps every flow, once', () => {
  const one = fc.record({
    back: fc.boolean(),
    SrcPort: fc.integer({ min: 1, max: 4 }),
    TimeFlowEnd: fc.option(fc.integer({ min: T, max: T + 200 }), { nil: undefined }),
    sampler: fc.nat(1),
  });
  fc.assert(
    fc.property(fc.array(one, { maxLength: 40 }), fc.integer({ min: 1, max: 10 }), (all, maxFlows) => {
      const { stage, counters } = merger({ maxFlows });
      const records: Flow[] = [];
      for (const [i, { back, SrcPort, TimeFlowEnd, sampler }] of all.entries()) {
        const fields = { TimeFlowEnd, SamplerAddress: `192.0.2.${sampler}`, BytesIn: 2 ** i };
        records.push(...stage.add(back ? answer({ ...fields, DstPort: SrcPort }) : tcpFlow({ ...fields, SrcPort })));
      }
      records.push(...stage.flush());
      // Every flow has a bit of its own.
      const bytes = records
        .flatMap((record) => [leafOf(record, 'bytes-in'), leafOf(record, 'reverse/bytes-in')])
        .filter((value) => value !== undefined);
      expect(bytes.map(Number).sort((a, b) => a - b)).toEqual(all.map((_, i) => 2 ** i));
      expect(records).toHaveLength(all.length - counters.merged);
    }),
  );
});
