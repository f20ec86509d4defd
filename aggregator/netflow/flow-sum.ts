/** Several exports of one flow as one: the sums, and what follows from them. */
import { countLeftOut, type NetflowCounters } from './counters.ts';
import { TCP_FLAG_TEXTS } from './enumerations.ts';
import { MAX_UINT64, narrow } from './integers.ts';
import { at, type LeafPath, type LeafValue } from './leaves.ts';
import type { Flow } from './normalise.ts';

export interface FlowSum {
  /**
   * The newest flow; its counters, times, flags and TTLs are those of the whole sum. A counter may have grown beyond 64 bits here: that
   * is told when the record is made.
   */
  flow: Flow;
  flows: number;
}

const SUMMED = (['bytes-in', 'pkts-in', 'bytes-out', 'pkts-out'] as const).map((path) => ({ path, position: at(path) }));
const RATES = (['in', 'out'] as const).map((way) => ({
  bytes: at(`bytes-${way}`),
  packets: at(`pkts-${way}`),
  bytesPerSecond: `aggregate/bytes-${way}-per-second` as const,
  packetsPerSecond: `aggregate/pkts-${way}-per-second` as const,
  bytesPerPacket: `aggregate/bytes-${way}-per-packet` as const,
}));
const TCP_FLAGS = at('tcp-flags');
const FIRST = at('first-switched');
const LAST = at('last-switched');
const MIN_TTL = at('min-ttl');
const MAX_TTL = at('max-ttl');
const WINDOW_START = at('aggregate/window-start');
const WINDOW_END = at('aggregate/window-end');
const FLOWS = at('aggregate/flows');
const DURATION = at('aggregate/duration');
const FLAGS_BY_TEXT = new Map(TCP_FLAG_TEXTS.map((text, value) => [text, value]));
/** The largest decimal64 of three fraction digits, in thousandths. */
const MAX_DECIMAL = 2n ** 63n - 1n;

export function sumOf(flow: Flow): FlowSum {
  return { flow, flows: 1 };
}

/** The sum with one more flow in it. */
export function added(sum: FlowSum, flow: Flow): FlowSum {
  const before = sum.flow;
  const values = [...flow.values];
  for (const { position } of SUMMED) values[position] = total(before.values[position], flow.values[position]);
  values[TCP_FLAGS] = flagsOfBoth(before.values[TCP_FLAGS], flow.values[TCP_FLAGS]);
  values[MIN_TTL] = extreme(Math.min, before.values[MIN_TTL], flow.values[MIN_TTL]);
  values[MAX_TTL] = extreme(Math.max, before.values[MAX_TTL], flow.values[MAX_TTL]);
  const earlier = flow.startMs === undefined || (before.startMs !== undefined && before.startMs <= flow.startMs) ? before : flow;
  const later = flow.endMs === undefined || (before.endMs !== undefined && before.endMs > flow.endMs) ? before : flow;
  values[FIRST] = earlier.values[FIRST];
  values[LAST] = later.values[LAST];
  return { flow: { ...flow, values, startMs: earlier.startMs, endMs: later.endMs }, flows: sum.flows + 1 };
}

function total(a: LeafValue | undefined, b: LeafValue | undefined): LeafValue | undefined {
  return a === undefined || b === undefined ? (a ?? b) : narrow(BigInt(a) + BigInt(b));
}

function flagsOfBoth(a: LeafValue | undefined, b: LeafValue | undefined): LeafValue | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return TCP_FLAG_TEXTS[(FLAGS_BY_TEXT.get(String(a)) ?? 0) | (FLAGS_BY_TEXT.get(String(b)) ?? 0)];
}

function extreme(pick: (a: number, b: number) => number, a: LeafValue | undefined, b: LeafValue | undefined): LeafValue | undefined {
  return a === undefined || b === undefined ? (a ?? b) : pick(Number(a), Number(b));
}

/**
 * The record of a sum: its counters, and the container `aggregate`.
 * @param counters gets what no leaf can hold
 */
export function recordOf({ flow, flows }: FlowSum, window: { startMs: number; endMs: number }, counters: NetflowCounters): Flow {
  const { startMs, endMs } = flow;
  const values = [...flow.values];
  const duration = startMs === undefined || endMs === undefined || endMs < startMs ? undefined : endMs - startMs;
  values[WINDOW_START] = window.startMs;
  values[WINDOW_END] = window.endMs;
  values[FLOWS] = flows;
  values[DURATION] = duration;
  const rate = (path: LeafPath, amount: LeafValue | undefined, factor: bigint, by: LeafValue | undefined): void => {
    const thousandths = quotient(amount, factor, by);
    if (thousandths === undefined) return;
    if (thousandths > MAX_DECIMAL) countLeftOut(counters, path);
    else values[at(path)] = `${thousandths / 1000n}.${String(thousandths % 1000n).padStart(3, '0')}`;
  };
  for (const { bytes, packets, bytesPerSecond, packetsPerSecond, bytesPerPacket } of RATES) {
    // The duration is in ms: a thousand times the counter gives a rate per second.
    rate(bytesPerSecond, values[bytes], 1000n, duration);
    rate(packetsPerSecond, values[packets], 1000n, duration);
    rate(bytesPerPacket, values[bytes], 1n, values[packets]);
  }
  for (const { path, position } of SUMMED) {
    const value = values[position];
    if (typeof value !== 'bigint' || value <= MAX_UINT64) continue;
    values[position] = undefined;
    countLeftOut(counters, path);
  }
  return { ...flow, values };
}

/** `amount` x `factor` / `by` in thousandths, half up; undefined where there is nothing to divide by. */
function quotient(amount: LeafValue | undefined, factor: bigint, by: LeafValue | undefined): bigint | undefined {
  if (amount === undefined || by === undefined || BigInt(by) === 0n) return undefined;
  const divisor = BigInt(by);
  return (2n * BigInt(amount) * factor * 1000n + divisor) / (2n * divisor);
}
