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
  /** The interface's identity, where it can be told: one that is made anew under an old name has another. */
  id?: string;
}

/** The last reading of a router: what the next one is measured against. Plain JSON, so that it can be kept. */
export interface Baseline {
  /** Unix seconds with fraction, as in the record. */
  epoch: string;
  /** Monotonic clock [ns], decimal, with the boot it counts from: only inside an agent. */
  monotonic?: string;
  boot?: string;
  /** What the counters were read from: those of something else are no measure for them. */
  origin?: string;
  devices: { [device: string]: DeviceCounters };
  /** The reading before a fall, until it is clear whether the fall was one, or a glitch. */
  held?: Omit<Baseline, 'held'>;
}

/** What the counters did in an interval beside counting. */
export interface CounterEvents {
  /** Interfaces with a counter that fell and had not passed its end. */
  reset: number;
  /** 32-bit counters that passed their end. */
  wrap: number;
  /** Interfaces whose fall was none: the next reading went on where the one before the fall had been. */
  glitch: number;
  /** Interfaces that are gone, that are new or back, and that were made anew under an old name. */
  vanished: number;
  appeared: number;
  recreated: number;
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
export type NoRateReason = 'first' | 'reset' | 'gap' | 'not_newer' | 'no_interface' | 'bad_counter' | 'reboot';

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

export type RateOutcome = ({ rates: Rates; baseline: Baseline } | { noRate: NoRateReason; baseline: Baseline | undefined }) & {
  events: CounterEvents;
};

const WRAP = 1n << 32n;
/** A 32-bit counter counts as close below its end from here on. */
const NEAR_WRAP = (WRAP / 4n) * 3n;
/** The least a frame takes on the wire: 64 bytes, preamble, gap [bits]. */
const MIN_FRAME_BITS = 84 * 8;
const GAP_INTERVALS = 5;
/** Counters and clocks are not read at one moment: so much above the link's speed is still no spike. */
const SPEED_SLACK = 1.1;

export function noEvents(): CounterEvents {
  return { reset: 0, wrap: 0, glitch: 0, vanished: 0, appeared: 0, recreated: 0 };
}

const COUNTER = /^\+?(\d+)(?:\.(\d*))?(?:[eE]([+-]?\d{1,4}))?$/;

/** A counter's text (`"2434326851"`, `"2.434326851e+09"`) as an exact integer; undefined when it is not one. */
export function parseCounter(text: string): bigint | undefined {
  // Millions of digits would hold the process up for seconds.
  if (text.length > 100) return undefined;
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
  const devices = new Map<string, DeviceCounters>();
  for (const [device, byteText] of bytes) {
    const packetText = packets.get(device);
    if (packetText === undefined) continue;
    const b = parseCounter(byteText);
    const p = parseCounter(packetText);
    if (b === undefined || p === undefined) return undefined;
    devices.set(device, { bytes: String(b), packets: String(p) });
  }
  return Object.fromEntries(devices);
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
 *
 * After a fall the reading before it is held: where a later reading is above it again, and further above the fallen one than the link can
 * carry, the fall was a glitch (an exporter that read 0), and the interval runs from the held reading. What is neither gives no rate.
 * @param previous the router's baseline, undefined when it has none
 * @param next the new reading; undefined counters mean that one was not a number
 * @returns the rates, or the reason for none; and the baseline that holds from now on
 */
export function rate(
  previous: Baseline | undefined,
  next: Omit<Baseline, 'devices' | 'held'> & { devices: Baseline['devices'] | undefined },
  params: RateParams,
): RateOutcome {
  const events = noEvents();
  if (next.devices === undefined) return { noRate: 'bad_counter', baseline: previous, events };
  const baseline: Baseline = { ...next, devices: next.devices };
  if (Object.keys(next.devices).length === 0) return { noRate: 'no_interface', baseline: previous, events };
  if (previous === undefined) return { noRate: 'first', baseline, events };
  const seconds = secondsBetween(previous, baseline);
  if (!(seconds > 0)) return { noRate: 'not_newer', baseline: previous, events };
  noteInterfaces(previous, baseline, events);
  if (seconds > GAP_INTERVALS * params.pollingIntervalS) return { noRate: 'gap', baseline, events };

  const since = differences(previous, baseline, seconds, params);
  const { held } = previous;
  if (since === undefined) {
    events.reset = fallen(previous, baseline, seconds, params);
    // A second fall before the first is understood: what was read first is still the better measure.
    return { noRate: 'reset', baseline: { ...baseline, held: held ?? withoutHeld(previous) }, events };
  }
  if (since.paired === 0) return { noRate: 'no_interface', baseline, events };
  let found = { ...since, seconds };
  const plausible = isPlausible(since, seconds, params);
  // A first reading of 0, or a new interface's: nothing tells whether it was one, so it is no measure for a jump.
  if (held === undefined && !plausible && jumpsFromZero(previous, baseline, seconds, params)) return { noRate: 'reset', baseline, events };
  if (held !== undefined) {
    if (!plausible) {
      const whole = secondsBetween(held, baseline);
      const sinceHeld =
        whole > 0 && whole <= GAP_INTERVALS * params.pollingIntervalS ? differences(held, baseline, whole, params) : undefined;
      if (sinceHeld === undefined || sinceHeld.paired === 0 || !isPlausible(sinceHeld, whole, params))
        return { noRate: 'reset', baseline, events };
      found = { ...sinceHeld, seconds: whole };
      events.glitch = 1;
    } else if (isBelow(baseline, held) && secondsBetween(held, baseline) <= GAP_INTERVALS * params.pollingIntervalS) baseline.held = held;
  }
  events.wrap = found.wraps;
  const { deltaBytes, deltaPackets, wraps } = found;
  const rates: Rates = {
    packetRate: (Number(deltaPackets) / found.seconds) * params.multiplier,
    averageLength: deltaPackets === 0n ? 0 : Number(deltaBytes) / Number(deltaPackets),
    occupation: ((Number(deltaBytes) * 8) / found.seconds / (params.maxThroughputMbps * 1e6)) * 100,
    deltaBytes,
    deltaPackets,
    seconds: found.seconds,
    wraps,
  };
  if (!Number.isFinite(rates.packetRate) || !Number.isFinite(rates.averageLength) || !Number.isFinite(rates.occupation)) {
    return { noRate: 'bad_counter', baseline, events };
  }
  return { rates, baseline, events };
}

function withoutHeld({ held: _, ...rest }: Baseline): Omit<Baseline, 'held'> {
  return rest;
}

interface Differences {
  deltaBytes: bigint;
  deltaPackets: bigint;
  wraps: number;
  /** Interfaces in both readings. */
  paired: number;
}

/** Sums over the interfaces that both readings have; undefined where a counter fell. */
function differences(from: Omit<Baseline, 'held'>, to: Baseline, seconds: number, params: RateParams): Differences | undefined {
  const { bytesMost, packetsMost } = most(seconds, params);
  const sum: Differences = { deltaBytes: 0n, deltaPackets: 0n, wraps: 0, paired: 0 };
  for (const [device, now] of Object.entries(to.devices)) {
    const before = deviceOf(from, device);
    if (before === undefined || isAnother(before, now)) continue;
    const bytes = difference(before.bytes, now.bytes, bytesMost);
    const packets = difference(before.packets, now.packets, packetsMost);
    if (bytes === undefined || packets === undefined) return undefined;
    sum.deltaBytes += bytes.delta;
    sum.deltaPackets += packets.delta;
    sum.wraps += Number(bytes.wrapped) + Number(packets.wrapped);
    sum.paired += 1;
  }
  return sum;
}

/** What the link can carry in so many seconds. */
function most(seconds: number, params: RateParams): { bytesMost: number; packetsMost: number } {
  const bits = params.maxThroughputMbps * 1e6 * seconds;
  return { bytesMost: bits / 8, packetsMost: bits / MIN_FRAME_BITS };
}

function isPlausible({ deltaBytes, deltaPackets }: Differences, seconds: number, params: RateParams): boolean {
  const { bytesMost, packetsMost } = most(seconds, params);
  return Number(deltaBytes) <= bytesMost * SPEED_SLACK && Number(deltaPackets) <= packetsMost * SPEED_SLACK;
}

/** Whether an interface of the reading has not come back to where it was. */
function isBelow(reading: Baseline, held: Omit<Baseline, 'held'>): boolean {
  return Object.entries(reading.devices).some(([device, now]) => {
    const before = deviceOf(held, device);
    return (
      before !== undefined &&
      !isAnother(before, now) &&
      (BigInt(now.bytes) < BigInt(before.bytes) || BigInt(now.packets) < BigInt(before.packets))
    );
  });
}

/** Whether an interface with a counter of 0 has made a jump that its link cannot carry. One that stays at 0 has made none. */
function jumpsFromZero(previous: Baseline, next: Baseline, seconds: number, params: RateParams): boolean {
  const { bytesMost, packetsMost } = most(seconds, params);
  return Object.entries(previous.devices).some(([device, { bytes, packets }]) => {
    const now = deviceOf(next, device);
    if (now === undefined) return false;
    return (
      (bytes === '0' && Number(now.bytes) > bytesMost * SPEED_SLACK) || (packets === '0' && Number(now.packets) > packetsMost * SPEED_SLACK)
    );
  });
}

/** Interfaces can be called like a part of every object (`constructor`). */
function deviceOf({ devices }: Pick<Baseline, 'devices'>, device: string): DeviceCounters | undefined {
  return Object.hasOwn(devices, device) ? devices[device] : undefined;
}

function isAnother(before: DeviceCounters, now: DeviceCounters): boolean {
  return before.id !== undefined && now.id !== undefined && before.id !== now.id;
}

function noteInterfaces(previous: Baseline, next: Baseline, events: CounterEvents): void {
  for (const [device, now] of Object.entries(next.devices)) {
    const before = deviceOf(previous, device);
    if (before === undefined) events.appeared += 1;
    else if (isAnother(before, now)) events.recreated += 1;
  }
  for (const device of Object.keys(previous.devices)) if (deviceOf(next, device) === undefined) events.vanished += 1;
}

/** How many interfaces have a counter that fell. */
function fallen(previous: Baseline, next: Baseline, seconds: number, params: RateParams): number {
  return Object.entries(next.devices).filter(([device, now]) => {
    const before = deviceOf(previous, device);
    if (before === undefined) return false;
    const only = (counters: DeviceCounters): Baseline => ({ ...next, devices: { [device]: counters } });
    return differences(only(before), only(now), seconds, params) === undefined;
  }).length;
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
