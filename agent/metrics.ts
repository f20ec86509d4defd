/** The agent's own metrics. */
import { readFileSync } from 'node:fs';
import { type Counter, Metrics, processMetrics } from '../common/metrics.ts';
import type { Outbox } from './outbox.ts';

export type AgentMetrics = ReturnType<typeof agentMetrics>;

const DAY_S = 86_400;

export function agentMetrics(version: string, outbox: Outbox) {
  const metrics = new Metrics();
  processMetrics(metrics, 'ndt-agent', version);
  const ledger = {
    produced: metrics.counter('ndt_records_produced_total', 'Records taken into the outbox'),
    delivered: metrics.counter('ndt_records_delivered_total', 'Records that the receiving side has confirmed'),
    pending: metrics.gauge('ndt_records_pending', 'Records waiting in the outbox'),
    backlog: metrics.gauge('ndt_records_backlog', 'Those of the waiting records that wait out an outage or a restart'),
    perDay: metrics.gauge('ndt_records_per_day', 'Records a day at the rate since the start of the program'),
    dropped: metrics.counter('ndt_records_dropped_total', 'Records dropped, by reason'),
    rejected: metrics.counter('ndt_records_rejected_total', 'Records that the receiving side refused for good, by reason'),
    restamped: metrics.counter(
      'ndt_records_restamped_total',
      'Records whose times were moved before they were sent, because the clock had been wrong',
    ),
    bytes: metrics.gauge('ndt_outbox_bytes', 'Disk space that the outbox takes, its log included'),
    maxBytes: metrics.gauge('ndt_outbox_max_bytes', 'Most disk space that the outbox may take'),
    oldest: metrics.gauge('ndt_outbox_oldest_seconds', 'Time that the oldest waiting record has waited'),
    inMemory: metrics.gauge('ndt_outbox_memory', '1 while new records are kept in memory, by cause: `chosen` is durability on-outage'),
    memoryRecords: metrics.gauge('ndt_outbox_memory_records', 'Records in memory'),
    memoryBytes: metrics.gauge('ndt_outbox_memory_bytes', 'Bytes of the records in memory'),
    faults: metrics.counter('ndt_outbox_faults_total', 'Faults of the disk and of what was read from it, by kind'),
    repairs: metrics.counter('ndt_outbox_repairs_total', 'Damaged files that were replaced by what could be read of them'),
  };
  const written = {
    total: metrics.counter('ndt_disk_written_bytes_total', 'Bytes that the program had written to disk (/proc/self/io)'),
    perDay: metrics.gauge('ndt_disk_written_bytes_per_day', 'Bytes written to disk a day, at the rate since the start of the program'),
  };
  const startedWith = outbox.ledger().produced;
  const started = performance.now();
  metrics.onCollect(() => {
    const stats = outbox.stats();
    raise(ledger.produced, stats.produced);
    raise(ledger.delivered, stats.delivered);
    raise(ledger.restamped, stats.restamped);
    raise(ledger.repairs, stats.repairs);
    for (const [reason, n] of Object.entries(stats.dropped)) raise(ledger.dropped, n, { reason });
    for (const [reason, n] of Object.entries(stats.rejected)) raise(ledger.rejected, n, { reason });
    for (const [kind, n] of Object.entries(stats.faults)) raise(ledger.faults, n, { kind });
    ledger.pending.set(stats.pending);
    ledger.backlog.set(stats.backlog);
    ledger.bytes.set(stats.bytes);
    ledger.maxBytes.set(stats.maxBytes);
    ledger.oldest.set((stats.oldestMs ?? 0) / 1000);
    ledger.inMemory.clear();
    if (stats.where === 'memory') ledger.inMemory.set(1, { cause: stats.cause ?? 'chosen' });
    ledger.memoryRecords.set(stats.memory.records);
    ledger.memoryBytes.set(stats.memory.bytes);
    const seconds = Math.max(1, (performance.now() - started) / 1000);
    // A rate of the first moments says nothing of a day.
    if (seconds >= 30) ledger.perDay.set(((stats.produced - startedWith) / seconds) * DAY_S);
    const bytes = bytesWritten();
    if (bytes === undefined) return;
    raise(written.total, bytes);
    written.perDay.set(Math.round((bytes / Math.max(1, process.uptime())) * DAY_S));
  });
  return {
    all: metrics,
    polls: metrics.counter('ndt_polls_total', 'Polls of a router, by result'),
    pollSeconds: metrics.histogram('ndt_poll_duration_seconds', 'Duration of a poll, from the tick to the record in the outbox'),
    skipped: metrics.counter('ndt_polls_skipped_total', 'Polls left out because the one before took too long'),
    noRate: metrics.counter('ndt_intervals_without_rate_total', 'Intervals that gave no processed record, by reason'),
    wraps: metrics.counter('ndt_counter_wraps_total', '32-bit counters that passed their end'),
    counterEvents: metrics.counter(
      'ndt_counter_events_total',
      'What counters did beside counting, by router and event: reset, wrap, glitch, vanished, appeared, recreated, reboot',
    ),
    sendSeconds: metrics.histogram('ndt_uplink_send_duration_seconds', 'Time from sending a batch to its confirmation'),
    sent: metrics.counter('ndt_uplink_records_total', 'Records confirmed, by lane: fresh, backlog, or all in one'),
    sendErrors: metrics.counter('ndt_uplink_errors_total', 'Batches that have to be sent again, by reason'),
    connected: metrics.gauge('ndt_uplink_connected', '1 when the receiving side was reached last time'),
    clockSteps: metrics.counter('ndt_clock_steps_total', 'Steps of the wall clock, told from the clock that only counts on, by direction'),
  };
}

function raise(counter: Counter, to: number, labels = {}): void {
  counter.inc(labels, to - counter.get(labels));
}

/** Bytes that this process had the kernel write to disk, without what was taken back before it got there. */
export function bytesWritten(): number | undefined {
  try {
    const text = readFileSync('/proc/self/io', 'utf8');
    const value = (name: string) => Number(new RegExp(`^${name}: (\\d+)`, 'm').exec(text)?.[1] ?? Number.NaN);
    const bytes = value('write_bytes') - value('cancelled_write_bytes');
    return Number.isFinite(bytes) ? Math.max(0, bytes) : undefined;
  } catch {
    return undefined;
  }
}
