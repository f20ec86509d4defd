/**
 * Live figures: the store publishes what it has stored, and whoever watches gets each router's latest, at most four times a second.
 *
 * Nothing queues up: a watcher that cannot keep up has a set of routers to hear of, never a list of events, and hears their latest
 * figures when it can again.
 */
import type { Writable } from 'node:stream';
import type { Figures } from './figures.ts';

/** The latest figures of a router, as events and the API give them. */
export interface LatestFigures {
  router: string;
  /** Event time [Unix s]. */
  at: number;
  /** [packets/s] */
  rate: number | null;
  /** [bytes] */
  length: number | null;
  /** [%] */
  occupation: number | null;
  /** [W]; null until the record's inference is there. */
  power: number | null;
  /** From reading the counters to the inference [ms]; null while there is none, and where the record does not tell. */
  latency_ms: number | null;
}

export type Listener = (latest: LatestFigures) => void;

/** Least time between two events of a router. */
const PACE_MS = 250;
/** A record this far ahead of our clock gives way to any other. */
const AHEAD_MICROS = 60_000_000;

interface Entry {
  at: number;
  latest: LatestFigures;
  sentAt: number;
  due: number;
  timer: NodeJS.Timeout | undefined;
}

/** The latest figures of a processed and an inferred record of one router: the newer one's, the inference's where both are of one time. */
export function merge(processed: Figures | undefined, inferred: Figures | undefined): LatestFigures | undefined {
  const newer = inferred === undefined || (processed !== undefined && processed.at > inferred.at) ? processed : inferred;
  return newer === undefined ? undefined : latestOf(newer);
}

function latestOf({ router, at, rate, length, occupation, power, latency }: Figures): LatestFigures {
  return { router, at: at / 1e6, rate, length, occupation, power, latency_ms: latency.inferred };
}

export class Live {
  private readonly routers = new Map<string, Entry>();
  private readonly listeners = new Set<Listener>();

  /** Takes newly stored figures in. Older ones than the latest (replayed records) change nothing. */
  publish(figures: readonly Figures[]): void {
    for (const each of figures) this.take(each);
  }

  /** The latest figures of all routers, by name. */
  latest(): LatestFigures[] {
    return [...this.routers.values()].map(({ latest }) => latest).sort((a, b) => (a.router < b.router ? -1 : 1));
  }

  /** Calls back with a router's latest figures, at most four times a second for each. Returns how to end that. */
  subscribe(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  get watchers(): number {
    return this.listeners.size;
  }

  close(): void {
    for (const { timer } of this.routers.values()) clearTimeout(timer);
    this.routers.clear();
    this.listeners.clear();
  }

  private take(figures: Figures): void {
    const { router, at, stage } = figures;
    const known = this.routers.get(router);
    if (known !== undefined) {
      const ahead = known.at > Date.now() * 1000 + AHEAD_MICROS;
      if (at < known.at && !ahead) return;
      // Of one time both stages' records tell the same, and the inferred one more.
      if (at === known.at && stage === 'processed') return;
    }
    const entry: Entry = known ?? {
      at,
      latest: latestOf(figures),
      sentAt: Number.NEGATIVE_INFINITY,
      due: Number.POSITIVE_INFINITY,
      timer: undefined,
    };
    if (known === undefined) this.routers.set(router, entry);
    entry.at = at;
    entry.latest = latestOf(figures);
    // An inference follows within milliseconds where there is one: figures without it wait for it a little.
    const now = performance.now();
    const due = Math.max(entry.sentAt + PACE_MS, stage === 'inferred' ? now : now + PACE_MS);
    if (due >= entry.due) return;
    clearTimeout(entry.timer);
    entry.due = due;
    entry.timer = setTimeout(() => this.send(entry), Math.max(0, due - now));
    entry.timer.unref();
  }

  private send(entry: Entry): void {
    entry.due = Number.POSITIVE_INFINITY;
    entry.timer = undefined;
    entry.sentAt = performance.now();
    for (const listener of this.listeners) listener(entry.latest);
  }
}

export interface StreamOptions {
  /** Milliseconds between heartbeat comments, which keep proxies from closing a quiet connection. */
  heartbeatMs?: number;
  /** Milliseconds that a watcher may take nothing before it is cut off. */
  stalledMs?: number;
}

/**
 * Writes the latest figures of all routers, and then every change, as server-sent events. Ends with the stream or the signal.
 * @param out the response, its head already written
 */
export function streamEvents(
  live: Live,
  out: Writable,
  signal: AbortSignal,
  { heartbeatMs = 15_000, stalledMs = 60_000 }: StreamOptions = {},
): void {
  /** What waits for a watcher that does not keep up: the latest of each router. */
  const waiting = new Map<string, LatestFigures>();
  let blockedSince: number | undefined;
  const write = (text: string) => {
    if (!out.write(text)) blockedSince ??= performance.now();
  };
  const event = (latest: LatestFigures) => {
    if (blockedSince === undefined) write(`event: figures\ndata: ${JSON.stringify(latest)}\n\n`);
    else waiting.set(latest.router, latest);
  };
  const drained = () => {
    blockedSince = undefined;
    for (const [router, latest] of waiting) {
      if (blockedSince !== undefined) return;
      waiting.delete(router);
      event(latest);
    }
  };
  const heartbeat = setInterval(() => {
    if (blockedSince === undefined) write(': still here\n\n');
    else if (performance.now() - blockedSince > stalledMs) out.destroy();
  }, heartbeatMs);
  heartbeat.unref();
  const end = () => {
    clearInterval(heartbeat);
    unsubscribe();
    signal.removeEventListener('abort', abort);
    out.off('drain', drained);
  };
  const abort = () => {
    end();
    out.end();
  };
  const unsubscribe = live.subscribe(event);
  out.on('drain', drained);
  out.once('close', end);
  out.on('error', () => out.destroy());
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) {
    abort();
    return;
  }
  write('retry: 2000\n\n');
  for (const latest of live.latest()) event(latest);
}
