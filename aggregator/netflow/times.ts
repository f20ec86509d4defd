/** Times of a flow: seconds and milliseconds as the seed's GoFlow2 and version 1 have them, nanoseconds or text as version 2 has. */
import { type Integer, readDigits } from './integers.ts';

export type SwitchedUnit = 'input' | 's' | 'ms';

const RFC3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})$/;
const DIGITS_NS_PER_S = 9;
const DIGITS_NS_PER_MS = 6;

/** Whole milliseconds of version 2's nanoseconds (a number of them or RFC 3339 text), rounded down; undefined for anything else. */
export function msOfNs(raw: unknown): number | undefined {
  if (typeof raw === 'string' && RFC3339.test(raw)) {
    const ms = Date.parse(raw);
    return ms >= 0 ? ms : undefined;
  }
  // 2^64 ns are 1.8e13 ms: a safe integer.
  return floorDivided(readDigits(raw), DIGITS_NS_PER_MS);
}

/** Whole seconds of version 2's nanoseconds, rounded down. */
export function secondsOfNs(raw: unknown): number | undefined {
  if (typeof raw === 'string' && RFC3339.test(raw)) {
    const ms = msOfNs(raw);
    return ms === undefined ? undefined : Math.floor(ms / 1000);
  }
  return floorDivided(readDigits(raw), DIGITS_NS_PER_S);
}

/** Division by a power of ten on the digits: a double would round 19 of them. */
function floorDivided(text: string | undefined, digits: number): number | undefined {
  if (text === undefined) return undefined;
  return text.length > digits ? Number(text.slice(0, -digits)) : 0;
}

/** Milliseconds for the clock of windows; undefined where no double can hold them. */
export function msOfSeconds(seconds: Integer | undefined): number | undefined {
  if (typeof seconds !== 'number') return undefined;
  const ms = seconds * 1000;
  return Number.isSafeInteger(ms) ? ms : undefined;
}
