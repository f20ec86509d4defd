import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type Loaded, loadConfig } from '../common/config.ts';
import { serve } from '../test/serve.ts';
import { tempDir } from '../test/tempdir.ts';
import { CollectorSource } from './sources/collector.ts';
import { NodeExporterSource } from './sources/node-exporter.ts';
import { ProcfsSource } from './sources/procfs.ts';
import { TestMetricsSource } from './sources/test-metrics.ts';
import { createSource } from './sources.ts';

const signal = new AbortController().signal;

function load(config: object): Loaded {
  const dir = tempDir();
  writeFileSync(join(dir, 'test_metrics_tm.json'), '{"period_0": {"total_bytes": "1", "total_packets": "1"}}');
  const file = join(dir, 'ndt.json');
  writeFileSync(file, JSON.stringify(config));
  return loadConfig(file, {});
}

test('every kind of router gets its kind of source', () => {
  const loaded = load({
    routers: [
      { here: {}, ne: { url: 'http://ne:9100/metrics' } },
      { col: { collector_url: 'http://c/metrics/col_9100.json', topic: 'T', interfaces: ['eth0'], test_metrics: false } },
      { tm: { collector_url: 'http://c/metrics/tm_9100.json', topic: 'T', interfaces: ['eth0'], test_metrics: true } },
    ],
  });
  const made = loaded.routers.map((router) => createSource(router, loaded));
  expect(made.map((source) => source.name)).toEqual(['here', 'ne', 'col', 'tm']);
  expect(made.map((source) => source.constructor)).toEqual([ProcfsSource, NodeExporterSource, CollectorSource, TestMetricsSource]);
  for (const source of made) source.close();
});

test('the settings of the file hold: families, excluded interfaces, time, size', async () => {
  let answer = '';
  const { url } = await serve((_, response) => void (answer === '' || response.end(answer)));
  const loaded = load({
    families: ['node_network_transmit_errs_total'],
    exclude_interfaces: ['e*'],
    agent: { timeout: 0.2, max_response_bytes: 1024 },
    routers: [{ r1: { url } }],
  });
  const router = loaded.routers[0];
  if (router === undefined) throw new Error('no router');
  const source = createSource(router, loaded);
  onTestFinished(() => source.close());
  await expect(source.poll(signal)).rejects.toThrow('within 0.2 s (agent.timeout)');
  answer = `${'# x\n'.repeat(257)}`;
  await expect(source.poll(signal)).rejects.toThrow('larger than 1 KiB');
  answer =
    'node_network_transmit_errs_total{device="e0"} 1\nnode_network_transmit_errs_total{device="lo"} 2\nnode_network_receive_errs_total{device="lo"} 3\n';
  const { families, interfaces } = await source.poll(signal);
  expect(interfaces).toEqual(['lo']);
  expect(families.map((family) => family.values.map((value) => value.value))).toEqual([['2']]);
});
