/** A router and a source's options with ordinary settings, for tests to vary. */
import type { SourceOptions } from '../agent/source.ts';
import { systemClock } from '../agent/source.ts';
import type { Router } from '../common/config.ts';
import { RECEIVED_BYTES, RECEIVED_PACKETS } from '../common/record.ts';

export function routerWith(settings: Partial<Router> = {}): Router {
  return {
    name: 'r1',
    nodeExporter: 'r1:9100',
    source: 'node-exporter',
    url: undefined,
    procfsRoot: '/proc',
    testMetricsFile: '',
    interfaces: ['*'],
    rawTopic: 'TD_r1',
    type: undefined,
    maxThroughputMbps: 100,
    throughputConfigured: true,
    multiplier: 1,
    pollingIntervalS: 5,
    ...settings,
  };
}

export function sourceOptionsWith(options: Partial<SourceOptions> = {}): SourceOptions {
  return {
    families: new Set([RECEIVED_BYTES, RECEIVED_PACKETS]),
    excludeInterfaces: ['lo', 'veth*', 'docker*', 'br-*'],
    timeoutMs: 5000,
    maxResponseBytes: 1_048_576,
    clock: systemClock,
    ...options,
  };
}
