/**
 * When the routers are polled: each on its own, at whole multiples of its interval on the monotonic clock, so that restarts and reloads
 * keep the rhythm; never twice at a time. A tick that comes while a poll is still under way is left out and counted.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Router } from '../common/config.ts';
import type { Clock, Emit, Source } from './source.ts';

export interface PollEvents {
  ok(router: Router, seconds: number): void;
  failed(router: Router, error: unknown): void;
  /** Ticks left out because the last poll took longer than the interval. */
  skipped(router: Router, ticks: number): void;
}

/** Nanoseconds until the next multiple of the interval. */
export function untilNextTick(nowNs: bigint, intervalNs: bigint): bigint {
  return intervalNs - (nowNs % intervalNs);
}

/** Past a whole second: 50 ms and more from every tick of intervals of whole seconds, and of 0.5, 0.25, 0.2 and 0.1 s. */
const QUIET_NS = 550_000_000n;
const SECOND_NS = 1_000_000_000n;

/** Milliseconds until a moment between the ticks, at least so many: for work that would hold a poll up. */
export function untilBetweenTicks(nowNs: bigint, atLeastMs: number): number {
  const earliest = nowNs + BigInt(atLeastMs) * 1_000_000n;
  const wait = (SECOND_NS + QUIET_NS - (earliest % SECOND_NS)) % SECOND_NS;
  return atLeastMs + Number(wait) / 1e6;
}

/** Polls one router until `signal` aborts; a poll under way then ends first. `kill` ends that one too. */
export async function pollRouter(
  router: Router,
  source: Source,
  emit: Emit,
  events: PollEvents,
  clock: Clock,
  signal: AbortSignal,
  kill: AbortSignal,
): Promise<void> {
  const interval = BigInt(Math.round(router.pollingIntervalS * 1e9));
  let lastTick = clock.monotonicNs() / interval;
  while (!signal.aborted) {
    try {
      await sleep(Number(untilNextTick(clock.monotonicNs(), interval)) / 1e6, undefined, { signal });
    } catch {
      return;
    }
    const started = clock.monotonicNs();
    const tick = started / interval;
    // A timer may fire a moment early: the tick is then still the old one.
    if (tick === lastTick) continue;
    if (tick > lastTick + 1n) events.skipped(router, Number(tick - lastTick - 1n));
    lastTick = tick;
    try {
      await emit(await source.poll(kill));
      events.ok(router, Number(clock.monotonicNs() - started) / 1e9);
    } catch (error) {
      if (!kill.aborted) events.failed(router, error);
    }
  }
}
