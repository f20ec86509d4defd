/**
 * Which times are to be asked for. Values lie on a grid: whole multiples of the step since 1970, so that a restart, a second publisher
 * and a lost state file all give the same timestamps. What has been published up to is the last grid time of it.
 */

/** Grid times from `startMs` to `endMs`, both included. Unix ms. */
export interface Span {
  startMs: number;
  endMs: number;
}

export interface SpanOptions {
  /** The newest time whose value has settled. */
  nowMs: number;
  stepMs: number;
  /** Where there is no last end: how far back it starts. */
  lookbackMs: number;
  /** Most that is made up for. */
  maxCatchUpMs: number;
}

export interface Wanted {
  /** Undefined when there is nothing new yet. */
  span: Span | undefined;
  /** Beyond the bound: given up [ms]. */
  missedMs: number;
  /** The last end lies in the future: the clock was set back. */
  clockWentBack: boolean;
}

/** @param lastEndMs what has been published up to, undefined when nothing has */
export function wantedSpan(lastEndMs: number | undefined, { nowMs, stepMs, lookbackMs, maxCatchUpMs }: SpanOptions): Wanted {
  const onGrid = (ms: number) => Math.floor(ms / stepMs) * stepMs;
  const endMs = onGrid(nowMs);
  // A round may come a moment early; an end further ahead than that was written under another clock.
  const clockWentBack = lastEndMs !== undefined && lastEndMs > endMs + Math.max(stepMs, lookbackMs);
  const firstMs = clockWentBack ? endMs : Math.min(onGrid(endMs - lookbackMs) + stepMs, endMs);
  let startMs = lastEndMs === undefined || clockWentBack ? firstMs : onGrid(lastEndMs) + stepMs;
  const oldestMs = Math.min(onGrid(endMs - maxCatchUpMs) + stepMs, endMs);
  const missedMs = Math.max(0, oldestMs - startMs);
  startMs += missedMs;
  return { span: startMs <= endMs ? { startMs, endMs } : undefined, missedMs, clockWentBack };
}

/** The span in slices of at most so many values, oldest first; one by one, since a short step and a long outage make millions of them. */
export function* slices({ startMs, endMs }: Span, stepMs: number, maxPoints: number): Generator<Span> {
  for (let from = startMs; from <= endMs; from += maxPoints * stepMs)
    yield { startMs: from, endMs: Math.min(endMs, from + (maxPoints - 1) * stepMs) };
}

/** Both halves, or undefined where there is only one value. */
export function halves({ startMs, endMs }: Span, stepMs: number): [Span, Span] | undefined {
  const points = Math.round((endMs - startMs) / stepMs) + 1;
  if (points < 2) return undefined;
  const middleMs = startMs + (Math.floor(points / 2) - 1) * stepMs;
  return [
    { startMs, endMs: middleMs },
    { startMs: middleMs + stepMs, endMs },
  ];
}
