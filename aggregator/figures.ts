/** What the store keeps of a record beside its text: the figures that are charted, and how long each stage took. */
import { epochMicros, type StageName, type TelemetryRecord } from '../common/record.ts';

export type StoredStage = Exclude<StageName, 'raw'>;

/** How the database names the stages. */
export const STAGE_NUMBER: Readonly<Record<StoredStage, number>> = { processed: 1, inferred: 2 };

/** The width of the sums that are kept for long series. */
export const MINUTE_MICROS = 60_000_000;

/** The charted metrics. */
export type Metric = 'rate' | 'length' | 'occupation' | 'power';

export interface MetricInfo {
  /** Its name in the record (contract 1). */
  name: string;
  unit: string;
  description: string;
  /** The stage whose records have it first. */
  stage: StoredStage;
}

export const METRICS: Readonly<Record<Metric, MetricInfo>> = {
  rate: { name: 'node_network_receive_packets_total_rate', unit: 'packets/s', description: 'Packets received', stage: 'processed' },
  length: {
    name: 'node_network_average_received_packet_length',
    unit: 'bytes',
    description: 'Average length of a received packet',
    stage: 'processed',
  },
  occupation: {
    name: 'node_network_router_capacity_occupation',
    unit: '%',
    description: 'Occupation of the router’s capacity',
    stage: 'processed',
  },
  power: { name: 'node_network_power_consumption_wats', unit: 'W', description: 'Estimated power', stage: 'inferred' },
};

export const METRIC_NAMES: readonly Metric[] = ['rate', 'length', 'occupation', 'power'];

/** A metric by its short or its long name, or undefined. */
export function metricOf(name: string): Metric | undefined {
  return METRIC_NAMES.find((metric) => metric === name || METRICS[metric].name === name);
}

/** Milliseconds from reading the counters to the end of a stage; null where the record does not tell. Clocks that differ make it negative. */
export interface Latencies {
  collected: number | null;
  processed: number | null;
  inferred: number | null;
}

export interface Figures {
  router: string;
  stage: StoredStage;
  /** Event time [Unix µs]. */
  at: number;
  /** [packets/s] */
  rate: number | null;
  /** [bytes] */
  length: number | null;
  /** [%] */
  occupation: number | null;
  /** [W] */
  power: number | null;
  latency: Latencies;
  /** It waited out an outage, so its latencies tell of that. */
  replayed: boolean;
}

const SECONDS = /^\d{1,11}(\.\d+)?$/;
const MILLISECONDS = /^\d{1,14}$/;

/** The figures of a checked record (`parseRecord`). */
export function figuresOf(record: TelemetryRecord, router: string, stage: StoredStage, replayed: boolean): Figures {
  const at = epochMicros(record.epoch_timestamp);
  let rate: number | null = null;
  let length: number | null = null;
  let occupation: number | null = null;
  for (const { name, value } of record.input_ml_metrics ?? []) {
    if (name === METRICS.rate.name) rate = value;
    else if (name === METRICS.length.name) length = value;
    else if (name === METRICS.occupation.name) occupation = value;
  }
  const output = record.output_ml_metrics?.find(({ name }) => name === METRICS.power.name)?.value;
  const power = (Array.isArray(output) ? output[0] : output) ?? null;
  return { router, stage, at, rate, length, occupation, power, latency: latenciesOf(record, at), replayed };
}

function latenciesOf({ flag_debug_params, debug_params }: TelemetryRecord, at: number): Latencies {
  if (!flag_debug_params || debug_params === undefined) return { collected: null, processed: null, inferred: null };
  const { collector_timestamp, process_timestamp, ml_timestamp } = debug_params;
  return {
    collected: since(at, secondsText(collector_timestamp)),
    processed: since(
      at,
      typeof process_timestamp === 'string' && MILLISECONDS.test(process_timestamp) ? Number(process_timestamp) * 1000 : undefined,
    ),
    inferred: since(at, secondsText(ml_timestamp)),
  };
}

/** These fields are not what makes a record valid, so they may be anything. */
function secondsText(timestamp: unknown): number | undefined {
  return typeof timestamp === 'string' && SECONDS.test(timestamp) ? epochMicros(timestamp) : undefined;
}

function since(at: number, micros: number | undefined): number | null {
  return micros === undefined ? null : (micros - at) / 1000;
}
