/** The agent's own metrics. */
import { Metrics, processMetrics } from '../common/metrics.ts';
import type { Outbox } from './outbox.ts';

export type AgentMetrics = ReturnType<typeof agentMetrics>;

export function agentMetrics(version: string, outbox: Outbox) {
  const metrics = new Metrics();
  processMetrics(metrics, 'ndt-agent', version);
  const ledger = {
    produced: metrics.counter('ndt_records_produced_total', 'Records committed to the outbox'),
    delivered: metrics.counter('ndt_records_delivered_total', 'Records that the receiving side has confirmed'),
    pending: metrics.gauge('ndt_records_pending', 'Records waiting in the outbox'),
    dropped: metrics.counter('ndt_records_dropped_total', 'Records dropped by a bound of the outbox, by reason'),
    rejected: metrics.counter('ndt_records_rejected_total', 'Records that the receiving side refused for good, by reason'),
    bytes: metrics.gauge('ndt_outbox_bytes', 'Disk space that the outbox takes'),
    oldest: metrics.gauge('ndt_outbox_oldest_seconds', 'Age of the oldest waiting record'),
  };
  metrics.onCollect(() => {
    const stats = outbox.stats();
    const raise = (counter: typeof ledger.produced, to: number, labels = {}) => counter.inc(labels, to - counter.get(labels));
    raise(ledger.produced, stats.produced);
    raise(ledger.delivered, stats.delivered);
    for (const [reason, n] of Object.entries(stats.dropped)) raise(ledger.dropped, n, { reason });
    for (const [reason, n] of Object.entries(stats.rejected)) raise(ledger.rejected, n, { reason });
    ledger.pending.set(stats.pending);
    ledger.bytes.set(stats.bytes);
    ledger.oldest.set(stats.oldestAt === undefined ? 0 : Math.max(0, Date.now() - stats.oldestAt) / 1000);
  });
  return {
    all: metrics,
    polls: metrics.counter('ndt_polls_total', 'Polls of a router, by result'),
    pollSeconds: metrics.histogram('ndt_poll_duration_seconds', 'Duration of a poll, from the tick to the record in the outbox'),
    skipped: metrics.counter('ndt_polls_skipped_total', 'Polls left out because the one before took too long'),
    noRate: metrics.counter('ndt_intervals_without_rate_total', 'Intervals that gave no processed record, by reason'),
    wraps: metrics.counter('ndt_counter_wraps_total', '32-bit counters that passed their end'),
    sendSeconds: metrics.histogram('ndt_uplink_send_duration_seconds', 'Time from sending a batch to its confirmation'),
    sendErrors: metrics.counter('ndt_uplink_errors_total', 'Batches that have to be sent again, by reason'),
    connected: metrics.gauge('ndt_uplink_connected', '1 when the receiving side was reached last time'),
  };
}
