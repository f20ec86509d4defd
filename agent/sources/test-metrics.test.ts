import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { NdtError } from '../../common/errors.ts';
import { countersOf, rate } from '../../common/rates.ts';
import { epochText, RECEIVED_BYTES } from '../../common/record.ts';
import { routerWith, sourceOptionsWith } from '../../test/router.ts';
import { tempDir } from '../../test/tempdir.ts';
import type { SourceOptions } from '../source.ts';
import { TestMetricsSource } from './test-metrics.ts';

const signal = new AbortController().signal;

function fileWith(content: unknown): string {
  const file = join(tempDir(), 'test_metrics_r1.json');
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

function sourceOf(testMetricsFile: string, options: Partial<SourceOptions> = {}): TestMetricsSource {
  return new TestMetricsSource(routerWith({ source: 'test-metrics', testMetricsFile, interfaces: ['eth2'] }), sourceOptionsWith(options));
}

const SEED = {
  period_0: { total_bytes: '62500000', total_packets: '52083' },
  period_10: { total_bytes: '187500000', total_packets: '156250' },
  period_2: { total_bytes: '125000000', total_packets: '104166' },
};

describe('TestMetricsSource', () => {
  test('one period per poll in the order of their numbers, then the first again', async () => {
    const source = sourceOf(fileWith(SEED));
    const polled: string[] = [];
    for (let i = 0; i < 4; i += 1) {
      const sample = await source.poll(signal);
      expect(sample).toMatchObject({ interfaces: ['eth0'], missing: [], testMetrics: true });
      polled.push(countersOf(sample.families)?.eth0?.bytes ?? '');
    }
    expect(polled).toEqual(['62500000', '125000000', '187500000', '62500000']);
  });

  test('its families are an exporter’s', async () => {
    const { families } = await sourceOf(fileWith(SEED)).poll(signal);
    expect(families).toEqual([
      {
        name: 'node_network_receive_bytes_total',
        description: 'Network device statistic receive_bytes.',
        type: 'counter',
        values: [{ labels: [{ name: 'device', value: 'eth0' }], value: '62500000' }],
      },
      {
        name: 'node_network_receive_packets_total',
        description: 'Network device statistic receive_packets.',
        type: 'counter',
        values: [{ labels: [{ name: 'device', value: 'eth0' }], value: '52083' }],
      },
    ]);
  });

  test('the rates are those of the file, and the start from the beginning is a reset', async () => {
    let second = 0;
    const clock = { nowMicros: () => second * 1e6, monotonicNs: () => BigInt(second) * 1_000_000_000n };
    const source = sourceOf(fileWith(SEED), { clock });
    const params = { maxThroughputMbps: 100, multiplier: 1, pollingIntervalS: 5 };
    const read = async () => {
      second += 5;
      const { readAtMicros, families } = await source.poll(signal);
      return { epoch: epochText(readAtMicros), devices: countersOf(families) };
    };
    const first = rate(undefined, await read(), params);
    const next = rate(first.baseline, await read(), params);
    expect(next).toMatchObject({ rates: { occupation: 100, packetRate: 52083 / 5, averageLength: 62500000 / 52083 } });
    await read();
    expect(rate(next.baseline, await read(), params)).toMatchObject({ noRate: 'reset' });
  });

  test('only wanted families; a collection is the period polled last', async () => {
    const source = sourceOf(fileWith(SEED), { families: new Set([RECEIVED_BYTES]) });
    expect((await source.poll(signal)).families).toHaveLength(1);
    await source.poll(signal);
    const { families } = await source.collect(signal);
    expect(countersOf(families)?.eth0).toEqual({ bytes: '125000000', packets: '104166' });
  });

  test.each<[string, unknown, string]>([
    ['no JSON', '{"period_0": ', 'not valid JSON ('],
    ['a list', [], 'expected an object of periods, such as {"period_0": {"total_bytes": "62500000", "total_packets": "52083"}}'],
    ['nothing in it', {}, 'expected at least one period'],
    ['another name', { ...SEED, first: {} }, 'first: expected a name such as period_0'],
    ['a period that is no object', { period_0: 5 }, 'period_0: expected an object'],
    [
      'a missing field',
      { ...SEED, period_3: { total_bytes: '1' } },
      'period_3.total_packets: expected a whole number as text, such as "62500000", got nothing',
    ],
    [
      'a number',
      { period_0: { total_bytes: 1, total_packets: '1' } },
      'period_0.total_bytes: expected a whole number as text, such as "62500000", got 1',
    ],
    [
      'a word',
      { period_0: { total_bytes: '1', total_packets: '-1' } },
      'period_0.total_packets: expected a whole number as text, such as "62500000", got "-1"',
    ],
  ])('%s stops the start, with file and field', (_, content, message) => {
    const file = fileWith(content);
    const error = thrownBy(() => sourceOf(file));
    expect(error.code).toBe('CONFIG');
    expect(error.message.startsWith(`${file}: ${message}`), error.message).toBe(true);
  });

  test('no file stops the start', () => {
    const file = join(tempDir(), 'test_metrics_r1.json');
    expect(thrownBy(() => sourceOf(file)).message).toMatch(
      /test_metrics_r1\.json: there is no such file: a router with test_metrics needs it/,
    );
  });
});

function thrownBy(action: () => unknown): NdtError {
  try {
    action();
  } catch (error) {
    if (error instanceof NdtError) return error;
    throw error;
  }
  throw new Error('expected an error');
}
