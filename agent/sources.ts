/** The source of each router, by its kind. */
import type { Loaded, Router } from '../common/config.ts';
import { type Clock, type Source, type SourceOptions, systemClock } from './source.ts';
import { CollectorSource } from './sources/collector.ts';
import { NodeExporterSource } from './sources/node-exporter.ts';
import { ProcfsSource } from './sources/procfs.ts';
import { TestMetricsSource } from './sources/test-metrics.ts';

/** @throws NdtError CONFIG when the router's settings, or its file of test metrics, are wrong */
export function createSource(router: Router, loaded: Pick<Loaded, 'config'>, clock: Clock = systemClock): Source {
  const { config } = loaded;
  const options: SourceOptions = {
    families: new Set(config.families),
    excludeInterfaces: config.exclude_interfaces,
    timeoutMs: config.agent.timeout * 1000,
    maxResponseBytes: config.agent.max_response_bytes,
    clock,
  };
  switch (router.source) {
    case 'procfs':
      return new ProcfsSource(router, options);
    case 'node-exporter':
      return new NodeExporterSource(router, options);
    case 'collector':
      return new CollectorSource(router, options);
    case 'test-metrics':
      return new TestMetricsSource(router, options);
  }
}
