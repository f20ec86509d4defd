/** The rates stage: raw records in, processed records out; each router's baseline is the stage's state, committed with the output. */
import type { Delivered, Message, Outcome, Stage } from '../common/bus.ts';
import { HEADER } from '../common/bus.ts';
import { DEFAULT_THROUGHPUT_MBPS, type Loaded } from '../common/config.ts';
import type { Metrics } from '../common/metrics.ts';
import { paramsOf, processed } from '../common/processing.ts';
import { type Baseline, countersOf, type NoRateReason, type RateParams, rate } from '../common/rates.ts';
import { parseRecord, printRecord, RecordError, routerOf, type TelemetryRecord } from '../common/record.ts';
import { type TopicSet, topicFor, topicsOf } from '../common/topics.ts';

export const RATES_GROUP = 'ndt-rates';

/** The raw topics: the template's, and those that routers name themselves. */
export function rawTopics(loaded: Loaded): TopicSet {
  return topicsOf(loaded.config.topics.raw, ...loaded.routers.map((router) => router.rawTopic));
}

/** Works out rates from records, router by router. */
export class RateTracker {
  readonly baselines = new Map<string, Baseline>();
  private readonly settings: ReadonlyMap<string, RateParams>;
  private readonly fallback: RateParams;
  private readonly keepMetrics: boolean;

  constructor({ config, routers }: Loaded) {
    this.settings = new Map(routers.map((router) => [router.name, router]));
    this.fallback = {
      maxThroughputMbps: config.max_throughput_mbps ?? DEFAULT_THROUGHPUT_MBPS,
      multiplier: config.multiplier,
      pollingIntervalS: config.polling_interval,
    };
    this.keepMetrics = config.flag_original_metrics;
  }

  /** The processed record of a raw one, or why there is none. */
  next(raw: TelemetryRecord, nowMs: number): TelemetryRecord | NoRateReason {
    const router = routerOf(raw);
    const params = paramsOf(raw, this.settings.get(router) ?? this.fallback);
    const reading = { epoch: raw.epoch_timestamp, devices: countersOf(monitored(raw)) };
    const outcome = rate(this.baselines.get(router), reading, params);
    if (outcome.baseline !== undefined) this.baselines.set(router, outcome.baseline);
    if ('noRate' in outcome) return outcome.noRate;
    const keep = raw.debug_params?.flag_original_metrics ?? this.keepMetrics;
    return processed({ ...raw, metrics: monitored(raw) }, outcome.rates, keep, nowMs);
  }
}

/** Only the monitored interfaces' values. */
function monitored(raw: TelemetryRecord) {
  const wanted = new Set(raw.interfaces);
  return (raw.metrics ?? []).map((family) => {
    const values = family.values.filter(({ labels }) => {
      const device = labels.find(({ name }) => name === 'device');
      return device === undefined || wanted.has(device.value);
    });
    return values.length === family.values.length ? family : { ...family, values };
  });
}

export class RatesStage implements Stage {
  private loaded: Loaded;
  private tracker: RateTracker;
  private readonly counted;

  constructor(loaded: Loaded, metrics: Metrics) {
    this.loaded = loaded;
    this.tracker = new RateTracker(loaded);
    this.counted = {
      processed: metrics.counter('ndt_processed_total', 'Raw records that gave a processed record'),
      noRate: metrics.counter('ndt_intervals_without_rate_total', 'Raw records that gave no processed record, by reason'),
      dead: metrics.counter('ndt_rates_dead_letters_total', 'Raw records that could not be used'),
    };
  }

  configure(loaded: Loaded): void {
    const { baselines } = this.tracker;
    this.loaded = loaded;
    this.tracker = new RateTracker(loaded);
    for (const [router, baseline] of baselines) this.tracker.baselines.set(router, baseline);
  }

  restore(state: Map<string, Buffer>): void {
    this.tracker.baselines.clear();
    for (const [router, baseline] of state) this.tracker.baselines.set(router, JSON.parse(baseline.toString()) as Baseline);
  }

  handle(batch: Delivered[]): Outcome {
    const append: Message[] = [];
    const touched = new Set<string>();
    const now = Date.now();
    for (const message of batch) {
      let raw: TelemetryRecord;
      let result: TelemetryRecord | NoRateReason;
      let text = '';
      try {
        raw = parseRecord(message.value.toString(), 'raw');
        touched.add(routerOf(raw));
        result = this.tracker.next(raw, now);
        if (typeof result !== 'string') text = printRecord(result);
      } catch (error) {
        if (!(error instanceof RecordError)) throw error;
        this.counted.dead.inc();
        append.push(deadLetter(message, error.message, this.loaded.config.topics.dead_letters));
        continue;
      }
      const router = routerOf(raw);
      if (typeof result === 'string') {
        this.counted.noRate.inc({ reason: result });
        continue;
      }
      this.counted.processed.inc();
      append.push({
        topic: topicFor(this.loaded.config.topics.processed, router),
        key: message.key ?? router,
        headers: message.headers,
        value: Buffer.from(text),
      });
    }
    const state = new Map<string, Buffer | null>();
    for (const router of touched) {
      const baseline = this.tracker.baselines.get(router);
      if (baseline !== undefined) state.set(router, Buffer.from(JSON.stringify(baseline)));
    }
    return { append, state };
  }
}

/** What could not be used, kept with the reason and where it came from. */
export function deadLetter(message: Message, reason: string, topic: string): Message {
  return {
    topic,
    key: message.key,
    headers: { ...message.headers, [HEADER.reason]: reason, [HEADER.origin]: message.topic },
    value: message.value,
  };
}
