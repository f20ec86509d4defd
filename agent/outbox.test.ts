import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tempDir } from '../test/tempdir.ts';
import { Outbox, type OutboxOptions } from './outbox.ts';

const FIRST = 1_700_000_000_000;

function open(dir: string, change: Partial<OutboxOptions> = {}): Outbox {
  return new Outbox({
    file: join(dir, 'outbox.db'),
    agentId: 'a1',
    boot: 'b1',
    noticeTopic: 'ndt.notices',
    maxBytes: 2 ** 30,
    maxAgeMs: 0,
    nowMs: () => FIRST,
    ...change,
  });
}
const record = (body: string) => ({ topic: 'TP_r1', key: 'r1', body });
const records = (n: number, bytes = 10) => Array.from({ length: n }, (_, i) => record(String(i).padEnd(bytes, '.')));
const balanced = (outbox: Outbox) => {
  const { produced, delivered, pending, dropped, rejected } = outbox.ledger();
  const sum = (counts: { [reason: string]: number }) => Object.values(counts).reduce((a, b) => a + b, 0);
  return produced === delivered + pending + sum(dropped) + sum(rejected);
};

describe('records', () => {
  it('come out in order, with their identity, until they are settled', () => {
    const outbox = open(tempDir());
    expect(outbox.append([record('one'), record('two')])).toBe(FIRST);
    const entry = { topic: 'TP_r1', key: 'r1', headers: { 'ndt-agent': 'a1', 'ndt-boot': 'b1', 'ndt-seq': String(FIRST) } };
    expect(outbox.peek(10)).toEqual([
      { seq: FIRST, body: 'one', ...entry },
      { seq: FIRST + 1, body: 'two', ...entry, headers: { ...entry.headers, 'ndt-seq': String(FIRST + 1) } },
    ]);
    outbox.settle({ acked: [FIRST], rejected: [] });
    outbox.settle({ acked: [FIRST], rejected: [] });
    expect(outbox.peek(10).map((e) => e.body)).toEqual(['two']);
    expect(outbox.ledger()).toMatchObject({ produced: 2, delivered: 1, pending: 1 });
    outbox.close();
  });

  it('survive a restart with numbers, boot and baselines; what waited is marked as replayed', () => {
    const dir = tempDir();
    const baseline = { epoch: '1.5', monotonic: '7', boot: 'k', devices: { eth0: { bytes: '1', packets: '2' } } };
    const before = open(dir);
    before.append([record('old')], new Map([['r1', baseline]]));
    before.close();
    const after = open(dir, { boot: 'b2', nowMs: () => FIRST + 1e6 });
    after.append([record('new')]);
    expect(after.peek(10).map(({ seq, headers }) => [seq, headers['ndt-boot'], headers['ndt-replayed']])).toEqual([
      [FIRST, 'b1', '1'],
      [FIRST + 1, 'b2', undefined],
    ]);
    expect(after.baselines().get('r1')).toEqual(baseline);
    after.close();
  });

  it('a new file never uses the numbers of a lost one again', () => {
    const lost = open(tempDir());
    lost.append(records(1000));
    const anew = open(tempDir(), { nowMs: () => FIRST + 60_000 });
    expect(anew.append([record('x')])).toBeGreaterThan(lost.ledger().last);
    lost.close();
    anew.close();
  });

  it('refused for good go to the local dead letters and are counted by reason', () => {
    const outbox = open(tempDir());
    outbox.append(records(3));
    outbox.settle({ acked: [], rejected: [{ seq: FIRST + 1, reason: 'too large' }] });
    expect(outbox.ledger()).toMatchObject({ pending: 2, rejected: { 'too large': 1 } });
    expect(balanced(outbox)).toBe(true);
    outbox.close();
  });
});

describe('bounds', () => {
  it('by size: the oldest go, are counted, and leave gap notices that are sent first', () => {
    const outbox = open(tempDir(), { maxBytes: 6 * 2 ** 20 });
    for (let i = 0; i < 100; i += 1) outbox.append(records(100, 1000));
    const { pending, dropped, bytes } = outbox.stats();
    expect(dropped.buffer_full).toBeGreaterThan(1000);
    expect(bytes).toBeLessThanOrEqual(6.2 * 2 ** 20);
    expect(pending).toBeGreaterThan(500);
    expect(balanced(outbox)).toBe(true);
    const notices = outbox.peek(1000).filter(({ seq }) => seq < 0);
    const gaps = notices.map(({ body }) => JSON.parse(body) as { from: number; to: number; count: number });
    expect(gaps.reduce((sum, { count }) => sum + count, 0)).toBe(dropped.buffer_full);
    expect(gaps[0]?.from).toBe(FIRST);
    expect(outbox.peek(1000).find(({ seq }) => seq > 0)?.seq).toBe((gaps.at(-1)?.to ?? 0) + 1);
    outbox.settle({ acked: notices.map(({ seq }) => seq), rejected: [] });
    expect(outbox.peek(1)[0]?.seq).toBeGreaterThan(0);
    outbox.close();
  });

  it('by age', () => {
    let now = FIRST;
    const outbox = open(tempDir(), { maxAgeMs: 60_000, nowMs: () => now });
    outbox.append(records(250));
    now += 61_000;
    outbox.append(records(2));
    expect(outbox.ledger()).toMatchObject({ pending: 2, dropped: { age: 250 } });
    expect(balanced(outbox)).toBe(true);
    outbox.close();
  });
});

it('agrees with a naive model under any operations, closing and opening again included', () => {
  const operation = fc.oneof(
    { weight: 4, arbitrary: fc.record({ op: fc.constant('append' as const), n: fc.integer({ min: 0, max: 20 }) }) },
    {
      weight: 4,
      arbitrary: fc.record({
        op: fc.constant('settle' as const),
        limit: fc.integer({ min: 1, max: 30 }),
        pick: fc.array(fc.constantFrom('ack', 'reject', 'leave'), { maxLength: 30 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('reopen' as const) }) },
  );
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 40 }), (operations) => {
      const dir = tempDir();
      let outbox = open(dir);
      const model: Array<{ seq: number; body: string }> = [];
      let next = FIRST;
      let [delivered, rejected] = [0, 0];
      for (const step of operations) {
        if (step.op === 'append') {
          const added = Array.from({ length: step.n }, (_, i) => ({ seq: next + i, body: `r${next + i}` }));
          outbox.append(added.map(({ body }) => record(body)));
          model.push(...added);
          next += step.n;
        } else if (step.op === 'reopen') {
          outbox.close();
          outbox = open(dir, { nowMs: () => FIRST + 12345 });
        } else {
          const seen = outbox.peek(step.limit);
          expect(seen.map(({ seq, body }) => ({ seq, body }))).toEqual(model.slice(0, step.limit));
          const chosen = (what: string) => seen.filter((_, i) => step.pick[i] === what).map(({ seq }) => seq);
          const [acked, refused] = [chosen('ack'), chosen('reject')];
          outbox.settle({ acked, rejected: refused.map((seq) => ({ seq, reason: 'no' })) });
          delivered += acked.length;
          rejected += refused.length;
          for (const seq of [...acked, ...refused])
            model.splice(
              model.findIndex((m) => m.seq === seq),
              1,
            );
        }
        const ledger = outbox.ledger();
        expect(ledger).toMatchObject({ produced: next - FIRST, delivered, pending: model.length, last: next - 1 });
        expect(ledger.rejected.no ?? 0).toBe(rejected);
      }
      expect(outbox.peek(1e6).map(({ seq }) => seq)).toEqual(model.map(({ seq }) => seq));
      outbox.close();
    }),
    { numRuns: 60 },
  );
});
