/** A sample becomes a record: the experiment's settings around the counters, and the rates where the agent works them out. */
import type { Router } from '../common/config.ts';
import { processed } from '../common/processing.ts';
import { type Baseline, type CounterEvents, countersOf, type DeviceCounters, type NoRateReason, noEvents, rate } from '../common/rates.ts';
import { epochText, printRecord, type TelemetryRecord } from '../common/record.ts';
import type { Config } from '../common/schema.ts';
import { topicFor } from '../common/topics.ts';
import type { NewRecord } from './outbox.ts';
import type { CounterSample } from './source.ts';
import { attribute, sysfsBeside } from './sysfs.ts';

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
  events: CounterEvents;
  baseline: Baseline | undefined;
}

/**
 * The record that goes out for a sample, and the router's new baseline.
 *
 * The counters of this machine start anew with the kernel: a baseline of another boot is of no use to them. Another machine's go on; but
 * over a boot of ours only the wall clock tells how long it was, and where it did not go forward it was wrong, then or now.
 * @param boot the kernel's boot id, which the monotonic clock counts from
 */
export function enrich(sample: CounterSample, previous: Baseline | undefined, config: Config, nowMicros: number, boot: string): Enriched {
  const { router } = sample;
  const raw = rawRecord(sample, config, nowMicros);
  if (config.agent.ship === 'raw') {
    return {
      record: { topic: router.rawTopic, key: router.name, body: printRecord(raw) },
      noRate: undefined,
      events: noEvents(),
      baseline: undefined,
    };
  }
  // A collector's record carries the collector's time: our monotonic clock says nothing about when it was read.
  const clock = router.source === 'collector' ? {} : { monotonic: String(sample.monotonicNs), boot };
  const origin = originOf(router);
  if (previous?.origin !== undefined && previous.origin !== origin) return enrich(sample, undefined, config, nowMicros, boot);
  const reading = { epoch: raw.epoch_timestamp, ...clock, origin, devices: withIdentity(sample, countersOf(sample.families)) };
  const otherBoot = previous?.boot !== undefined && previous.boot !== boot;
  if (otherBoot && router.source === 'procfs' && reading.devices !== undefined && Object.keys(reading.devices).length > 0) {
    return { record: undefined, noRate: 'reboot', events: noEvents(), baseline: { ...reading, devices: reading.devices } };
  }
  const outcome = rate(previous, reading, router);
  const { events } = outcome;
  if ('noRate' in outcome) {
    const baseline =
      otherBoot && outcome.noRate === 'not_newer' && reading.devices !== undefined
        ? { ...reading, devices: reading.devices }
        : outcome.baseline;
    return { record: undefined, noRate: outcome.noRate, events, baseline };
  }
  const record = processed(raw, outcome.rates, config.flag_original_metrics, nowMicros / 1000);
  return {
    record: { topic: topicFor(config.topics.processed, router.name), key: router.name, body: printRecord(record) },
    noRate: undefined,
    events,
    baseline: outcome.baseline,
  };
}

/** What a router's counters come from, without a password. */
function originOf({ source, url, procfsRoot }: Router): string {
  if (source === 'test-metrics') return source;
  if (source === 'procfs') return `${source} ${procfsRoot}`;
  const address = URL.parse(url ?? '');
  return `${source} ${address === null ? '' : address.host + address.pathname + address.search}`;
}

/** Interfaces of this machine with the kernel's number for each: one that is made anew has another. */
function withIdentity({ router }: CounterSample, devices: { [device: string]: DeviceCounters } | undefined) {
  if (devices === undefined || router.source !== 'procfs') return devices;
  const sys = sysfsBeside(router.procfsRoot);
  if (sys === undefined) return devices;
  for (const [device, counters] of Object.entries(devices)) {
    // Where it is not there, or of another network namespace, the fall of its counters tells.
    const id = attribute(sys, device, 'ifindex');
    if (id !== undefined) counters.id = id;
  }
  return devices;
}
