/** Records as the pipeline makes them, and as the bus delivers them, for tests of what comes after it. */

import Value from 'typebox/value';
import { type Delivered, HEADER, type Headers } from '../common/bus.ts';
import type { RateParams } from '../common/rates.ts';
import { epochMicros, epochText, printRecord, type TelemetryRecord } from '../common/record.ts';
import { type Config, ConfigSchema } from '../common/schema.ts';

/** The topics' default names. */
export const TOPICS: Config['topics'] = (Value.Default(ConfigSchema, {}) as Config).topics;

export interface Sample {
  router?: string;
  /** Unix µs. */
  at: number;
  rate?: number;
  length?: number;
  occupation?: number;
  power?: number;
  /** Milliseconds from reading the counters; null leaves `debug_params` out. */
  latency?: { collected: number; processed: number; inferred: number } | null;
}

const PARAMS: RateParams = { maxThroughputMbps: 100, multiplier: 1, pollingIntervalS: 1 };

/** An inferred record, or a processed one where no power is given. */
export function recordWith({
  router = 'r1',
  at,
  rate = 100,
  length = 500,
  occupation = 1,
  power,
  latency = { collected: 1, processed: 2, inferred: 8 },
}: Sample): TelemetryRecord {
  return {
    node_exporter: `${router}:9100`,
    epoch_timestamp: epochText(at),
    experiment_id: '1',
    interfaces: ['eth2'],
    flag_debug_params: latency !== null,
    ...(latency === null
      ? {}
      : {
          debug_params: {
            flag_original_metrics: true,
            max_throughput_mbps: PARAMS.maxThroughputMbps,
            unit: 'bytes' as const,
            polling_interval: PARAMS.pollingIntervalS,
            test_metrics: false,
            multiplier: PARAMS.multiplier,
            collector_timestamp: epochText(Math.round(at + latency.collected * 1000)),
            process_timestamp: String(Math.trunc((at + latency.processed * 1000) / 1000)),
            ...(power === undefined ? {} : { ml_timestamp: epochText(Math.round(at + latency.inferred * 1000)) }),
          },
        }),
    metrics: ['bytes', 'packets'].map((what) => ({
      name: `node_network_receive_${what}_total`,
      description: `Network device statistic receive_${what}.`,
      type: 'counter',
      values: [{ labels: [{ name: 'device', value: 'eth2' }], value: '2.434326851e+09' }],
    })),
    input_ml_metrics: [
      { name: 'node_network_receive_packets_total_rate', type: 'rate', value: rate },
      { name: 'node_network_average_received_packet_length', type: 'length', value: length },
      { name: 'node_network_router_capacity_occupation', type: 'percentage', value: occupation },
    ],
    ...(power === undefined
      ? {}
      : { output_ml_metrics: [{ name: 'node_network_power_consumption_wats', type: 'power_consumption_wats', value: [power] }] }),
  };
}

let offset = 0;

/** A message as the bus delivers it. */
export function delivered(topic: string, value: string, headers: Headers = {}, place: Partial<Delivered> = {}): Delivered {
  offset += 1;
  return { topic, key: 'r1', headers, value: Buffer.from(value), partition: 0, offset: String(offset), timestamp: 0, ...place };
}

/** A record on the topic of its stage, numbered by an agent where `seq` is given. */
export function deliveredRecord(
  record: TelemetryRecord,
  seq?: number,
  { agent = 'a1', replayed = false, ...place }: { agent?: string; replayed?: boolean } & Partial<Delivered> = {},
): Delivered {
  const router = record.node_exporter.split(':')[0];
  const topic = `${record.output_ml_metrics === undefined ? 'TP' : 'ML'}_${router}`;
  const headers: Headers =
    seq === undefined
      ? {}
      : { [HEADER.agent]: agent, [HEADER.boot]: 'b1', [HEADER.seq]: String(seq), ...(replayed ? { [HEADER.replayed]: '1' } : {}) };
  return delivered(topic, printRecord(record), headers, place);
}

/** Both stages' records of one reading. */
export function deliveredPair(
  sample: Sample & { power: number },
  seq: number,
  options: { agent?: string; replayed?: boolean } = {},
): Delivered[] {
  const { power: _, ...processed } = sample;
  return [deliveredRecord(recordWith(processed), seq, options), deliveredRecord(recordWith(sample), seq, options)];
}

/** Unix µs of a record's event time. */
export function timeOf(record: TelemetryRecord): number {
  return epochMicros(record.epoch_timestamp);
}
