/**
 * Counters to rates: the arithmetic of the pipeline, as pure functions.
 *
 * Counters are subtracted as integers of any size and only the differences become floating point. What gives no rate is told by a
 * reason; a rate that leaves here is finite and not negative.
 */
import { epochMicros, type MetricFamily, type MlInput, RECEIVED_BYTES, RECEIVED_PACKETS } from './record.ts';

/** Counters of one interface, as decimal integers. */
export interface DeviceCounters {
  bytes: string;
  packets: string;
}

/** The last reading of a router: what the next one is measured against. Plain JSON, so that it can be kept. */
export interface Baseline {
  /** Unix seconds with fraction, as in the record. */
  epoch: string;
  /** Monotonic clock [ns], decimal, with the boot it counts from: only inside an agent. */
  monotonic?: string;
  boot?: string;
  devices: { [device: string]: DeviceCounters };
}

export interface RateParams {
  /** 100 % occupation [Mbit/s]. */
  maxThroughputMbps: number;
  /** Multiplier of the packet rate. */
  multiplier: number;
  /** Seconds between two polls; five times this is a gap. */
  pollingIntervalS: number;
}

/** Why an interval gave no rate. */
export type NoRateReason = 'first' | 'reset' | 'gap' | 'not_newer' | 'no_interface' | 'bad_counter';

export interface Rates {
  /** Sum over interfaces of the packets' difference, by time and multiplier [packets/s]. */
  packetRate: number;
  /** Bytes by packets [bytes]; 0 when no packet came. */
  averageLength: number;
  /** Share of the capacity [%]. */
  occupation: number;
  deltaBytes: bigint;
  deltaPackets: bigint;
  /** Length of the interval [s]. */
  seconds: number;
  /** Counters that passed 2^32 in this interval. */
  wraps: number;
}

export type RateOutcome = { rates: Rates; baseline: Baseline } | { noRate: NoRateReason; baseline: Baseline | undefined };

const WRAP = 1n << 32n;
/** A 32-bit counter counts as close below its end from here on. */
const NEAR_WRAP = (WRAP / 4n) * 3n;
/** The least a frame takes on the wire: 64 bytes, preamble, gap [bits]. */
const MIN_FRAME_BITS = 84 * 8;
const GAP_INTERVALS = 5;

const COUNTER = /^\+?(\d+)(?:\.(\d*))?(?:[eE]([+-]?\d{1,4}))?$/;

/** A counter's text (`"2434326851"`, `"2.434326851e+09"`) as an exact integer; undefined when it is not one. */
export function parseCounter(text: string): bigint | undefined {
  const match = COUNTER.exec(text);
  if (match === null) return undefined;
  const [, whole = '', fraction = '', exponent = '0'] = match;
  const shift = Number(exponent) - fraction.length;
  const digits = whole + fraction;
  if (shift >= 0) return shift > 40 ? undefined : BigInt(digits + '0'.repeat(shift));
  if (-shift >= digits.length) return /^0*$/.test(digits) ? 0n : undefined;
  const cut = digits.length + shift;
  return /^0*$/.test(digits.slice(cut)) ? BigInt(digits.slice(0, cut)) : undefined;
}

/**
 * The counters of each interface, paired by the `device` label. An interface that lacks one of the two families is left out.
 * Returns undefined when a value is not a counter.
 */
export function countersOf(families: readonly MetricFamily[]): { [device: string]: DeviceCounters } | undefined {
  const bytes = valuesByDevice(families, RECEIVED_BYTES);
  const packets = valuesByDevice(families, RECEIVED_PACKETS);
  const devices: { [device: string]: DeviceCounters } = {};
  for (const [device, byteText] of bytes) {
    const packetText = packets.get(device);
    if (packetText === undefined) continue;
    const b = parseCounter(byteText);
    const p = parseCounter(packetText);
    if (b === undefined || p === undefined) return undefined;
    devices[device] = { bytes: String(b), packets: String(p) };
  }
  return devices;
}

function valuesByDevice(families: readonly MetricFamily[], name: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const family of families) {
    if (family.name !== name) continue;
    for (const entry of family.values) {
      // A sample with a name of its own (`…_created`) is not the counter.
      if (entry.name !== undefined) continue;
      const device = entry.labels.find((label) => label.name === 'device')?.value;
      if (device !== undefined) values.set(device, entry.value);
    }
  }
  return values;
}

/** Seconds between two readings: from the monotonic clock where both have it from the same boot, else from the records' times. */
function secondsBetween(previous: Baseline, next: Baseline): number {
  if (previous.monotonic !== undefined && next.monotonic !== undefined && previous.boot === next.boot) {
    return Number(BigInt(next.monotonic) - BigInt(previous.monotonic)) / 1e9;
  }
  return (epochMicros(next.epoch) - epochMicros(previous.epoch)) / 1e6;
}

/**
 * The rates of the interval between two readings of one router.
 * @param previous the router's baseline, undefined when it has none
 * @param next the new reading; undefined counters mean that one was not a number
 * @returns the rates, or the reason for none; and the baseline that holds from now on
 */
export function rate(
  previous: Baseline | undefined,
  next: Omit<Baseline, 'devices'> & { devices: Baseline['devices'] | undefined },
  params: RateParams,
): RateOutcome {
  if (next.devices === undefined) return { noRate: 'bad_counter', baseline: previous };
  const baseline: Baseline = { ...next, devices: next.devices };
  if (Object.keys(next.devices).length === 0) return { noRate: 'no_interface', baseline: previous };
  if (previous === undefined) return { noRate: 'first', baseline };
  const seconds = secondsBetween(previous, baseline);
  if (!(seconds > 0)) return { noRate: 'not_newer', baseline: previous };
  if (seconds > GAP_INTERVALS * params.pollingIntervalS) return { noRate: 'gap', baseline };

  const maxBits = params.maxThroughputMbps * 1e6 * seconds;
  let deltaBytes = 0n;
  let deltaPackets = 0n;
  let wraps = 0;
  let paired = 0;
  for (const [device, now] of Object.entries(baseline.devices)) {
    const before = previous.devices[device];
    if (before === undefined) continue;
    const bytes = difference(before.bytes, now.bytes, maxBits / 8);
    const packets = difference(before.packets, now.packets, maxBits / MIN_FRAME_BITS);
    if (bytes === undefined || packets === undefined) return { noRate: 'reset', baseline };
    deltaBytes += bytes.delta;
    deltaPackets += packets.delta;
    wraps += Number(bytes.wrapped) + Number(packets.wrapped);
    paired += 1;
  }
  if (paired === 0) return { noRate: 'no_interface', baseline };

  const rates: Rates = {
    packetRate: (Number(deltaPackets) / seconds) * params.multiplier,
    averageLength: deltaPackets === 0n ? 0 : Number(deltaBytes) / Number(deltaPackets),
    occupation: ((Number(deltaBytes) * 8) / seconds / (params.maxThroughputMbps * 1e6)) * 100,
    deltaBytes,
    deltaPackets,
    seconds,
    wraps,
  };
  if (!Number.isFinite(rates.packetRate) || !Number.isFinite(rates.averageLength) || !Number.isFinite(rates.occupation)) {
    return { noRate: 'bad_counter', baseline };
  }
  return { rates, baseline };
}

/**
 * new - old; a fall is either a 32-bit counter that passed its end (the old value is close below 2^32 and the difference is no more
 * than the link can carry) or a reset, for which there is no difference.
 */
function difference(oldText: string, newText: string, plausible: number): { delta: bigint; wrapped: boolean } | undefined {
  const old = BigInt(oldText);
  const now = BigInt(newText);
  if (now >= old) return { delta: now - old, wrapped: false };
  if (old >= WRAP || old < NEAR_WRAP) return undefined;
  const delta = now + WRAP - old;
  return Number(delta) <= plausible ? { delta, wrapped: true } : undefined;
}

/** The three inputs of the models, in the contract's order. */
export function mlInputs(rates: Rates): MlInput[] {
  return [
    { name: 'node_network_receive_packets_total_rate', type: 'rate', value: rates.packetRate },
    { name: 'node_network_average_received_packet_length', type: 'length', value: rates.averageLength },
    { name: 'node_network_router_capacity_occupation', type: 'percentage', value: rates.occupation },
  ];
}
