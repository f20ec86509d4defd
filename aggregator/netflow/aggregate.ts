/**
 * Optional stage: one record per flow and event-time window instead of one per export.
 *
 * A long flow is exported many times (active timeout), and a busy one by many packets. Here they are summed up by observer, 5-tuple and
 * direction in windows that begin at multiples of their length. A flow belongs to the window of its last packet. A window is written when
 * its observer's event time has passed its end by the lateness; what comes still later goes out at once as a further record of the
 * same window, so that nothing is dropped and sums over records stay right.
 */
import type { NetflowCounters } from './counters.ts';
import { tupleText } from './flow-id.ts';
import { added, type FlowSum, recordOf, sumOf } from './flow-sum.ts';
import { type Changes, packFlow, unpackFlow } from './held-state.ts';
import { at } from './leaves.ts';
import type { Flow } from './normalise.ts';
import { directionOf, eventMs, observerOf, SET_BACK_MS } from './window-clock.ts';

export interface AggregateOptions {
  /** Length of a window [s]. */
  windowS: number;
  /** How much later than the newest flow of its observer a flow may come and still be summed up [s]. */
  latenessS: number;
  /** Flows held at once over all windows, at about 1.7 kB each; beyond that the oldest window is written early. */
  maxFlows: number;
}

export const AGGREGATE_DEFAULTS: AggregateOptions = { windowS: 60, latenessS: 30, maxFlows: 100_000 };

const SAMPLING = at('sampling-interval');

interface Observer {
  readonly name: string;
  watermarkMs: number;
  /** By the beginning of the window [Unix ms], then by tuple and direction. */
  readonly windows: Map<number, Map<string, FlowSum>>;
}

/** One thing held, as JSON: a sum with its place, an observer's event time, or everyone's. */
type Held =
  | { observer: string; start: number; key: string; flows: number; flow: unknown }
  | { observer: string; watermarkMs: number }
  | { floorMs: number };

export class FlowAggregator {
  private readonly windowMs: number;
  private readonly latenessMs: number;
  private readonly maxFlows: number;
  private readonly counters: NetflowCounters;
  private readonly changes: Changes | undefined;
  private readonly observers = new Map<string, Observer>();
  /** How far `advance` has brought everyone. An observer that holds nothing and is no further is forgotten. */
  private floorMs = Number.NEGATIVE_INFINITY;
  private held = 0;

  /** @param changes is told what is held, where that has to outlast the process */
  constructor(options: AggregateOptions, counters: NetflowCounters, changes?: Changes) {
    this.windowMs = options.windowS * 1000;
    this.latenessMs = options.latenessS * 1000;
    this.maxFlows = options.maxFlows;
    this.counters = counters;
    this.changes = changes;
  }

  /** Takes a flow in. @returns the records of the windows that it closed, and itself where it belongs to none that is open */
  add(flow: Flow): Flow[] {
    const event = eventMs(flow);
    if (event === undefined) return [flow];
    const start = Math.floor(event / this.windowMs) * this.windowMs;
    const observer = this.observer(observerOf(flow));
    if (this.isOver(start, observer.watermarkMs)) {
      this.counters.late++;
      return [this.record(sumOf(flow), start)];
    }
    this.sumUp(observer, start, flow);
    const closed = this.held > this.maxFlows ? this.closeOldest() : [];
    if (event > observer.watermarkMs) closed.push(...this.moveTo(observer, event));
    return closed;
  }

  /**
   * Closes what is over at that time for every observer, also one that sends nothing any more.
   * @param ms Unix ms; event time, such as the wall clock minus what flows take to arrive
   */
  advance(ms: number): Flow[] {
    const setBack = ms < this.floorMs - SET_BACK_MS;
    if (ms <= this.floorMs && !setBack) return [];
    // The clock was ahead: by its time everything would be late until it is reached again.
    const ended = setBack ? this.flush() : [];
    if (setBack) this.forgetObservers();
    this.floorMs = ms;
    this.changes?.put('floor', () => packed({ floorMs: this.floorMs }));
    const closed: Flow[] = ended;
    for (const observer of this.observers.values()) {
      if (observer.watermarkMs > ms) continue;
      closed.push(...this.moveTo(observer, ms));
      if (observer.windows.size > 0) continue;
      this.observers.delete(observer.name);
      this.changes?.drop(observerKey(observer));
    }
    return closed;
  }

  /** Writes every window as it is. */
  flush(): Flow[] {
    return [...this.observers.values()].flatMap((observer) => this.close(observer, [...observer.windows.keys()]));
  }

  /** How many flows and observers are held. */
  get size(): { flows: number; observers: number } {
    return { flows: this.held, observers: this.observers.size };
  }

  /** Takes back the values that `changes` was told, of an aggregator with the same options. */
  restore(values: Iterable<string>): void {
    this.observers.clear();
    this.floorMs = Number.NEGATIVE_INFINITY;
    this.held = 0;
    for (const value of values) {
      // Written by `packed`: not input of a user.
      const held = JSON.parse(value) as Held;
      if ('floorMs' in held) this.floorMs = held.floorMs;
      else if ('watermarkMs' in held) this.observer(held.observer).watermarkMs = held.watermarkMs;
      else {
        const { windows } = this.observer(held.observer);
        const sums = windows.get(held.start) ?? new Map<string, FlowSum>();
        windows.set(held.start, sums.set(held.key, { flow: unpackFlow(held.flow), flows: held.flows }));
        this.held++;
      }
    }
  }

  private observer(name: string): Observer {
    const known = this.observers.get(name);
    if (known !== undefined) return known;
    const observer = { name, watermarkMs: this.floorMs, windows: new Map() };
    this.observers.set(name, observer);
    return observer;
  }

  private forgetObservers(): void {
    for (const observer of this.observers.values()) this.changes?.drop(observerKey(observer));
    this.observers.clear();
  }

  private isOver(start: number, watermarkMs: number): boolean {
    return start + this.windowMs + this.latenessMs <= watermarkMs;
  }

  private sumUp(observer: Observer, start: number, flow: Flow): void {
    const sums = observer.windows.get(start) ?? new Map<string, FlowSum>();
    observer.windows.set(start, sums);
    // What was sampled at different rates cannot be added: each sum counts for its own interval.
    const key = `${tupleText(flow.tuple)}/${directionOf(flow)}/${flow.values[SAMPLING] ?? ''}`;
    const before = sums.get(key);
    if (before === undefined) this.held++;
    const sum = before === undefined ? sumOf(flow) : added(before, flow);
    sums.set(key, sum);
    this.changes?.put(sumKey(observer, start, key), () =>
      packed({ observer: observer.name, start, key, flows: sum.flows, flow: packFlow(sum.flow) }),
    );
  }

  private moveTo(observer: Observer, watermarkMs: number): Flow[] {
    observer.watermarkMs = watermarkMs;
    this.changes?.put(observerKey(observer), () => packed({ observer: observer.name, watermarkMs: observer.watermarkMs }));
    return this.close(
      observer,
      [...observer.windows.keys()].filter((start) => this.isOver(start, watermarkMs)),
    );
  }

  private closeOldest(): Flow[] {
    let oldest: { observer: Observer; start: number } | undefined;
    for (const observer of this.observers.values()) {
      for (const start of observer.windows.keys()) {
        // Of equals always the same one, also when they came back in another order.
        const older = oldest === undefined || start < oldest.start || (start === oldest.start && observer.name < oldest.observer.name);
        if (older) oldest = { observer, start };
      }
    }
    if (oldest === undefined) return [];
    this.counters.early++;
    return this.close(oldest.observer, [oldest.start]);
  }

  private close(observer: Observer, starts: readonly number[]): Flow[] {
    const closed: Flow[] = [];
    for (const start of [...starts].sort((a, b) => a - b)) {
      const sums = observer.windows.get(start) ?? new Map<string, FlowSum>();
      observer.windows.delete(start);
      this.held -= sums.size;
      for (const [key, sum] of sums) {
        closed.push(this.record(sum, start));
        this.changes?.drop(sumKey(observer, start, key));
      }
    }
    return closed;
  }

  private record(sum: FlowSum, start: number): Flow {
    return recordOf(sum, { startMs: start, endMs: start + this.windowMs }, this.counters);
  }
}

function packed(held: Held): string {
  return JSON.stringify(held);
}

function observerKey({ name }: Observer): string {
  return `observer ${name}`;
}

function sumKey({ name }: Observer, start: number, key: string): string {
  return `sum ${name} ${start} ${key}`;
}
