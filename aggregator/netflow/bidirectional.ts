/**
 * Optional stage: the two directions of a conversation in one record.
 *
 * A flow from A to B waits for one from B to A of the same observer (RFC 5103 calls the pair a biflow). The one whose first packet came
 * earlier is the record; counters, times and flags of the other go to its container `reverse`. A flow whose other direction does not come
 * within the timeout, in event time, goes out alone.
 */
import type { NetflowCounters } from './counters.ts';
import { reversed, type Tuple, tupleText } from './flow-id.ts';
import { type Changes, packFlow, unpackFlow } from './held-state.ts';
import { at, type LeafPath } from './leaves.ts';
import type { Flow } from './normalise.ts';
import { directionOf, eventMs, observerOf, SET_BACK_MS } from './window-clock.ts';

export interface BidirectionalOptions {
  /** How long a flow waits for its other direction [s of event time]. */
  timeoutS: number;
  /** Flows that wait at once, at about 1.7 kB each; beyond that those that wait longest go out alone. */
  maxFlows: number;
}

export const BIDIRECTIONAL_DEFAULTS: BidirectionalOptions = { timeoutS: 30, maxFlows: 100_000 };

interface Waiting {
  readonly flow: Flow;
  /** -Infinity where the observer's time is not known yet: it goes with the first flow that has a time. */
  readonly deadlineMs: number;
  /** Counts the flows that had to wait: their order. */
  readonly number: number;
}

interface Observer {
  readonly name: string;
  watermarkMs: number;
  /** In the order in which they came, which is that of their deadlines. */
  readonly waiting: Map<string, Waiting>;
}

/** One thing held, as JSON: a waiting flow, an observer's event time, or everyone's. JSON has no infinity: null. */
type Held =
  | { observer: string; key: string; flow: unknown; deadlineMs: number | null; number: number }
  | { observer: string; watermarkMs: number }
  | { floorMs: number };

const REVERSE: ReadonlyArray<{ from: number; to: number }> = (
  [
    ['flow-id', 'reverse/flow-id'],
    ['first-switched', 'reverse/first-switched'],
    ['last-switched', 'reverse/last-switched'],
    ['bytes-in', 'reverse/bytes-in'],
    ['pkts-in', 'reverse/pkts-in'],
    ['bytes-out', 'reverse/bytes-out'],
    ['pkts-out', 'reverse/pkts-out'],
    ['tcp-flags', 'reverse/tcp-flags'],
    ['aggregate/flows', 'reverse/flows'],
  ] satisfies Array<[LeafPath, LeafPath]>
).map(([from, to]) => ({ from: at(from), to: at(to) }));
const WINDOW_START = at('aggregate/window-start');
const SOURCE_PORT = at('src-port');

export class FlowMerger {
  private readonly timeoutMs: number;
  private readonly maxFlows: number;
  private readonly counters: NetflowCounters;
  private readonly changes: Changes | undefined;
  private readonly observers = new Map<string, Observer>();
  /** How far `advance` has brought everyone. An observer of whom nothing waits and that is no further is forgotten. */
  private floorMs = Number.NEGATIVE_INFINITY;
  private held = 0;
  private number = 0;

  /** @param changes is told what waits, where that has to outlast the process */
  constructor(options: BidirectionalOptions, counters: NetflowCounters, changes?: Changes) {
    this.timeoutMs = options.timeoutS * 1000;
    this.maxFlows = options.maxFlows;
    this.counters = counters;
    this.changes = changes;
  }

  /** Takes a flow in. @returns the pair that it completes, and what has waited long enough */
  add(flow: Flow): Flow[] {
    if (isOwnReverse(flow)) return [flow];
    const observer = this.observer(observerOf(flow));
    this.moveTo(observer, eventMs(flow) ?? Number.NEGATIVE_INFINITY);
    const out = this.overdue(observer);
    const partner = this.remove(observer, keyOf(flow, reversed(flow.tuple)));
    if (partner === undefined) {
      const key = keyOf(flow, flow.tuple);
      // It is exported again before an answer came: the older one goes.
      const older = this.remove(observer, key);
      if (older !== undefined) out.push(older);
      const deadlineMs = observer.watermarkMs + this.timeoutMs;
      const number = ++this.number;
      observer.waiting.set(key, { flow, deadlineMs, number });
      this.changes?.put(waitingKey(observer, key), () =>
        packed({ observer: observer.name, key, flow: packFlow(flow), deadlineMs, number }),
      );
      this.held++;
    } else {
      this.counters.merged++;
      out.push(merged(partner, flow));
    }
    // Once more: now it may be one too many.
    return [...out, ...this.overdue(observer)];
  }

  /** Lets go what has waited long enough at that event time [Unix ms], whoever exported it. */
  advance(ms: number): Flow[] {
    const setBack = ms < this.floorMs - SET_BACK_MS;
    if (ms <= this.floorMs && !setBack) return [];
    const flows = setBack ? this.flush() : [];
    if (setBack) {
      for (const observer of this.observers.values()) this.changes?.drop(observerKey(observer));
      this.observers.clear();
    }
    this.floorMs = ms;
    this.changes?.put('floor', () => packed({ floorMs: this.floorMs }));
    for (const observer of this.observers.values()) {
      if (observer.watermarkMs > ms) continue;
      this.moveTo(observer, ms);
      flows.push(...this.overdue(observer));
      if (observer.waiting.size > 0) continue;
      this.observers.delete(observer.name);
      this.changes?.drop(observerKey(observer));
    }
    return flows;
  }

  flush(): Flow[] {
    return [...this.observers.values()].flatMap((observer) =>
      [...observer.waiting.keys()].flatMap((key) => this.remove(observer, key) ?? []),
    );
  }

  /** How many flows wait, and of how many observers. */
  get size(): { flows: number; observers: number } {
    return { flows: this.held, observers: this.observers.size };
  }

  /** Takes back the values that `changes` was told, of a merger with the same options. */
  restore(values: Iterable<string>): void {
    // Written by `packed`: not input of a user.
    const all = [...values].map((value) => JSON.parse(value) as Held);
    const waiting: Array<Extract<Held, { key: string }>> = [];
    this.observers.clear();
    this.floorMs = Number.NEGATIVE_INFINITY;
    for (const held of all) {
      if ('floorMs' in held) this.floorMs = held.floorMs;
      else if ('key' in held) waiting.push(held);
      else this.observer(held.observer).watermarkMs = held.watermarkMs;
    }
    waiting.sort((a, b) => a.number - b.number);
    for (const { observer, key, flow, deadlineMs, number } of waiting) {
      this.observer(observer).waiting.set(key, { flow: unpackFlow(flow), deadlineMs: deadlineMs ?? Number.NEGATIVE_INFINITY, number });
      this.number = number;
    }
    this.held = waiting.length;
  }

  private observer(name: string): Observer {
    const known = this.observers.get(name);
    if (known !== undefined) return known;
    const observer = { name, watermarkMs: this.floorMs, waiting: new Map() };
    this.observers.set(name, observer);
    return observer;
  }

  private moveTo(observer: Observer, ms: number): void {
    if (ms <= observer.watermarkMs) return;
    observer.watermarkMs = ms;
    this.changes?.put(observerKey(observer), () => packed({ observer: observer.name, watermarkMs: observer.watermarkMs }));
  }

  private remove(observer: Observer, key: string): Flow | undefined {
    const found = observer.waiting.get(key);
    if (found === undefined) return undefined;
    observer.waiting.delete(key);
    this.changes?.drop(waitingKey(observer, key));
    this.held--;
    return found.flow;
  }

  private overdue(observer: Observer): Flow[] {
    const flows: Flow[] = [];
    for (const [key, { flow, deadlineMs }] of observer.waiting) {
      if (observer.watermarkMs <= deadlineMs && this.held <= this.maxFlows) break;
      this.remove(observer, key);
      flows.push(flow);
    }
    return flows;
  }
}

function packed(held: Held): string {
  return JSON.stringify(held);
}

function observerKey({ name }: Observer): string {
  return `observer ${name}`;
}

function waitingKey({ name }: Observer, key: string): string {
  return `waiting ${name} ${key}`;
}

/** Pairs what is written together anyway, the records of windows that closed: none of them has to wait. */
export function pairsOf(records: readonly Flow[], counters: NetflowCounters): Flow[] {
  const alone = new Map<string, Flow>();
  const out: Flow[] = [];
  for (const record of records) {
    const key = (tuple: Tuple) => `${observerOf(record)}/${record.values[WINDOW_START] ?? ''}/${keyOf(record, tuple)}`;
    const partner = isOwnReverse(record) ? undefined : alone.get(key(reversed(record.tuple)));
    if (partner === undefined) {
      const older = alone.get(key(record.tuple));
      if (older !== undefined) out.push(older);
      alone.set(key(record.tuple), record);
    } else {
      alone.delete(key(reversed(record.tuple)));
      counters.merged++;
      out.push(merged(partner, record));
    }
  }
  return [...out, ...alone.values()];
}

/** A host that talks to itself from and to one port: both directions look the same. */
function isOwnReverse({ tuple }: Flow): boolean {
  return tuple.source === tuple.destination;
}

function keyOf(flow: Flow, tuple: Tuple): string {
  return `${directionOf(flow)}/${tupleText(tuple)}`;
}

function merged(a: Flow, b: Flow): Flow {
  const [forward, back] = began(a, b) ? [a, b] : [b, a];
  const values = [...forward.values];
  for (const { from, to } of REVERSE) values[to] = back.values[from];
  return { ...forward, values };
}

/**
 * Whether the first of two directions began. The first packets tell; where they do not, the ports (a client's is the higher one); where
 * these are equal, the addresses, so that it is always the same one.
 */
function began(a: Flow, b: Flow): boolean {
  if (a.startMs !== undefined && b.startMs !== undefined && a.startMs !== b.startMs) return a.startMs < b.startMs;
  const ports = Number(a.values[SOURCE_PORT] ?? 0) - Number(b.values[SOURCE_PORT] ?? 0);
  return ports === 0 ? a.tuple.source < b.tuple.source : ports > 0;
}
