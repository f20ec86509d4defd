/**
 * The telemetry record: one JSON document that grows from raw (counters) over processed (rates) to inferred (power).
 * Field names, order and number formats are a contract with programs written for the systems ndt replaces.
 */

export interface Label {
  name: string;
  value: string;
}

export interface MetricValue {
  /** Set only where a sample's own name differs from its family's: `…_bucket`, `…_sum`, `…_count`, `…_created`. */
  name?: string;
  labels: Label[];
  /** The exposition's own text, untouched: `"2.434326851e+09"`. */
  value: string;
}

/** One metric family of an exposition. `type` is as exposed: counter, gauge, histogram, summary, untyped, … */
export interface MetricFamily {
  name: string;
  description: string;
  type: string;
  values: MetricValue[];
}

/** Settings and stage times, present only when `flag_debug_params` is true. */
export interface DebugParams {
  flag_original_metrics: boolean;
  max_throughput_mbps: number;
  unit: 'bytes';
  /** Seconds. */
  polling_interval: number;
  test_metrics: boolean;
  multiplier: number;
  /** Unix seconds with fraction: the collector had the counters in hand. */
  collector_timestamp: string;
  /** Unix milliseconds, whole: the rates were worked out. */
  process_timestamp?: string;
  /** Unix seconds with fraction: the inference was made. */
  ml_timestamp?: string;
}

/** An input of the models. Packet rate [packets/s], average length [bytes], occupation [%]. */
export interface MlInput {
  name: string;
  type: string;
  value: number;
}

/** An output of the models: `[z]` W, `[dz/dx]` W, `dz/dy` W/byte. */
export interface MlOutput {
  name: string;
  type: string;
  value: number | number[];
}

export interface TelemetryRecord {
  /** `host:port` of the router; the router's name is the host part. */
  node_exporter: string;
  /** Unix seconds with fraction: the moment the counters were read. */
  epoch_timestamp: string;
  experiment_id: string;
  interfaces: string[];
  flag_debug_params: boolean;
  debug_params?: DebugParams;
  metrics?: MetricFamily[];
  input_ml_metrics?: MlInput[];
  output_ml_metrics?: MlOutput[];
}

export type StageName = 'raw' | 'processed' | 'inferred';

export const RECEIVED_BYTES = 'node_network_receive_bytes_total';
export const RECEIVED_PACKETS = 'node_network_receive_packets_total';

/** Why a text is not a record of its stage: `path` is the field, as in `metrics[0].values[1].value`. */
export class RecordError extends Error {
  readonly path: string;
  constructor(path: string, expected: string) {
    super(path === '' ? expected : `${path}: ${expected}`);
    this.name = 'RecordError';
    this.path = path;
  }
}

/** Of a metric's value, either sign. */
const MOST_VALUE = 1e200;

export const TIMESTAMP = /^\d{1,11}(\.\d{1,18})?$/;

/** The router's name: the host part of `node_exporter`. */
export function routerOf(record: Pick<TelemetryRecord, 'node_exporter'>): string {
  return hostOf(record.node_exporter);
}

function hostOf(nodeExporter: string): string {
  const colon = nodeExporter.lastIndexOf(':');
  return colon < 0 ? nodeExporter : nodeExporter.slice(0, colon);
}

/** Unix seconds with fraction, as text, to whole microseconds (exact for every time of this millennium). */
export function epochMicros(timestamp: string): number {
  const dot = timestamp.indexOf('.');
  if (dot < 0) return Number(timestamp) * 1_000_000;
  const fraction = timestamp.slice(dot + 1, dot + 7).padEnd(6, '0');
  return Number(timestamp.slice(0, dot)) * 1_000_000 + Number(fraction);
}

/** Whole microseconds to Unix seconds with fraction; milliseconds resolution where that is all there is. */
export function epochText(micros: number): string {
  const seconds = Math.floor(micros / 1_000_000);
  const rest = micros - seconds * 1_000_000;
  const fraction = String(rest).padStart(6, '0');
  return `${seconds}.${fraction.endsWith('000') ? fraction.slice(0, 3) : fraction}`;
}

/**
 * Parses and checks one record. What a stage needs must be there and be usable; fields that ndt does not know pass through.
 * @throws RecordError with the path of the wrong field
 */
export function parseRecord(json: string, stage: StageName): TelemetryRecord {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new RecordError('', `not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  checkRecord(value, stage);
  return value;
}

/** @throws RecordError with the path of the wrong field */
export function checkRecord(value: unknown, stage: StageName): asserts value is TelemetryRecord {
  if (!isObject(value)) throw new RecordError('', `expected an object, got ${kindOf(value)}`);
  const nodeExporter = stringAt(value, 'node_exporter', '');
  if (hostOf(nodeExporter).length === 0) throw new RecordError('node_exporter', 'expected "host:port" with a host');
  const timestamp = stringAt(value, 'epoch_timestamp', '');
  if (!TIMESTAMP.test(timestamp))
    throw new RecordError('epoch_timestamp', `expected Unix seconds as text ("1745233635.21"), got "${timestamp}"`);
  stringAt(value, 'experiment_id', '');
  arrayAt(value, 'interfaces', '').forEach((name, i) => {
    if (typeof name !== 'string') throw new RecordError(`interfaces[${i}]`, `expected text, got ${kindOf(name)}`);
  });
  if (typeof value.flag_debug_params !== 'boolean') {
    throw new RecordError('flag_debug_params', `expected true or false, got ${kindOf(value.flag_debug_params)}`);
  }
  if (value.flag_debug_params) checkDebugParams(value.debug_params);
  if (stage === 'raw' || value.metrics !== undefined) arrayAt(value, 'metrics', '').forEach(checkFamily);
  if (stage !== 'raw')
    arrayAt(value, 'input_ml_metrics', '').forEach((metric, i) => {
      checkMlMetric(metric, `input_ml_metrics[${i}]`, false);
    });
  if (stage === 'inferred')
    arrayAt(value, 'output_ml_metrics', '').forEach((metric, i) => {
      checkMlMetric(metric, `output_ml_metrics[${i}]`, true);
    });
}

function checkDebugParams(value: unknown): void {
  if (!isObject(value)) throw new RecordError('debug_params', `expected an object because flag_debug_params is true, got ${kindOf(value)}`);
  for (const name of ['max_throughput_mbps', 'polling_interval', 'multiplier'] as const) {
    const number = value[name];
    if (typeof number !== 'number' || !(number > 0))
      throw new RecordError(`debug_params.${name}`, `expected a number above 0, got ${kindOf(number)}`);
  }
}

function checkFamily(family: unknown, f: number): void {
  const path = `metrics[${f}]`;
  if (!isObject(family)) throw new RecordError(path, `expected an object, got ${kindOf(family)}`);
  stringAt(family, 'name', `${path}.`);
  arrayAt(family, 'values', `${path}.`).forEach((entry, v) => {
    const at = `${path}.values[${v}]`;
    if (!isObject(entry)) throw new RecordError(at, `expected an object, got ${kindOf(entry)}`);
    stringAt(entry, 'value', `${at}.`);
    arrayAt(entry, 'labels', `${at}.`).forEach((label, l) => {
      if (!isObject(label)) throw new RecordError(`${at}.labels[${l}]`, `expected an object, got ${kindOf(label)}`);
      stringAt(label, 'name', `${at}.labels[${l}].`);
      stringAt(label, 'value', `${at}.labels[${l}].`);
    });
  });
}

function checkMlMetric(metric: unknown, path: string, listed: boolean): void {
  if (!isObject(metric)) throw new RecordError(path, `expected an object, got ${kindOf(metric)}`);
  stringAt(metric, 'name', `${path}.`);
  const value = listed && Array.isArray(metric.value) ? metric.value[0] : metric.value;
  if (typeof value !== 'number') throw new RecordError(`${path}.value`, `expected a number, got ${kindOf(value)}`);
  // JSON has numbers that no double holds (1e999), and sums of the largest doubles are none either.
  if (!(Math.abs(value) <= MOST_VALUE)) throw new RecordError(`${path}.value`, `expected a number of at most ${MOST_VALUE}, got ${value}`);
}

type Fields = { [name: string]: unknown };

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function stringAt(object: Fields, name: string, path: string): string {
  const value = object[name];
  if (typeof value !== 'string') throw new RecordError(`${path}${name}`, `expected text, got ${kindOf(value)}`);
  return value;
}

function arrayAt(object: Fields, name: string, path: string): unknown[] {
  const value = object[name];
  if (!Array.isArray(value)) throw new RecordError(`${path}${name}`, `expected a list, got ${kindOf(value)}`);
  return value;
}

function kindOf(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'an object' : `${typeof value} ${JSON.stringify(value)?.slice(0, 40)}`;
}

/** The value of a model input by name, or undefined. */
export function inputOf(record: TelemetryRecord, name: string): number | undefined {
  return record.input_ml_metrics?.find((metric) => metric.name === name)?.value;
}

/**
 * One record as the JSON text that goes over the wire, its fields in the contract's order.
 * @throws RecordError where it is nested too deeply
 */
export function printRecord(record: TelemetryRecord): string {
  const {
    node_exporter,
    epoch_timestamp,
    experiment_id,
    interfaces,
    flag_debug_params,
    debug_params,
    metrics,
    input_ml_metrics,
    output_ml_metrics,
    ...further
  } = record;
  const ordered = {
    node_exporter,
    epoch_timestamp,
    experiment_id,
    interfaces,
    flag_debug_params,
    debug_params,
    metrics,
    input_ml_metrics,
    output_ml_metrics,
    ...further,
  };
  try {
    return JSON.stringify(ordered);
  } catch (error) {
    // What can be parsed cannot always be printed: fields that we do not know may be nested as deep as they like.
    throw error instanceof RangeError ? new RecordError('', 'nested too deeply to be written') : error;
  }
}
