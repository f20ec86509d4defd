/** Waits for a condition instead of a time. */
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Resolves with the condition's first value that is not false or undefined; rejects, naming what it waited for, when it takes too long.
 * @param what worked out at the end where it is a function, such as one that tells what a program has said meanwhile
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  what: string | (() => string),
  timeoutMs = 20_000,
): Promise<Exclude<T, false | undefined | null>> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value !== false && value !== undefined && value !== null) return value as Exclude<T, false | undefined | null>;
    if (performance.now() > end) throw new Error(`waited ${timeoutMs / 1000} s in vain for: ${typeof what === 'string' ? what : what()}`);
    await sleep(10);
  }
}
