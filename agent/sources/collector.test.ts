import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { routerWith, sourceOptionsWith } from '../../test/router.ts';
import { serve } from '../../test/serve.ts';
import { SourceError, type SourceOptions } from '../source.ts';
import { CollectorSource } from './collector.ts';

const signal = new AbortController().signal;

const device = (name: string, value: string) => ({ labels: [{ name: 'device', value: name }], value });
const BYTES = {
  name: 'node_network_receive_bytes_total',
  description: 'Network device statistic receive_bytes.',
  type: 'counter',
  values: [device('eth2', '2.434326851e+09'), device('lo', '1'), device('eth0', '7')],
};
const PACKETS = {
  name: 'node_network_receive_packets_total',
  description: 'Network device statistic receive_packets.',
  type: 'counter',
  values: [device('eth2', '2.040682e+06'), device('lo', '1'), device('eth0', '1')],
};
const LOAD = { name: 'node_load1', description: '1m load average.', type: 'gauge', values: [{ labels: [], value: '0.25' }] };

/** What the seed's collector answers: the raw record without what its producer adds. */
const COLLECTED = { node_exporter: 'r1:9100', epoch_timestamp: '1745233635.2172275', metrics: [LOAD, BYTES, PACKETS] };

async function sourceFor(
  answer: unknown,
  settings: Parameters<typeof routerWith>[0] = {},
  options: Partial<SourceOptions> = {},
): Promise<CollectorSource> {
  const { url } = await serve((_, response) => response.end(typeof answer === 'string' ? answer : JSON.stringify(answer)));
  const source = new CollectorSource(
    routerWith({ source: 'collector', url: `${url}/metrics/r1_9100.json`, ...settings }),
    sourceOptionsWith(options),
  );
  onTestFinished(() => source.close());
  return source;
}

async function failureOf(answer: unknown, settings: Parameters<typeof routerWith>[0] = {}): Promise<SourceError> {
  const source = await sourceFor(answer, settings);
  const error: unknown = await source.poll(signal).catch((reason: unknown) => reason);
  if (error instanceof SourceError) return error;
  throw new Error(`expected a SourceError, got ${String(error)}`);
}

describe('CollectorSource', () => {
  test('a poll gives wanted families of monitored interfaces at the record’s own time', async () => {
    const source = await sourceFor(COLLECTED, { interfaces: ['eth2', 'eth7'] });
    const before = process.hrtime.bigint();
    const sample = await source.poll(signal);
    expect(sample).toMatchObject({ readAtMicros: 1_745_233_635_217_227, interfaces: ['eth2'], missing: ['eth7'], testMetrics: false });
    expect(sample.monotonicNs).toBeGreaterThan(before);
    expect(sample.families).toEqual([
      { ...BYTES, values: [device('eth2', '2.434326851e+09')] },
      { ...PACKETS, values: [device('eth2', '2.040682e+06')] },
    ]);
  });

  test('the seed’s raw record is one', async () => {
    const seed = readFileSync(join(import.meta.dirname, '../../test/fixtures/records/seed-raw.json'), 'utf8');
    const sample = await (await sourceFor(seed)).poll(signal);
    expect(sample.interfaces).toEqual(['eth2']);
    expect(sample.families).toEqual((JSON.parse(seed) as { metrics: unknown }).metrics);
  });

  test('a collection gives all families', async () => {
    const { families, interfaces, readAtMicros } = await (await sourceFor(COLLECTED)).collect(signal);
    expect(families).toEqual([LOAD, BYTES, PACKETS]);
    expect(interfaces).toEqual(['eth2', 'eth0']);
    expect(readAtMicros).toBe(1_745_233_635_217_227);
  });

  test('what no reading needs may be missing or wrong', async () => {
    const metrics = [null, { name: 'broken', values: 7 }, { name: BYTES.name, values: BYTES.values }, PACKETS];
    const sample = await (await sourceFor({ epoch_timestamp: 1745233635.5, flag_debug_params: 'yes', interfaces: 7, metrics })).poll(
      signal,
    );
    expect(sample.readAtMicros).toBe(1_745_233_635_500_000);
    expect(sample.families[0]).toMatchObject({ name: BYTES.name, description: '', type: 'untyped' });
    expect(sample.interfaces).toEqual(['eth2', 'eth0']);
  });

  test.each<[string, unknown, string]>([
    ['HTML', '<!doctype html><title>x</title>', 'answers HTML instead of JSON: '],
    ['an exporter’s page', '# HELP node_load1 1m load average.\nnode_load1 1\n', 'answers metrics as text instead of JSON: '],
    ['nothing', '', 'answers nothing at all: '],
    ['broken JSON', JSON.stringify(COLLECTED).slice(0, 200), 'answers broken JSON ('],
    ['a list', [COLLECTED], 'answers JSON that is no raw record (expected an object): '],
    ['no time', { ...COLLECTED, epoch_timestamp: undefined }, '(epoch_timestamp: expected text, got nothing)'],
    [
      'a bad time',
      { ...COLLECTED, epoch_timestamp: 'yesterday' },
      '(epoch_timestamp: expected Unix seconds as text ("1745233635.21"), got "yesterday")',
    ],
    ['no metrics', { ...COLLECTED, metrics: undefined }, '(metrics: expected a list, got nothing)'],
    [
      'a number for a value',
      { ...COLLECTED, metrics: [LOAD, { ...BYTES, values: [{ labels: [], value: 5 }] }] },
      '(metrics[1].values[0].value: expected text, got number 5)',
    ],
    [
      'no labels',
      { ...COLLECTED, metrics: [{ ...BYTES, values: [{ value: '5' }] }] },
      '(metrics[0].values[0].labels: expected a list, got nothing)',
    ],
  ])('%s is refused', async (_, answer, message) => {
    const error = await failureOf(answer);
    expect(error.reason).toBe('not_metrics');
    expect(error.message).toMatch(/^r1: http:\/\/127\.0\.0\.1:\d+\/metrics\/r1_9100\.json answers /);
    expect(error.message).toContain(message);
  });

  test('no wanted family, no monitored interface', async () => {
    expect(await failureOf({ ...COLLECTED, metrics: [LOAD] })).toMatchObject({
      reason: 'not_metrics',
      message: expect.stringContaining('has none of the families'),
    });
    expect(await failureOf(COLLECTED, { interfaces: ['wan*'] })).toMatchObject({
      reason: 'no_interface',
      message: expect.stringContaining('it has eth2, lo, eth0'),
    });
  });

  test('a status names what to look at', async () => {
    const { url } = await serve((_, response) => response.writeHead(404).end('not here'));
    const source = new CollectorSource(routerWith({ url }), sourceOptionsWith());
    onTestFinished(() => source.close());
    await expect(source.poll(signal)).rejects.toThrow(
      'answers 404 Not Found ("not here"): is the path right? does the collector know this router under this name?',
    );
  });

  test('an address that is none is a fault of the configuration', () => {
    expect(() => new CollectorSource(routerWith({ url: 'ftp://x' }), sourceOptionsWith())).toThrow(
      'router r1: "collector_url" ("ftp://x") is not an address',
    );
    expect(() => new CollectorSource(routerWith({ url: 'http://edge:100%safe@c:8080/' }), sourceOptionsWith())).toThrow(
      'router r1: "collector_url" ("http://edge:***@c:8080/") is not an address: in its login, % is written %25',
    );
  });
});
