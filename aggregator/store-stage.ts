/** The last stage on the bus: what is processed, inferred or announced goes into the store, and from there to those who watch. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Delivered, HEADER, type Outcome, type Stage } from '../common/bus.ts';
import type { SeqSets } from '../common/dedupe.ts';
import type { Metrics } from '../common/metrics.ts';
import type { Config } from '../common/schema.ts';
import { type TopicSet, topicsOf } from '../common/topics.ts';
import type { Figures } from './figures.ts';
import type { Live } from './live.ts';
import type { Store } from './store.ts';

export const STORE_GROUP = 'ndt-store';

/** What the store reads. */
export function storeTopics(topics: Config['topics']): TopicSet {
  return topicsOf(topics.processed, topics.inferred, topics.inventory, topics.notices);
}

/** The account of what has arrived, and the topics whose records are counted in it. */
export interface Arrivals {
  numbers: SeqSets;
  topics: TopicSet;
}

export class StoreStage implements Stage {
  private readonly store: Store;
  private readonly live: Live;
  private readonly arrivals: Arrivals | undefined;
  private readonly counted;

  /** @param arrivals where nothing before the store keeps account of what has arrived, the account to keep */
  constructor(store: Store, live: Live, metrics: Metrics, arrivals?: Arrivals) {
    this.store = store;
    this.live = live;
    this.arrivals = arrivals;
    this.counted = {
      stored: metrics.counter('ndt_stored_total', 'Records stored, by stage'),
      duplicates: metrics.counter('ndt_store_duplicates_total', 'Records that were stored before'),
      notices: metrics.counter('ndt_store_notices_total', 'Notices of agents taken in'),
      inventories: metrics.counter('ndt_store_inventories_total', 'Inventories of routers taken in'),
      dead: metrics.counter('ndt_store_dead_letters_total', 'Records and notices that could not be used'),
      latency: metrics.histogram(
        'ndt_stage_latency_seconds',
        'Time from reading the counters to the end of a stage, of records that did not wait out an outage',
      ),
    };
    const now = Date.now() * 1000;
    for (const { processed, inferred } of store.history.routers(now))
      live.publish([processed, inferred].filter((last) => last !== undefined));
  }

  handle(batch: Delivered[]): Outcome {
    const { stored, duplicates, notices, inventories, deadLetters } = this.store.take(batch);
    this.live.publish(stored);
    if (this.arrivals !== undefined) this.arrive(batch, this.arrivals);
    for (const figures of stored) this.count(figures);
    if (duplicates > 0) this.counted.duplicates.inc({}, duplicates);
    if (notices > 0) this.counted.notices.inc({}, notices);
    if (inventories > 0) this.counted.inventories.inc({}, inventories);
    if (deadLetters.length > 0) this.counted.dead.inc({}, deadLetters.length);
    return { append: deadLetters };
  }

  private arrive(batch: Delivered[], { numbers: account, topics }: Arrivals): void {
    const numbers = batch.flatMap(({ topic, headers }) => {
      const agent = headers[HEADER.agent];
      const seq = Number(headers[HEADER.seq]);
      return agent !== undefined && Number.isSafeInteger(seq) && topics.matches(topic) ? [{ agent, seq }] : [];
    });
    account.addAll(numbers);
  }

  private count({ stage, latency, replayed }: Figures): void {
    this.counted.stored.inc({ stage });
    if (replayed) return;
    const observe = (name: keyof typeof latency) => {
      const ms = latency[name];
      if (ms !== null) this.counted.latency.observe(Math.max(0, ms) / 1000, { stage: name });
    };
    for (const name of stage === 'inferred' ? (['inferred'] as const) : (['collected', 'processed'] as const)) observe(name);
  }
}

/**
 * Keeps the store within its age until `signal` aborts: a small piece at a time, so that nobody waits for it.
 * @param maxAgeS asked each round, so that a new configuration counts; 0 is for ever
 */
export async function retention(
  store: Store,
  maxAgeS: () => number,
  signal: AbortSignal,
  onFault: (error: unknown) => void,
  everyMs = 60_000,
): Promise<void> {
  const piece = 500;
  while (!signal.aborted) {
    try {
      let deleted = piece;
      while (maxAgeS() > 0 && deleted >= piece && !signal.aborted) {
        deleted = store.retain((Date.now() / 1000 - maxAgeS()) * 1e6, piece);
        await sleep(5, undefined, { signal });
      }
      await sleep(everyMs, undefined, { signal, ref: false });
    } catch (error) {
      if (signal.aborted) return;
      onFault(error);
      await sleep(everyMs, undefined, { signal, ref: false }).catch(() => {});
    }
  }
}
