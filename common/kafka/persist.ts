/** Coordinators move, load, and are busy: what they are asked is asked again for a while. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from './cluster.ts';
import { isBusy, isCoordinatorMove, isLost, typeOf } from './errors.ts';

/**
 * Asks until it succeeds, fails for good, or the time is over.
 * @param end by `performance.now()`
 */
export async function persist<T>(cluster: Cluster, end: number, call: () => Promise<T>): Promise<T> {
  for (let pause = 1; ; pause = Math.min(pause * 2, 250)) {
    try {
      return await call();
    } catch (error) {
      const type = typeOf(error);
      const passing = isLost(error) || isCoordinatorMove(error) || isBusy(type);
      if (!passing || cluster.closed || performance.now() + pause > end) throw error;
      await sleep(type === 'CONCURRENT_TRANSACTIONS' ? Math.min(pause, 20) : Math.max(pause, 20));
    }
  }
}
