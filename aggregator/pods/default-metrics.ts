/** The metrics asked for unless the configuration has a list of its own: what cAdvisor, inside the kubelet, tells of containers. */
import type { Config } from '../../common/schema.ts';

export type PodMetric = NonNullable<Config['pods']['metrics']>[number];

const counter = (name: string, unit: string): PodMetric => ({ name: `container_${name}`, type: 'counter', unit });
const gauge = (name: string, unit: string): PodMetric => ({ name: `container_${name}`, type: 'gauge', unit });
const loss = (direction: string): PodMetric => ({
  ...gauge(`network_${direction}_packet_loss_percentage`, 'percentage'),
  dropped: `container_network_${direction}_packets_dropped_total`,
  total: `container_network_${direction}_packets_total`,
});

/** Counters of CPU, network and file system I/O are asked for as rates; the type stays that of the metric, as in the seed. */
export const DEFAULT_METRICS: readonly PodMetric[] = [
  counter('cpu_usage_seconds_total', 'seconds'),
  counter('cpu_user_seconds_total', 'seconds'),
  counter('cpu_system_seconds_total', 'seconds'),
  counter('cpu_cfs_periods_total', 'periods'),
  counter('cpu_cfs_throttled_periods_total', 'periods'),
  counter('cpu_cfs_throttled_seconds_total', 'seconds'),
  gauge('cpu_load_average_10s', 'tasks'),
  gauge('memory_usage_bytes', 'bytes'),
  gauge('memory_working_set_bytes', 'bytes'),
  gauge('memory_rss', 'bytes'),
  gauge('memory_cache', 'bytes'),
  gauge('memory_swap', 'bytes'),
  gauge('memory_max_usage_bytes', 'bytes'),
  { ...counter('memory_failcnt', 'hits'), query: 'average' },
  counter('network_receive_bytes_total', 'bytes'),
  counter('network_receive_packets_total', 'packets'),
  counter('network_receive_packets_dropped_total', 'packets'),
  counter('network_receive_errors_total', 'errors'),
  counter('network_transmit_bytes_total', 'bytes'),
  counter('network_transmit_packets_total', 'packets'),
  counter('network_transmit_packets_dropped_total', 'packets'),
  counter('network_transmit_errors_total', 'errors'),
  counter('fs_reads_bytes_total', 'bytes'),
  counter('fs_reads_total', 'reads'),
  counter('fs_writes_bytes_total', 'bytes'),
  counter('fs_writes_total', 'writes'),
  gauge('fs_usage_bytes', 'bytes'),
  gauge('fs_limit_bytes', 'bytes'),
  loss('receive'),
  loss('transmit'),
];
