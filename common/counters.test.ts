/** What counters do beside counting: falls, glitches, ends, interfaces that come and go. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Baseline, type RateOutcome, type RateParams, rate } from './rates.ts';

const params: RateParams = { maxThroughputMbps: 100, multiplier: 1, pollingIntervalS: 5 };
/** Bytes that the link carries in an interval. */
const MOST = (100e6 / 8) * 5;

type Reading = { [device: string]: [bytes: bigint | number, packets: bigint | number, id?: string] };

/** Readings 5 s apart; undefined is a poll that failed. */
function run(readings: Array<Reading | undefined>, settings = params): RateOutcome[] {
  let baseline: Baseline | undefined;
  const outcomes: RateOutcome[] = [];
  readings.forEach((devices, i) => {
    if (devices === undefined) return;
    const next: Baseline = {
      epoch: (1000 + 5 * i).toFixed(3),
      devices: Object.fromEntries(
        Object.entries(devices).map(([name, [bytes, packets, id]]) => [
          name,
          { bytes: String(bytes), packets: String(packets), ...(id === undefined ? {} : { id }) },
        ]),
      ),
    };
    // As it is kept over a restart.
    const outcome = rate(baseline === undefined ? undefined : (JSON.parse(JSON.stringify(baseline)) as Baseline), next, settings);
    baseline = outcome.baseline;
    outcomes.push(outcome);
  });
  return outcomes;
}
const told = (outcomes: RateOutcome[]) =>
  outcomes.map((outcome) => ('noRate' in outcome ? outcome.noRate : Number(outcome.rates.deltaBytes)));
const events = (outcomes: RateOutcome[]) =>
  outcomes.reduce<{ [event: string]: number }>((all, outcome) => {
    for (const [event, n] of Object.entries(outcome.events)) if (n > 0) all[event] = (all[event] ?? 0) + n;
    return all;
  }, {});
const eth0 = (bytes: bigint | number, packets: bigint | number): Reading => ({ eth0: [bytes, packets] });
const BIG = 5_000_000_000_000n;

describe('a fall', () => {
  it('that is a reset gives no rate once, and counts on from the newer reading', () => {
    const outcomes = run([eth0(BIG, 5e9), eth0(BIG + 1000n, 5_000_000_010n), eth0(700, 7), eth0(1700, 17), eth0(2700, 27)]);
    expect(told(outcomes)).toEqual(['first', 1000, 'reset', 1000, 1000]);
    expect(events(outcomes)).toEqual({ reset: 1 });
  });

  it('to 0 between two readings that go on is a glitch: no spike, and nothing is missing', () => {
    const outcomes = run([eth0(BIG, 5e9), eth0(0, 0), eth0(BIG + 2000n, 5_000_000_020n), eth0(BIG + 3000n, 5_000_000_030n)]);
    expect(told(outcomes)).toEqual(['first', 'reset', 2000, 1000]);
    const third = outcomes[2];
    if (third === undefined || 'noRate' in third) throw new Error('no rate');
    expect([third.rates.seconds, third.rates.packetRate]).toEqual([10, 2]);
    expect(events(outcomes)).toEqual({ reset: 1, glitch: 1 });
  });

  it('that lasts for several readings, then goes on where it was: no spike', () => {
    const outcomes = run([
      eth0(BIG, 5e9),
      eth0(0, 0),
      eth0(0, 0),
      eth0(5, 1),
      eth0(BIG + 4000n, 5_000_000_040n),
      eth0(BIG + 5000n, 5_000_000_050n),
    ]);
    expect(told(outcomes)).toEqual(['first', 'reset', 0, 5, 4000, 1000]);
    const long = run([
      eth0(BIG, 5e9),
      ...Array.from({ length: 9 }, () => eth0(0, 0)),
      eth0(BIG + 4000n, 5_000_000_040n),
      eth0(BIG + 5000n, 5_000_000_050n),
    ]);
    expect(told(long).slice(-2)).toEqual(['reset', 1000]);
  });

  it('of one counter alone, or to another value than 0, is treated alike', () => {
    expect(told(run([eth0(BIG, 5e9), eth0(BIG + 1n, 0), eth0(BIG + 2000n, 5_000_000_020n)]))).toEqual(['first', 'reset', 2000]);
    expect(told(run([eth0(BIG, 5e9), eth0(17, 3), eth0(BIG + 2000n, 5_000_000_020n)]))).toEqual(['first', 'reset', 2000]);
  });

  it('of small counters, where both could be, is a reset as the contract says', () => {
    expect(told(run([eth0(1000, 10), eth0(0, 0), eth0(2000, 20)]))).toEqual(['first', 'reset', 2000]);
  });

  it('of a link that is faster than configured costs one interval more, not all of them', () => {
    const step = MOST * 4;
    expect(told(run([eth0(100 * step, 1e6), eth0(0, 0), eth0(step, 10), eth0(2 * step, 20)]))).toEqual(['first', 'reset', 'reset', step]);
  });
});

describe('interfaces', () => {
  it('one that vanishes and returns has no part in the intervals around it', () => {
    const both = (n: number): Reading => ({ eth0: [1000 * n, n], wan: [BIG + BigInt(n) * 10n, 1000 + n] });
    const outcomes = run([both(1), both(2), eth0(3000, 3), eth0(4000, 4), both(5), both(6)]);
    expect(told(outcomes)).toEqual(['first', 1010, 1000, 1000, 1000, 1010]);
    expect(events(outcomes)).toEqual({ vanished: 1, appeared: 1 });
  });
  it('one that is made anew under its name starts anew, even where its counters are higher', () => {
    const outcomes = run([
      { eth0: [1000, 10, '7'] },
      { eth0: [2000, 20, '7'] },
      { eth0: [900_000, 900, '8'] },
      { eth0: [901_000, 910, '8'] },
    ]);
    expect(told(outcomes)).toEqual(['first', 1000, 'no_interface', 1000]);
    expect(events(outcomes)).toEqual({ recreated: 1 });
  });
  it('the others count on while one is made anew', () => {
    const outcomes = run([
      { eth0: [1000, 10, '7'], tun: [5000, 5, '9'] },
      { eth0: [2000, 20, '7'], tun: [10, 1, '12'] },
      { eth0: [3000, 30, '7'], tun: [20, 2, '12'] },
    ]);
    expect(told(outcomes)).toEqual(['first', 1000, 1010]);
    expect(events(outcomes)).toEqual({ recreated: 1 });
  });
});

it('a 32-bit counter that passes its end has a rate and is counted', () => {
  const outcomes = run([eth0(2 ** 32 - 500, 10), eth0(500, 20)]);
  expect(told(outcomes)).toEqual(['first', 1000]);
  expect(events(outcomes)).toEqual({ wrap: 1 });
});

it('after any fault there is no spike above the link’s speed, and what counts on adds up', () => {
  const faults = fc.array(fc.constantFrom('none', 'none', 'none', 'zero', 'reset', 'away', 'failed'), { minLength: 3, maxLength: 30 });
  fc.assert(
    fc.property(
      fc.bigInt(10n ** 10n, 2n ** 62n),
      fc.array(fc.nat({ max: 40_000_000 }), { minLength: 30, maxLength: 30 }),
      faults,
      (start, added, plan) => {
        let [bytes, packets] = [start, start / 500n];
        const readings = plan.map((fault, i): Reading | undefined => {
          bytes += BigInt(added[i] ?? 0);
          packets += BigInt(Math.floor((added[i] ?? 0) / 500));
          if (fault === 'reset') [bytes, packets] = [BigInt((added[i] ?? 0) % 1000), 1n];
          if (fault === 'failed') return undefined;
          if (fault === 'zero') return { eth0: [0, 0], lo: [1, 1] };
          return fault === 'away' ? { lo: [1, 1] } : { eth0: [bytes, packets], lo: [1, 1] };
        });
        for (const outcome of run(readings)) {
          if ('noRate' in outcome) continue;
          expect(outcome.rates.occupation).toBeLessThanOrEqual(110);
          expect(outcome.rates.occupation).toBeGreaterThanOrEqual(0);
        }
      },
    ),
    { numRuns: 500 },
  );
});
