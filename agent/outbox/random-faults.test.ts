/** A disk that fails at random, in every way that a transaction can: what is promised holds after every step, and all is sent in the end. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decideWrites, type Outcome, underTest } from '../../test/failing-disk.ts';
import { expectBalanced, openOutbox, record, sum } from '../../test/outbox.ts';
import { tempDir } from '../../test/tempdir.ts';
import type { LaneName } from '../outbox.ts';

const OUTCOMES: Outcome[] = [
  { code: 'SQLITE_IOERR_FSYNC', made: true },
  { code: 'SQLITE_IOERR_FSYNC' },
  { code: 'SQLITE_FULL' },
  { code: 'SQLITE_BUSY' },
  { code: 'SQLITE_READONLY' },
];
/** Losses that a disk which fails for a while may cost. */
const LOSSES = ['memory_full', 'lost_in_memory'];

type Step =
  | { do: 'append'; n: number }
  | { do: 'read'; lane: LaneName; n: number }
  /** Of a batch that is on its way, in any order: each is confirmed, refused, or forgotten. */
  | { do: 'settle'; batch: number; fates: number[] }
  | { do: 'notices' | 'markReplayed' | 'wait' | 'restart' };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 7, arbitrary: fc.record({ do: fc.constant('append' as const), n: fc.integer({ min: 1, max: 6 }) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('read' as const),
      lane: fc.constantFrom<LaneName>('all', 'fresh', 'backlog'),
      n: fc.integer({ min: 1, max: 10 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      batch: fc.nat(20),
      fates: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 10, maxLength: 10 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constantFrom('notices' as const, 'markReplayed' as const, 'wait' as const, 'wait' as const) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const) }) },
);
/** What the next transactions come to while a step runs: mostly well, else a fault. */
const outcomes = fc.array(fc.option(fc.constantFrom(...OUTCOMES), { freq: 3, nil: 'well' as const }), { maxLength: 4 });
const settings = fc.record({
  durability: fc.constantFrom('full' as const, 'on-outage' as const),
  memoryBytes: fc.constantFrom(65_536, 8000),
});

interface Settings {
  durability: 'full' | 'on-outage';
  memoryBytes: number;
}

/** @param plan told what the transactions of the next step come to */
function live({ durability, memoryBytes }: Settings, steps: Array<[Step, Outcome[]]>, plan: (outcomes: Outcome[]) => void): void {
  const dir = tempDir();
  const { options, clock, told } = underTest(dir);
  const make = () => openOutbox(dir, { ...options, durability, memoryMs: 5000, memoryBytes });
  let outbox = make();
  const bodies = new Map<number, string>();
  const inFlight: number[][] = [];
  const take = (list: string[]) => {
    const first = outbox.append(list.map((body) => record(body)));
    for (const [i, body] of list.entries()) {
      if (bodies.has(first + i)) throw new Error(`the number ${first + i} was used before`);
      bodies.set(first + i, body);
    }
  };
  const run = (now: Step) => {
    if (now.do === 'append') take(Array.from({ length: now.n }, (_, i) => `${bodies.size + i}`.padEnd(60, '.')));
    else if (now.do === 'read') {
      const read = outbox.read(now.lane, now.n);
      for (const { seq, body } of read) expect(body).toBe(bodies.get(seq));
      if (read.length > 0) inFlight.push(read.map(({ seq }) => seq));
    } else if (now.do === 'settle') {
      const batch = inFlight.splice(inFlight.length === 0 ? 0 : now.batch % inFlight.length, 1)[0] ?? [];
      const fate = (i: number) => now.fates[i] ?? 0;
      outbox.settle({
        acked: batch.filter((_, i) => fate(i) < 8),
        rejected: batch.filter((_, i) => fate(i) === 8).map((seq) => ({ seq, reason: 'no' })),
      });
    } else if (now.do === 'notices') outbox.settle({ acked: outbox.notices(10).map(({ seq }) => seq), rejected: [] });
    else if (now.do === 'markReplayed') outbox.markReplayed();
    else if (now.do === 'wait') {
      clock.monotonic += 40_000;
      outbox.maintain();
    } else {
      outbox.close();
      outbox = make();
      inFlight.length = 0;
    }
  };
  for (const [now, planned] of steps) {
    plan([...planned]);
    run(now);
    const { produced, delivered, pending, dropped, rejected } = outbox.ledger();
    expect(pending).toBeGreaterThanOrEqual(0);
    expect(produced).toBe(delivered + pending + sum(dropped) + sum(rejected));
  }
  plan([]);
  for (let i = 0; i < 3; i += 1) {
    clock.monotonic += 60_000;
    outbox.maintain();
  }
  take(['the last one']);
  clock.monotonic += 60_000;
  outbox.maintain();
  expect(outbox.whereabouts().cause, told.text()).toBeUndefined();
  expectBalanced(outbox);
  // A fault of the disk is no damage, unless there are so many in a row that the file is not read any more.
  const damages = told.events.filter(({ message }) => message.startsWith('the buffer was damaged'));
  expect(damages.filter(({ message }) => !message.includes('(disk fault)'))).toEqual([]);
  const { dropped } = outbox.ledger();
  const allowed = damages.length === 0 ? LOSSES : [...LOSSES, 'corrupt'];
  const others = Object.keys(dropped).filter((reason) => !allowed.includes(reason) && dropped[reason] !== 0);
  expect(others, told.text()).toEqual([]);
  for (let read = outbox.read('all', 50); read.length > 0; read = outbox.read('all', 50))
    outbox.settle({ acked: read.map(({ seq }) => seq), rejected: [] });
  expect([outbox.ledger().pending, outbox.stats().backlog]).toEqual([0, 0]);
  const end = outbox.ledger();
  outbox.close();
  outbox = make();
  expect(outbox.ledger()).toEqual(end);
  outbox.close();
}

it('the ledger balances, no number stands for two records, nothing is taken for damage, and all is sent in the end', () => {
  const steps = fc.array(fc.tuple(step, outcomes), { minLength: 40, maxLength: 120 });
  let outcomesLeft: Outcome[] = [];
  decideWrites(() => outcomesLeft.shift() ?? 'well');
  const plan = (next: Outcome[]) => {
    outcomesLeft = next;
  };
  fc.assert(
    fc.property(settings, steps, (chosen, list) => live(chosen, list, plan)),
    { numRuns: 40, seed: 20_251_121, endOnFailure: true },
  );
});
