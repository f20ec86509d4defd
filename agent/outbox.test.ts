import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { copyFiles, drainAll, expectBalanced, FIRST, gapsOf, openOutbox, record, records, sum } from '../test/outbox.ts';
import { tempDir } from '../test/tempdir.ts';
import { bytesOnDisk } from './outbox/database.ts';
import type { Durability, Outbox, Policy } from './outbox.ts';

describe('records', () => {
  it('come out in order, with their identity, until they are settled', () => {
    const outbox = openOutbox(tempDir());
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
    const before = openOutbox(dir);
    before.append([record('old')], new Map([['r1', baseline]]));
    before.close();
    const after = openOutbox(dir, { boot: 'b2', nowMs: () => FIRST + 1e6 });
    after.append([record('new')]);
    expect(after.peek(10).map(({ seq, headers }) => [seq, headers['ndt-boot'], headers['ndt-replayed']])).toEqual([
      [FIRST, 'b1', '1'],
      [FIRST + 1, 'b2', undefined],
    ]);
    expect(after.baselines().get('r1')).toEqual(baseline);
    after.close();
  });

  it('a new file never uses the numbers of a lost one again', () => {
    const lost = openOutbox(tempDir());
    lost.append(records(1000));
    const anew = openOutbox(tempDir(), { nowMs: () => FIRST + 60_000 });
    expect(anew.append([record('x')])).toBeGreaterThan(lost.ledger().last);
    lost.close();
    anew.close();
  });

  it('refused for good go to the local dead letters and are counted by reason', () => {
    const dir = tempDir();
    const outbox = openOutbox(dir);
    outbox.append(records(3));
    outbox.settle({ acked: [], rejected: [{ seq: FIRST + 1, reason: 'too large' }] });
    expect(outbox.ledger()).toMatchObject({ pending: 2, rejected: { 'too large': 1 } });
    expectBalanced(outbox);
    outbox.close();
    const db = new Database(join(dir, 'outbox.db'), { readonly: true });
    expect(db.prepare('SELECT seq, reason FROM dead_letters').all()).toEqual([{ seq: FIRST + 1, reason: 'too large' }]);
    db.close();
  });

  it('what another program changes in the file is taken over', () => {
    const dir = tempDir();
    const outbox = openOutbox(dir);
    outbox.append(records(10));
    const other = new Database(join(dir, 'outbox.db'));
    other.transaction(() => {
      other.exec(`DELETE FROM records WHERE seq < ${FIRST + 4}; UPDATE meta SET value = 6 WHERE name = 'pending';
        UPDATE meta SET value = value + 1 WHERE name = 'version'; INSERT INTO counts (what, reason, n) VALUES ('dropped', 'operator', 4)`);
    })();
    other.close();
    outbox.maintain();
    outbox.append([record('more')]);
    expect(outbox.ledger()).toMatchObject({ produced: 11, pending: 7, dropped: { operator: 4 } });
    expectBalanced(outbox);
    outbox.close();
  });
});

describe('the two lanes', () => {
  it('an outage makes what waits backlog; new records are the fresh lane', () => {
    const outbox = openOutbox(tempDir());
    outbox.append(records(5));
    expect(outbox.read('backlog', 10)).toEqual([]);
    outbox.markReplayed();
    outbox.append([record('new')]);
    expect(outbox.read('fresh', 10).map(({ body }) => body)).toEqual(['new']);
    expect(outbox.read('backlog', 3).map(({ seq, headers }) => [seq - FIRST, headers['ndt-replayed']])).toEqual([
      [0, '1'],
      [1, '1'],
      [2, '1'],
    ]);
    expect(outbox.stats()).toMatchObject({ pending: 6, backlog: 5 });
    outbox.settle({ acked: [FIRST, FIRST + 5], rejected: [] });
    expect(outbox.stats()).toMatchObject({ pending: 4, backlog: 4 });
    outbox.close();
  });
});

const POLICIES: Policy[] = ['drop-oldest', 'drop-newest', 'thin-out'];

describe('bounds', () => {
  it.each(POLICIES)('by size, %s: database, log and blocks stay below the cap at every moment; gap notices name what went', (policy) => {
    const maxBytes = 3 * 2 ** 20;
    const dir = tempDir();
    const file = join(dir, 'outbox.db');
    const outbox = openOutbox(dir, { maxBytes, policy });
    let most = 0;
    for (let i = 0; i < 150; i += 1) {
      outbox.append(Array.from({ length: 40 }, (_, k) => record(`${i}.${k}`.padEnd(700 + ((i * k) % 600), '.'), `r${k % 4}`)));
      most = Math.max(most, bytesOnDisk(file));
      if (i % 10 === 9 && policy !== 'thin-out') outbox.settle({ acked: outbox.read('all', 20).map(({ seq }) => seq), rejected: [] });
      most = Math.max(most, bytesOnDisk(file));
    }
    expect(most).toBeLessThanOrEqual(maxBytes);
    expect(most).toBeGreaterThan(maxBytes * 0.7);
    expectBalanced(outbox);
    const { pending, dropped, delivered, produced } = outbox.ledger();
    expect(pending).toBeGreaterThan(1000);
    const gaps = gapsOf(outbox);
    expect(gaps.reduce((all, { count }) => all + count, 0)).toBe(sum(dropped));
    const waiting = drainAll(outbox);
    expect(waiting.length).toBe(pending);
    const there = new Set(waiting.map(({ seq }) => seq));
    if (policy === 'drop-oldest') {
      expect(dropped).toEqual({ buffer_full: produced - pending - delivered });
      // What is left is the end, without a hole.
      expect(waiting[0]?.seq).toBe(FIRST + produced - pending);
    } else if (policy === 'drop-newest') {
      expect(waiting.filter(({ seq }, i) => seq === (waiting[0]?.seq ?? 0) + i).length).toBeGreaterThan(500);
    } else {
      expect(dropped.thinned).toBeGreaterThan(1000);
      // The shape is kept: every hundred numbers of the whole outage still have records, of each router alike, and more of the newest.
      const density = (from: number, to: number) =>
        waiting.filter(({ seq }) => seq >= FIRST + from && seq < FIRST + to).length / (to - from);
      for (let from = 300; from < produced; from += 300) expect(density(from, from + 300), `at ${from}`).toBeGreaterThan(0);
      expect(density(produced - 400, produced)).toBeGreaterThan(2 * density(300, 1500));
      const byKey = [0, 1, 2, 3].map((k) => waiting.filter(({ key }) => key === `r${k}`).length);
      expect(Math.max(...byKey)).toBeLessThan(1.3 * Math.min(...byKey));
    }
    // Every number is delivered, there, or in a gap.
    const inGap = (seq: number) => gaps.some(({ from, to }) => seq >= from && seq <= to);
    let missing = 0;
    for (let seq = FIRST; seq < FIRST + produced; seq += 1) if (!there.has(seq) && !inGap(seq)) missing += 1;
    expect(missing).toBeLessThanOrEqual(delivered);
    outbox.close();
  });

  it('a record larger than the whole buffer is dropped and named; the others stay', () => {
    const outbox = openOutbox(tempDir(), { maxBytes: 2 ** 20 });
    outbox.append(records(3));
    outbox.append([record('x'.repeat(2 ** 21))]);
    outbox.append(records(3));
    expectBalanced(outbox);
    expect(sum(outbox.ledger().dropped)).toBeGreaterThan(0);
    expect(outbox.whereabouts()).toEqual({ where: 'disk', cause: undefined });
    outbox.close();
  });

  it('a lower cap makes the file smaller', () => {
    const dir = tempDir();
    const outbox = openOutbox(dir, { maxBytes: 16 * 2 ** 20 });
    for (let i = 0; i < 100; i += 1) outbox.append(records(100, 1000));
    outbox.configure({ maxBytes: 2 * 2 ** 20, maxAgeMs: 0, noticeTopic: 'ndt.notices' });
    outbox.append(records(1));
    for (let i = 0; i < 60; i += 1) outbox.maintain();
    outbox.append(records(1));
    expect(bytesOnDisk(join(dir, 'outbox.db'))).toBeLessThanOrEqual(2 * 2 ** 20);
    expectBalanced(outbox);
    outbox.close();
  });

  it('by age, in time that the machine was on: no step of the wall clock makes a record old', () => {
    const dir = tempDir();
    let [wall, monotonic] = [FIRST, 1000];
    const clocks = { maxAgeMs: 60_000, nowMs: () => wall, monotonicMs: () => monotonic };
    const outbox = openOutbox(dir, clocks);
    outbox.append(records(250));
    wall += 10 * 365 * 86_400_000;
    outbox.append(records(1));
    expect(outbox.ledger()).toMatchObject({ pending: 251 });
    wall -= 20 * 365 * 86_400_000;
    monotonic += 50_000;
    outbox.append(records(1));
    expect(outbox.ledger()).toMatchObject({ pending: 252 });
    outbox.close();
    // Within one boot the time between two starts counts.
    monotonic += 11_000;
    const again = openOutbox(dir, clocks);
    again.append(records(2));
    expect(again.ledger()).toMatchObject({ pending: 3, dropped: { age: 251 } });
    expectBalanced(again);
    again.close();
    // Over a boot it does not: nothing tells how long that was.
    monotonic = 5;
    wall += 100 * 86_400_000;
    const rebooted = openOutbox(dir, { ...clocks, kernelBoot: 'k2' });
    rebooted.append(records(1));
    expect(rebooted.ledger()).toMatchObject({ pending: 4 });
    monotonic += 61_000;
    rebooted.maintain();
    expect(rebooted.ledger()).toMatchObject({ pending: 0 });
    rebooted.close();
  });

  it('space that a backlog took is given back', () => {
    const dir = tempDir();
    const outbox = openOutbox(dir);
    for (let i = 0; i < 100; i += 1) outbox.append(records(100, 1000));
    const full = bytesOnDisk(join(dir, 'outbox.db'));
    while (outbox.ledger().pending > 0) outbox.settle({ acked: outbox.read('all', 500).map(({ seq }) => seq), rejected: [] });
    for (let i = 0; i < 30; i += 1) outbox.maintain();
    outbox.close();
    expect(bytesOnDisk(join(dir, 'outbox.db'))).toBeLessThan(full / 4);
  });
});

describe('memory first (durability on-outage)', () => {
  it('what is confirmed in time never touches the disk; what waits goes there together', () => {
    const dir = tempDir();
    let monotonic = 0;
    const outbox = openOutbox(dir, { durability: 'on-outage', memoryMs: 10_000, monotonicMs: () => monotonic });
    const inFile = () => {
      const db = new Database(join(dir, 'outbox.db'), { readonly: true });
      const n = db.prepare('SELECT count(*) FROM records').pluck().get();
      db.close();
      return n;
    };
    outbox.append(records(20));
    outbox.settle({ acked: outbox.read('fresh', 10).map(({ seq }) => seq), rejected: [] });
    expect([inFile(), outbox.ledger().pending, outbox.stats().memory.records]).toEqual([0, 10, 10]);
    monotonic = 9000;
    outbox.append(records(5));
    outbox.maintain();
    expect(inFile()).toBe(0);
    monotonic = 10_001;
    outbox.maintain();
    expect([inFile(), outbox.stats().memory.records]).toEqual([15, 0]);
    outbox.append(records(5));
    expect(outbox.read('all', 100).map(({ seq }) => seq - FIRST)).toEqual(Array.from({ length: 20 }, (_, i) => i + 10));
    expectBalanced(outbox);
    outbox.close();
    expect(inFile()).toBe(20);
    const again = openOutbox(dir, { durability: 'on-outage' });
    expect(again.ledger()).toMatchObject({ produced: 30, delivered: 10, pending: 20, dropped: {} });
    again.close();
  });

  it('what dies in memory is named at the next start, at most a block more, and its numbers are not used again', () => {
    const dir = tempDir();
    const outbox = openOutbox(dir, { durability: 'on-outage' });
    outbox.append(records(30));
    outbox.settle({ acked: outbox.read('fresh', 10).map(({ seq }) => seq), rejected: [] });
    const after = openOutbox(copyFiles(dir, tempDir()), { durability: 'on-outage' });
    const { produced, delivered, pending, dropped, last } = after.ledger();
    expect(pending).toBe(0);
    expect(dropped.lost_in_memory).toBeGreaterThanOrEqual(20);
    expect(produced).toBeLessThanOrEqual(30 + 30 * 8 + 64);
    expect(last).toBeGreaterThanOrEqual(FIRST + 29);
    expectBalanced(after);
    const gap = gapsOf(after)[0];
    expect(gap).toMatchObject({ reason: 'lost_in_memory', from: FIRST, to: last, count: produced - delivered });
    expect(after.append([record('next')])).toBe(last + 1);
    after.close();
    outbox.close();
  });
});

it('after a power cut numbers go on above all that can have been used, without a record being called lost', () => {
  const dir = tempDir();
  const outbox = openOutbox(dir);
  outbox.append(records(10));
  const copy = copyFiles(dir, tempDir());
  outbox.close();
  const later = FIRST + 86_400_000;
  const after = openOutbox(copy, { kernelBoot: 'k2', nowMs: () => later });
  expect(after.ledger()).toMatchObject({ produced: 10, pending: 10, dropped: {} });
  expect(gapsOf(after)).toEqual([expect.objectContaining({ from: FIRST + 10, to: later, count: 0, reason: 'unused' })]);
  expect(after.append([record('x')])).toBe(later + 1);
  expectBalanced(after);
  after.close();
});

it('durability normal: a power cut that took the last commits is named, at most a block', () => {
  const dir = tempDir();
  const outbox = openOutbox(dir, { durability: 'normal' });
  outbox.append(records(10));
  const copy = copyFiles(dir, tempDir());
  outbox.append(records(5));
  // The mark is newer than the file: it was written behind the last commits that were lost.
  writeFileSync(join(copy, 'outbox.db.seq'), readFileSync(join(dir, 'outbox.db.seq')));
  outbox.close();
  const after = openOutbox(copy, { kernelBoot: 'k2', durability: 'normal' });
  const { dropped, last, pending } = after.ledger();
  expect(pending).toBe(10);
  expect(dropped.power_cut).toBeGreaterThanOrEqual(5);
  expect(last).toBeGreaterThanOrEqual(FIRST + 14);
  expectBalanced(after);
  after.close();
});

describe('agrees with a naive model under any operations', () => {
  const operation = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        op: fc.constant('append' as const),
        n: fc.integer({ min: 0, max: 20 }),
        bytes: fc.integer({ min: 1, max: 3000 }),
      }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        op: fc.constant('settle' as const),
        lane: fc.constantFrom('all' as const, 'fresh' as const, 'backlog' as const),
        limit: fc.integer({ min: 1, max: 30 }),
        pick: fc.array(fc.constantFrom('ack', 'reject', 'leave'), { maxLength: 30 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('reopen' as const) }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('crash' as const) }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('outage' as const) }) },
    { weight: 2, arbitrary: fc.record({ op: fc.constant('time' as const), ms: fc.integer({ min: 1, max: 20_000 }) }) },
  );

  interface Model {
    waiting: Array<{ seq: number; body: string }>;
    next: number;
    boundary: number;
    delivered: number;
    rejected: number;
  }

  /** Takes out of the model what the outbox says it dropped, and checks that it says so of nothing else. */
  function reconcile(model: Model, outbox: Outbox, bounded: boolean): void {
    const there = new Map(drainAll(outbox).map(({ seq, body }) => [seq, body]));
    const gone = model.waiting.filter(({ seq }) => !there.has(seq));
    if (!bounded) expect(gone).toEqual([]);
    const gaps = gapsOf(outbox);
    for (const { seq } of gone)
      expect(
        gaps.some(({ from, to }) => seq >= from && seq <= to),
        `number ${seq} is in a gap`,
      ).toBe(true);
    model.waiting = model.waiting.filter(({ seq }) => there.has(seq));
    expect(model.waiting.map(({ seq, body }) => [seq, body])).toEqual([...there]);
  }

  it.each<[string, Durability, Policy | undefined]>([
    ['on disk', 'full', undefined],
    ['durability normal', 'normal', undefined],
    ['memory first', 'on-outage', undefined],
    ['a small cap, drop-oldest', 'full', 'drop-oldest'],
    ['a small cap, drop-newest', 'full', 'drop-newest'],
    ['a small cap, thin-out', 'full', 'thin-out'],
    ['memory first, a small cap, drop-oldest', 'on-outage', 'drop-oldest'],
  ])('%s: append, read, partial settle, crash, reopen, evict', (_name, durability, policy) => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (operations) => {
        let dir = tempDir();
        let monotonic = 0;
        const settings = () => ({
          durability,
          monotonicMs: () => monotonic,
          memoryBytes: 2 ** 17,
          ...(policy === undefined ? {} : { policy, maxBytes: 2 ** 20 }),
        });
        let outbox = openOutbox(dir, settings());
        const model: Model = { waiting: [], next: FIRST, boundary: FIRST - 1, delivered: 0, rejected: 0 };
        for (const step of operations) {
          if (step.op === 'append') {
            const bodies = Array.from({ length: step.n }, (_, i) => `r${model.next + i} `.padEnd(step.bytes, 'x'));
            const first = outbox.append(bodies.map((body, i) => record(body, `r${i % 3}`)));
            expect(first).toBe(model.next);
            model.waiting.push(...bodies.map((body, i) => ({ seq: first + i, body })));
            model.next += step.n;
            reconcile(model, outbox, policy !== undefined);
          } else if (step.op === 'reopen') {
            outbox.close();
            outbox = openOutbox(dir, { ...settings(), nowMs: () => FIRST + 12345 });
            model.boundary = model.next - 1;
          } else if (step.op === 'crash') {
            const inMemory = outbox.stats().memory.records;
            const before = outbox.ledger();
            const crashed = dir;
            dir = copyFiles(crashed, tempDir());
            outbox.close();
            outbox = openOutbox(dir, settings());
            const after = outbox.ledger();
            // Numbers only go forward; without memory nothing at all is lost.
            expect(after.last).toBeGreaterThanOrEqual(before.last);
            if (durability !== 'on-outage') expect(after).toEqual(before);
            const there = new Set(drainAll(outbox).map(({ seq }) => seq));
            const lost = model.waiting.filter(({ seq }) => !there.has(seq));
            expect(lost.length).toBeLessThanOrEqual(inMemory);
            expect((after.dropped.lost_in_memory ?? 0) - (before.dropped.lost_in_memory ?? 0)).toBeGreaterThanOrEqual(lost.length);
            reconcile(model, outbox, lost.length > 0);
            model.next = after.last + 1;
            model.boundary = after.last;
            // What the ledger cannot know of the time since the last mark.
            model.delivered = after.delivered;
            model.rejected = after.rejected.no ?? 0;
          } else if (step.op === 'outage') {
            outbox.markReplayed();
            model.boundary = model.next - 1;
          } else if (step.op === 'time') {
            monotonic += step.ms;
            outbox.maintain();
          } else {
            const seen = outbox.read(step.lane, step.limit);
            const lane = model.waiting.filter(({ seq }) => step.lane === 'all' || seq <= model.boundary === (step.lane === 'backlog'));
            expect(seen.map(({ seq, body }) => ({ seq, body }))).toEqual(lane.slice(0, step.limit));
            const chosen = (what: string) => seen.filter((_, i) => step.pick[i] === what).map(({ seq }) => seq);
            const [acked, refused] = [chosen('ack'), chosen('reject')];
            outbox.settle({ acked, rejected: refused.map((seq) => ({ seq, reason: 'no' })) });
            model.delivered += acked.length;
            model.rejected += refused.length;
            const settled = new Set([...acked, ...refused]);
            model.waiting = model.waiting.filter(({ seq }) => !settled.has(seq));
          }
          const ledger = outbox.ledger();
          expect(ledger).toMatchObject({ delivered: model.delivered, pending: model.waiting.length, last: model.next - 1 });
          expect(ledger.rejected.no ?? 0).toBe(model.rejected);
          expectBalanced(outbox);
        }
        expect(drainAll(outbox).map(({ seq }) => seq)).toEqual(model.waiting.map(({ seq }) => seq));
        outbox.close();
      }),
      { numRuns: 20 },
    );
  });
});
