/** What a file tells of the clocks its records were made by: the rule is in `wall-clock.ts`, and what cannot be known here is left alone. */
import type { Era } from '../wall-clock.ts';

/** Less is no step of the clock [µs]. */
const STEP_MICROS = 1_000_000;

export interface Eras {
  /** By how much the times of an era’s records are to be moved [µs]; 0 leaves them. */
  shiftOf(era: number): number;
  /** Whether the clock was wrong in an era, and nothing tells by how much. */
  isWrong(era: number): boolean;
}

/** An era counts as corrected by the newest one of the same boot, unless it was confirmed, or that one is known to be wrong. */
export function erasOf(eras: readonly Era[]): Eras {
  const shifts = new Map<number, number>();
  for (const { id, boot, micros, trust } of eras) {
    const newest = eras.findLast((era) => era.boot === boot);
    if (newest === undefined || newest.id === id || newest.trust === 'wrong' || trust === 'confirmed') continue;
    const shift = newest.micros - micros;
    if (Math.abs(shift) >= STEP_MICROS) shifts.set(id, shift);
  }
  return {
    shiftOf: (era) => shifts.get(era) ?? 0,
    isWrong: (era) => !shifts.has(era) && eras.some(({ id, trust }) => id === era && trust === 'wrong'),
  };
}
