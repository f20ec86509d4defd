import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../common/config.ts';
import { DEFAULT_METRICS } from './default-metrics.ts';
import { planOf } from './plan.ts';

const dir = mkdtempSync(join(tmpdir(), 'ndt-test-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function plan(pods: object) {
  const file = join(dir, 'ndt.json');
  writeFileSync(file, JSON.stringify({ pods }));
  return planOf(loadConfig(file, {}).config.pods);
}
const queries = (pods: object) => plan(pods).metrics.map((metric) => metric.queries.map(({ text }) => text));

describe('by default', () => {
  const { metrics, ...times } = plan({});
  const query = (name: string) => metrics.find((metric) => metric.name === `container_${name}`)?.queries.map(({ text }) => text);

  it('rounds, step, window, delay and bound are the contract’s', () => {
    expect(times).toMatchObject({ intervalMs: 20_000, stepMs: 20_000, windowMs: 60_000, delayMs: 5000, maxCatchUpMs: 3_600_000 });
  });
  it('counters of CPU, network and fs I/O are asked for as rates, everything else as averages', () => {
    const rates = metrics.filter(({ queries: [{ text }] }) => text.includes('rate(')).map(({ name }) => name);
    const expected = DEFAULT_METRICS.filter(({ name, type }) => type === 'counter' && /^container_(cpu|network|fs)_/.test(name));
    const losses = DEFAULT_METRICS.filter(({ dropped }) => dropped !== undefined);
    expect(rates).toEqual([...expected, ...losses].map(({ name }) => name));
    expect(query('fs_reads_bytes_total')).toEqual(['sum by (id) (rate(container_fs_reads_bytes_total{image!=""}[1m]))']);
    expect(query('memory_failcnt')).toEqual(['sum by (id) (avg_over_time(container_memory_failcnt{image!=""}[1m]))']);
  });
  it('the losses are worked out of two answers that are asked for anyway', () => {
    const name = 'network_transmit_packet_loss_percentage';
    expect(query(name)).toEqual([
      ...(query('network_transmit_packets_dropped_total') ?? []),
      ...(query('network_transmit_packets_total') ?? []),
    ]);
    expect(metrics.find((metric) => metric.name === 'container_network_transmit_packets_total')?.queries[0].shared).toBe(true);
  });
});

it('takes templates, selector, window and label from the configuration', () => {
  expect(
    queries({
      selector: 'namespace="prod"',
      window: '5m',
      container_label: 'name',
      queries: { average: 'max by ({label}) ({metric}{{selector}})' },
      metrics: [
        { name: 'a' },
        { name: 'b', type: 'counter' },
        { name: 'c', type: 'counter', query: 'average' },
        { name: 'd', query: 'sum by ({label}) ({metric}{a="{b}"})', label: 'container_id' },
      ],
    }),
  ).toEqual([
    ['max by (name) (a{namespace="prod"})'],
    ['sum by (name) (rate(b{namespace="prod"}[5m]))'],
    ['max by (name) (c{namespace="prod"})'],
    ['sum by (container_id) (d{a="{b}"})'],
  ]);
});

it('refuses what cannot be, naming the place', () => {
  const wrong: Array<[object, RegExp]> = [
    [{ metrics: [{ name: 'a' }, { name: 'a' }] }, /pods\.metrics\[1\]: a stands in the list twice/],
    [{ metrics: [{ name: 'l', dropped: 'a' }] }, /pods\.metrics\[0\]: l needs both dropped and total/],
    [{ metrics: [{ name: 'l', dropped: 'a', total: 'b' }] }, /dropped of l is "a", expected a metric of this list/],
    [{ metrics: [{ name: 'a' }, { name: 'l', query: 'rate', dropped: 'a', total: 'a' }] }, /has a query and dropped/],
    [{ container_pattern: '(' }, /pods\.container_pattern: "\(" is no regular expression/],
    [{ step: '0s' }, /pods\.step: expected a duration/],
    [{ step: 'often' }, /pods\.step: expected text that matches/],
    [{ metrics: [] }, /pods\.metrics/],
    [{ metrics: [{ name: 'a', typ: 'gauge' }] }, /did you mean "type"/],
  ];
  for (const [pods, message] of wrong) expect(() => plan(pods)).toThrow(message);
});
