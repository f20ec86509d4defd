/** What a source of counters is. */
import type { Router } from '../common/config.ts';
import type { MetricFamily } from '../common/record.ts';
import type { LinkSpeed } from './sysfs.ts';

/** One reading of one router's counters. */
export interface CounterSample {
  router: Router;
  /** The moment the counters were read: Unix microseconds and the monotonic clock (CLOCK_MONOTONIC, ns). */
  readAtMicros: number;
  monotonicNs: bigint;
  /** Interfaces that were read, in the order of the source. */
  interfaces: string[];
  /** Interfaces that the configuration names (not by a pattern) and the source did not have. */
  missing: string[];
  /** The wanted families, only with the monitored interfaces' values, each value as exposed; from `collect`, all families whole. */
  families: MetricFamily[];
  testMetrics: boolean;
  /** What stands for a capacity that is not configured: a link's speed, or null where none tells it. */
  linkSpeed?: LinkSpeed | null;
}

/** Takes a sample in; resolves when its record is in the outbox. */
export type Emit = (sample: CounterSample) => Promise<void>;

export interface Source {
  /** The router's name. */
  readonly name: string;
  /** Reads the counters once. @throws SourceError saying what is wrong and what to do */
  poll(signal: AbortSignal): Promise<CounterSample>;
  /** All families of the router, for `GET /metrics/{host}_{port}.json`. @throws SourceError like `poll` */
  collect(signal: AbortSignal): Promise<CounterSample>;
  /** Ends connections that are kept open. */
  close(): void;
}

/** What all kinds of sources are given beside their router. */
export interface SourceOptions {
  /** Names of the families to read. */
  families: ReadonlySet<string>;
  /** Names and `*` patterns of interfaces that no pattern takes. */
  excludeInterfaces: readonly string[];
  /** Time for one whole poll [ms]. */
  timeoutMs: number;
  /** Most that is taken of one answer, unpacked [bytes]. */
  maxResponseBytes: number;
  clock: Clock;
}

/** The clocks, as parameters, so that tests can set them. */
export interface Clock {
  /** Unix microseconds. */
  nowMicros(): number;
  /** CLOCK_MONOTONIC [ns]: comparable between processes of one boot. */
  monotonicNs(): bigint;
}

export const systemClock: Clock = {
  nowMicros: () => Date.now() * 1000,
  monotonicNs: () => process.hrtime.bigint(),
};

/** What went wrong with one poll; never ends anything but that poll. */
export class SourceError extends Error {
  /** For the metrics: a few words of a fixed list. */
  readonly reason: 'unreachable' | 'timeout' | 'status' | 'too_large' | 'not_metrics' | 'no_interface' | 'unreadable';
  constructor(reason: SourceError['reason'], message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'SourceError';
    this.reason = reason;
  }
}
