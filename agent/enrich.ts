/** A sample becomes a record: the experiment's settings around the counters, and the rates where the agent works them out. */

import { processed } from '../common/processing.ts';
import { type Baseline, countersOf, type NoRateReason, rate } from '../common/rates.ts';
import { epochText, printRecord, type TelemetryRecord } from '../common/record.ts';
import type { Config } from '../common/schema.ts';
import { topicFor } from '../common/topics.ts';
import type { NewRecord } from './outbox.ts';
import type { CounterSample } from './source.ts';

/** The raw record of a sample. */
export function rawRecord(sample: CounterSample, config: Config, collectedMicros: number): TelemetryRecord {
  const { router } = sample;
  return {
    node_exporter: router.nodeExporter,
    epoch_timestamp: epochText(sample.readAtMicros),
    experiment_id: config.experiment_id,
    interfaces: sample.interfaces,
    flag_debug_params: config.flag_debug_params,
    ...(config.flag_debug_params
      ? {
          debug_params: {
            flag_original_metrics: config.flag_original_metrics,
            max_throughput_mbps: router.maxThroughputMbps,
            unit: 'bytes' as const,
            polling_interval: router.pollingIntervalS,
            test_metrics: sample.testMetrics,
            multiplier: router.multiplier,
            collector_timestamp: epochText(collectedMicros),
          },
        }
      : {}),
    metrics: sample.families,
  };
}

export interface Enriched {
  /** Nothing where the interval gave no rate. */
  record: NewRecord | undefined;
  noRate: NoRateReason | undefined;
  wraps: number;
  baseline: Baseline | undefined;
}

/**
 * The record that goes out for a sample, and the router's new baseline.
 * @param boot the kernel's boot id, which the monotonic clock counts from
 */
export function enrich(sample: CounterSample, previous: Baseline | undefined, config: Config, nowMicros: number, boot: string): Enriched {
  const { router } = sample;
  const raw = rawRecord(sample, config, nowMicros);
  if (config.agent.ship === 'raw') {
    return {
      record: { topic: router.rawTopic, key: router.name, body: printRecord(raw) },
      noRate: undefined,
      wraps: 0,
      baseline: undefined,
    };
  }
  // A collector's record carries the collector's time: our monotonic clock says nothing about when it was read.
  const clock = router.source === 'collector' ? {} : { monotonic: String(sample.monotonicNs), boot };
  const outcome = rate(previous, { epoch: raw.epoch_timestamp, ...clock, devices: countersOf(sample.families) }, router);
  if ('noRate' in outcome) return { record: undefined, noRate: outcome.noRate, wraps: 0, baseline: outcome.baseline };
  const record = processed(raw, outcome.rates, config.flag_original_metrics, nowMicros / 1000);
  return {
    record: { topic: topicFor(config.topics.processed, router.name), key: router.name, body: printRecord(record) },
    noRate: undefined,
    wraps: outcome.rates.wraps,
    baseline: outcome.baseline,
  };
}
