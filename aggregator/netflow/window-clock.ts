/**
 * Event time of one observer (an exporter and its source id): how far its flows have come. A router whose clock is wrong moves only its
 * own windows, and never past the time at which the collector received the flow.
 */
import { at } from './leaves.ts';
import type { Flow } from './normalise.ts';

const SAMPLER = at('sampler-address');
const SAMPLER_IPV6 = at('sampler-address-ipv6');
const SOURCE_ID = at('source-id');
const DIRECTION = at('direction');
/** Arrival is known in whole seconds only. */
const ARRIVAL_GRAIN_MS = 999;
/** The bus's time goes back by moments between its producers; by more only where a clock was set back. */
export const SET_BACK_MS = 3_600_000;

/** A flow that is hours later than the bus is one of a wrong clock, the collector’s too: it counts as come when the bus got it [Unix ms]. */
export function arrivedBy(flow: Flow, busMs: number): Flow {
  const event = eventMs(flow);
  return event === undefined || event <= busMs + SET_BACK_MS ? flow : { ...flow, receivedMs: busMs };
}

export function observerOf({ values }: Flow): string {
  return `${values[SAMPLER] ?? values[SAMPLER_IPV6] ?? ''}/${values[SOURCE_ID] ?? ''}`;
}

/** A router that meters a packet where it comes in and where it leaves exports it twice: those are never summed up or merged. */
export function directionOf({ values }: Flow): string {
  return String(values[DIRECTION] ?? '');
}

/** When the flow happened: its last packet, or its arrival where that is not known or lies after it [Unix ms]. */
export function eventMs({ endMs, receivedMs }: Flow): number | undefined {
  // 0 is what GoFlow2 writes where the exporter's template has no times.
  if (endMs === undefined || endMs === 0) return receivedMs;
  return receivedMs === undefined ? endMs : Math.min(endMs, receivedMs + ARRIVAL_GRAIN_MS);
}
