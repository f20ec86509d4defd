/** Raw record to processed record: the same rule at the edge and in the aggregator. */

import { mlInputs, type RateParams, type Rates } from './rates.ts';
import type { TelemetryRecord } from './record.ts';

/**
 * The processed record of a raw one.
 * @param keepMetrics whether the counters stay in it (`flag_original_metrics`)
 * @param nowMs when the rates were worked out, Unix ms
 */
export function processed(raw: TelemetryRecord, rates: Rates, keepMetrics: boolean, nowMs: number): TelemetryRecord {
  const { metrics, debug_params, ...rest } = raw;
  return {
    ...rest,
    ...(debug_params === undefined ? {} : { debug_params: { ...debug_params, process_timestamp: String(Math.trunc(nowMs)) } }),
    ...(keepMetrics && metrics !== undefined ? { metrics } : {}),
    input_ml_metrics: mlInputs(rates),
  };
}

/** What a raw record says of its router, and the router's own settings where it says nothing (`flag_debug_params` false). */
export function paramsOf(raw: TelemetryRecord, settings: RateParams): RateParams {
  const debug = raw.debug_params;
  if (!raw.flag_debug_params || debug === undefined) return settings;
  return { maxThroughputMbps: debug.max_throughput_mbps, multiplier: debug.multiplier, pollingIntervalS: debug.polling_interval };
}
