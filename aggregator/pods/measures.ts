/** What the publisher tells of itself. */
import type { Counter, Gauge, Histogram, Metrics } from '../../common/metrics.ts';

/** Seconds. */
const ROUND_BOUNDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60];

export interface Measures {
  rounds: Counter;
  messages: Counter;
  series: Counter;
  dropped: Counter;
  failures: Counter;
  warnings: Counter;
  refused: Counter;
  missed: Counter;
  duration: Histogram;
  lastSuccess: Gauge;
  behind: Gauge;
}

export function podMeasures(metrics: Metrics): Measures {
  return {
    rounds: metrics.counter('ndt_pods_rounds_total', 'Rounds of asking Prometheus, by result: ok, partial, failed, nothing_new'),
    messages: metrics.counter('ndt_pods_messages_total', 'Messages published'),
    series: metrics.counter('ndt_pods_series_total', 'Series that Prometheus answered with'),
    dropped: metrics.counter('ndt_pods_dropped_values_total', 'Values that no message takes, by reason'),
    failures: metrics.counter('ndt_pods_failures_total', 'Metrics that could not be asked for or published in a round, by reason'),
    warnings: metrics.counter('ndt_pods_warnings_total', 'Warnings in answers of Prometheus: partial results, say'),
    refused: metrics.counter('ndt_pods_refused_batches_total', 'Batches with a message that the bus refuses for good'),
    missed: metrics.counter('ndt_pods_missed_seconds_total', 'Seconds of a metric given up, because they lie beyond pods.max_catch_up'),
    duration: metrics.histogram('ndt_pods_round_duration_seconds', 'Time that a round took', ROUND_BOUNDS),
    lastSuccess: metrics.gauge('ndt_pods_last_success_timestamp_seconds', 'End of the last round in which all went well, Unix seconds'),
    behind: metrics.gauge('ndt_pods_behind_seconds', 'How far the metric that is furthest behind is behind'),
  };
}
