import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Baseline, countersOf, mlInputs, parseCounter, type RateParams, rate } from './rates.ts';
import { RECEIVED_BYTES, RECEIVED_PACKETS } from './record.ts';

const params: RateParams = { maxThroughputMbps: 100, multiplier: 2000, pollingIntervalS: 5 };
const at = (seconds: number, devices: { [d: string]: [bigint | number, bigint | number] }): Baseline => ({
  epoch: seconds.toFixed(6),
  devices: Object.fromEntries(
    Object.entries(devices).map(([d, [bytes, packets]]) => [d, { bytes: String(bytes), packets: String(packets) }]),
  ),
});
const rates = (a: Baseline | undefined, b: Baseline, p = params) => {
  const outcome = rate(a, b, p);
  if ('noRate' in outcome) throw new Error(`no rate: ${outcome.noRate}`);
  return outcome.rates;
};
const reason = (a: Baseline | undefined, b: Baseline, p = params) => {
  const outcome = rate(a, b, p);
  return 'noRate' in outcome ? outcome.noRate : 'rate';
};

describe('counters', () => {
  it.each([
    ['2.434326851e+09', 2434326851n],
    ['2434326851', 2434326851n],
    ['1.8446744073709552e+19', 18446744073709552000n],
    ['18446744073709551615', 18446744073709551615n],
    ['0', 0n],
    ['0.0', 0n],
    ['12.0', 12n],
    ['1.5e1', 15n],
    ['15e-1', undefined],
    ['150e-1', 15n],
    ['1e99', undefined],
    ['-1', undefined],
    ['NaN', undefined],
    ['+Inf', undefined],
    ['', undefined],
    ['0x10', undefined],
  ])('%s', (text, value) => {
    expect(parseCounter(text)).toBe(value);
  });
  it('are read back exactly, as the exposition prints them', () => {
    fc.assert(
      fc.property(
        fc.nat({ max: Number.MAX_SAFE_INTEGER }),
        (n) => parseCounter(n.toExponential()) === BigInt(n) && parseCounter(String(n)) === BigInt(n),
      ),
    );
  });
  it('of millions of digits are none, and found out at once', () => {
    const started = performance.now();
    expect(parseCounter('9'.repeat(20_000_000))).toBeUndefined();
    // As a number they would take several seconds.
    expect(performance.now() - started).toBeLessThan(1000);
    expect(parseCounter(`${'0'.repeat(80)}7`)).toBe(7n);
  });
  it('are paired by label, never by place', () => {
    const family = (name: string, values: Array<[string, string]>) => ({
      name,
      description: '',
      type: 'counter',
      values: values.map(([device, value]) => ({ labels: [{ name: 'device', value: device }], value })),
    });
    const devices = countersOf([
      family(RECEIVED_BYTES, [
        ['a', '1'],
        ['b', '2'],
      ]),
      family(RECEIVED_PACKETS, [
        ['b', '20'],
        ['a', '10'],
        ['c', '30'],
      ]),
    ]);
    expect(devices).toEqual({ a: { bytes: '1', packets: '10' }, b: { bytes: '2', packets: '20' } });
  });
});

describe('an interface that is called like a part of every object', () => {
  it.each(['constructor', 'toString', '__proto__'])('%s, is one like any other', (name) => {
    const family = (metric: string, value: string) => ({
      name: metric,
      description: '',
      type: 'counter',
      values: [{ labels: [{ name: 'device', value: name }], value }],
    });
    const devices = countersOf([family(RECEIVED_BYTES, '2000'), family(RECEIVED_PACKETS, '20')]) ?? {};
    expect(Object.entries(devices)).toEqual([[name, { bytes: '2000', packets: '20' }]]);

    const reading = (n: number, ...names: string[]) =>
      at(100 + 5 * n, Object.fromEntries(names.map((device): [string, [number, number]] => [device, [1000 * n, 10 * n]])));
    const told = (a: Baseline, b: Baseline) => rate(a, b, params);
    expect(told(reading(1, 'a'), reading(2, 'a', name))).toMatchObject({ rates: { deltaBytes: 1000n }, events: { appeared: 1 } });
    expect(told(reading(2, 'a', name), reading(3, 'a', name))).toMatchObject({ rates: { deltaBytes: 2000n, deltaPackets: 20n } });
    expect(told(reading(3, 'a', name), reading(4, 'a'))).toMatchObject({ rates: { deltaBytes: 1000n }, events: { vanished: 1 } });
  });
});

describe('the formulas of the contract', () => {
  it('sum over interfaces; the multiplier is in the packet rate alone', () => {
    const found = rates(at(100, { a: [1000, 10], b: [5000, 20] }), at(105, { b: [15_000, 30], a: [3000, 30] }));
    expect(mlInputs(found).map(({ name, type, value }) => [name, type, value])).toEqual([
      ['node_network_receive_packets_total_rate', 'rate', (30 / 5) * 2000],
      ['node_network_average_received_packet_length', 'length', 12_000 / 30],
      ['node_network_router_capacity_occupation', 'percentage', ((12_000 * 8) / 5 / 100e6) * 100],
    ]);
  });
  it('the seed’s figures', () => {
    // One packet of 1464 bytes in 6.623 s at multiplier 2000.
    const seconds = 2000 / 301.9684264999918;
    const found = rates(
      { ...at(100, { eth2: [0, 0] }), monotonic: '0', boot: 'x' },
      { ...at(100, { eth2: [1464, 1] }), monotonic: String(Math.round(seconds * 1e9)), boot: 'x' },
    );
    expect(found.packetRate).toBeCloseTo(301.9684264999918, 5);
    expect(found.averageLength).toBe(1464);
    expect(found.occupation).toBeCloseTo(0.0017683271055839516, 10);
  });
  it('no packets: length 0', () => {
    expect(rates(at(1, { a: [5, 5] }), at(2, { a: [5, 5] }))).toMatchObject({ packetRate: 0, averageLength: 0, occupation: 0 });
  });
  it('64-bit counters are subtracted exactly', () => {
    const big = 2n ** 64n - 100n;
    expect(rates(at(1, { a: [big, 1n] }), at(2, { a: [big + 3n, 4n] })).deltaBytes).toBe(3n);
  });
});

describe('no rate', () => {
  const one = at(100, { a: [1000, 10] });
  it.each([
    ['the first record', undefined, one, 'first'],
    ['a reset', one, at(105, { a: [0, 0] }), 'reset'],
    ['a reset on one of two interfaces', at(100, { a: [1000, 10], b: [9, 9] }), at(105, { a: [2000, 20], b: [8, 9] }), 'reset'],
    ['a gap of more than 5 intervals', one, at(125.1, { a: [2000, 20] }), 'gap'],
    ['the same time', one, at(100, { a: [2000, 20] }), 'not_newer'],
    ['an older time', one, at(99, { a: [2000, 20] }), 'not_newer'],
    ['no interface in both', one, at(105, { b: [1, 1] }), 'no_interface'],
  ])('%s', (_what, a, b, wanted) => {
    expect(reason(a, b)).toBe(wanted);
  });
  it('exactly 5 intervals still give one', () => {
    expect(reason(one, at(125, { a: [2000, 20] }))).toBe('rate');
  });
  it('an older record does not become the baseline; a newer one does', () => {
    expect(rate(one, at(99, { a: [2000, 20] }), params).baseline).toBe(one);
    expect(rate(one, at(200, { a: [2000, 20] }), params).baseline?.epoch).toBe('200.000000');
  });
  it('a new interface has no part in its first interval', () => {
    expect(rates(one, at(105, { a: [2000, 20], b: [1_000_000, 1000] })).deltaBytes).toBe(1000n);
  });
});

describe('a burst of several links at once is a rate', () => {
  // 640 Mbit/s in each of two ports of 1 Gbit/s: the readings of n intervals of 5 s, in which so much went through each.
  const gigabit = { ...params, maxThroughputMbps: 1000 };
  const BURST = 400_000_000;
  const told = (readings: Baseline[]) => {
    let previous: Baseline | undefined;
    return readings.map((reading) => {
      const outcome = rate(previous, reading, gigabit);
      previous = outcome.baseline;
      return 'noRate' in outcome ? outcome.noRate : outcome.rates.deltaBytes;
    });
  };
  it('also beside a port that has never carried anything', () => {
    const busy = (n: number): [number, number] => [1e12 + n * BURST, 1e9 + n * 300_000];
    expect(told([0, 1, 2, 3].map((n) => at(5 * n, { a: busy(n), b: busy(n), idle: [0, 0] })))).toEqual([
      'first',
      BigInt(2 * BURST),
      BigInt(2 * BURST),
      BigInt(2 * BURST),
    ]);
  });
  it('but not where a counter was 0 for the first time: nothing tells what it has been', () => {
    expect(told([at(0, { a: [0, 0] }), at(5, { a: [5e12, 5e9] }), at(10, { a: [5e12 + 1000, 5e9 + 10] })])).toEqual([
      'first',
      'reset',
      1000n,
    ]);
  });
  it('also long after a restart, whose fall is none of today', () => {
    const quiet = (n: number): [number, number] => [1000 + n * 1_000_000, 10 + n * 1000];
    const readings = [at(0, { a: [9e12, 9e9], b: [9e12, 9e9] })];
    for (let n = 1; n < 20; n += 1) readings.push(at(5 * n, { a: quiet(n), b: quiet(n) }));
    const [bytes, packets] = quiet(19);
    const burst: [number, number] = [bytes + BURST, packets + 300_000];
    const found = told([...readings, at(100, { a: burst, b: burst })]);
    expect(found.slice(0, 3)).toEqual(['first', 'reset', 2_000_000n]);
    expect(found.at(-1)).toBe(BigInt(2 * BURST));
  });
});

describe('the end of a 32-bit counter', () => {
  const end = 2 ** 32;
  it('is told from a reset by the old value and the link’s speed', () => {
    expect(rates(at(100, { a: [end - 1000, 10] }), at(105, { a: [500, 12] }))).toMatchObject({ deltaBytes: 1500n, wraps: 1 });
    // 100 Mbit/s carry 62.5 MB in 5 s.
    expect(reason(at(100, { a: [end - 1000, 10] }), at(105, { a: [63_000_000, 12] }))).toBe('reset');
    expect(reason(at(100, { a: [1000, 10] }), at(105, { a: [500, 12] }))).toBe('reset');
    expect(reason(at(100, { a: [end + 1000, 10] }), at(105, { a: [500, 12] }))).toBe('reset');
  });
  it('a restart near the end is a reset, because the packets fell as well', () => {
    expect(reason(at(100, { a: [end - 1000, 5_000_000] }), at(105, { a: [500, 3] }))).toBe('reset');
  });
});

describe('clocks', () => {
  const seconds = (a: Partial<Baseline>, b: Partial<Baseline>) =>
    rates({ ...at(100, { a: [0, 0] }), ...a }, { ...at(105, { a: [10, 10] }), ...b }).seconds;
  it('the monotonic clock counts within a boot, the records’ times else', () => {
    expect(seconds({ monotonic: '1000000000', boot: 'x' }, { monotonic: '3000000000', boot: 'x' })).toBe(2);
    expect(seconds({ monotonic: '1000000000', boot: 'x' }, { monotonic: '3000000000', boot: 'y' })).toBe(5);
    expect(seconds({}, { monotonic: '3000000000', boot: 'y' })).toBe(5);
  });
  it('a wall clock that steps back makes no odd rate', () => {
    expect(seconds({ monotonic: '1000000000', boot: 'x', epoch: '5000.0' }, { monotonic: '2000000000', boot: 'x' })).toBe(1);
  });
});

describe('properties', () => {
  const counters = fc.dictionary(
    fc.constantFrom('eth0', 'eth1', 'wan'),
    fc.tuple(fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(0n, 2n ** 64n - 1n)),
  );
  const reading = fc.tuple(fc.double({ min: 0, max: 4e9, noNaN: true }), counters).map(([s, devices]) => at(s, devices));
  it('a rate is never negative and always finite, whatever the readings', () => {
    fc.assert(
      fc.property(
        reading,
        reading,
        fc.integer({ min: 1, max: 400_000 }),
        fc.integer({ min: 1, max: 2000 }),
        (a, b, maxThroughputMbps, multiplier) => {
          const outcome = rate(a, b, { maxThroughputMbps, multiplier, pollingIntervalS: 1e9 });
          if ('noRate' in outcome) return;
          for (const { value } of mlInputs(outcome.rates)) expect(Number.isFinite(value) && value >= 0).toBe(true);
        },
      ),
    );
  });
  it('between resets the differences add up to last minus first', () => {
    const steps = fc.array(fc.tuple(fc.bigInt(0n, 2n ** 40n), fc.bigInt(0n, 2n ** 40n)), { minLength: 1, maxLength: 30 });
    fc.assert(
      // From 0 a jump above the link's speed is a counter that comes back, not traffic.
      fc.property(fc.bigInt(1n, 2n ** 60n), steps, (start, added) => {
        let previous = at(0, { a: [start, start] });
        let [bytes, packets, sumBytes, sumPackets] = [start, start, 0n, 0n];
        added.forEach(([b, p], i) => {
          bytes += b;
          packets += p;
          const next = at(i + 1, { a: [bytes, packets] });
          const found = rates(previous, next, { ...params, pollingIntervalS: 5 });
          sumBytes += found.deltaBytes;
          sumPackets += found.deltaPackets;
          previous = next;
        });
        expect([sumBytes, sumPackets]).toEqual([bytes - start, packets - start]);
      }),
    );
  });
});
