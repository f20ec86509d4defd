import { expect, it } from 'vitest';
import { HEADER } from '../common/bus.ts';
import { loadConfig } from '../common/config.ts';
import { Metrics } from '../common/metrics.ts';
import { parseRecord, printRecord, type TelemetryRecord } from '../common/record.ts';
import { delivered, recordWith } from '../test/telemetry.ts';
import { RatesStage } from './rates.ts';

const T = 1_745_233_620;

/** A reading at a time [s] at which as many packets of 100 bytes had come. */
function raw(second: number, packets: number, router = 'r1'): TelemetryRecord {
  const { input_ml_metrics: _, metrics = [], ...record } = recordWith({ router, at: (T + second) * 1_000_000, latency: null });
  const [bytes, counted] = [packets * 100, packets].map((value, i) => ({
    ...(metrics[i] ?? { name: '', description: '', type: '' }),
    values: [{ labels: [{ name: 'device', value: 'eth2' }], value: String(value) }],
  }));
  return { ...record, metrics: bytes === undefined || counted === undefined ? [] : [bytes, counted] };
}

it('makes a dead letter of what it cannot use, and goes on with the rest of the batch', () => {
  const metrics = new Metrics();
  const stage = new RatesStage(loadConfig(undefined, {}), metrics);
  const deep = printRecord(raw(1, 1010)).replace(/}$/, `,"further":${'['.repeat(20_000)}${']'.repeat(20_000)}}`);
  const { append = [], state } = stage.handle([
    delivered('TD_r1', printRecord(raw(0, 1000))),
    delivered('TD_r1', 'junk'),
    delivered('TD_r1', deep),
    delivered('TD_r1', printRecord(raw(2, 1030))),
  ]);
  expect(append.map(({ topic, headers }) => [topic, headers[HEADER.reason], headers[HEADER.origin]])).toEqual([
    ['ndt.dead-letters', expect.stringContaining('not JSON'), 'TD_r1'],
    ['ndt.dead-letters', 'nested too deeply to be written', 'TD_r1'],
    ['TP_r1', undefined, undefined],
  ]);
  expect(append[1]?.value.toString()).toBe(deep);
  // Its counters were good all the same: the next rate is that of the second since.
  const text = append[2]?.value.toString() ?? '';
  expect(
    parseRecord(text, 'processed')
      .input_ml_metrics?.map(({ value }) => value)
      .slice(0, 2),
  ).toEqual([20, 100]);
  expect(JSON.parse(String(state?.get('r1')))).toMatchObject({ epoch: `${T + 2}.000`, devices: { eth2: { packets: '1030' } } });
  expect(metrics.print()).toContain('\nndt_rates_dead_letters_total 2\n');
});
