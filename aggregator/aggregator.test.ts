import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { EmbeddedBus } from '../common/bus-embedded.ts';
import { RECEIVED_BYTES, RECEIVED_PACKETS } from '../common/record.ts';
import { loadSettings, testLog } from '../test/mqtt-rig.ts';
import { tempDir } from '../test/tempdir.ts';
import { until } from '../test/until.ts';
import { startAggregator } from './aggregator.ts';

/** A raw record of a router that counts one packet a second [Unix s]. */
function raw(second: number): string {
  const values = [{ labels: [{ name: 'device', value: 'eth0' }], value: String(second) }];
  return JSON.stringify({
    node_exporter: 'r1:9100',
    epoch_timestamp: `${second}.0`,
    experiment_id: '1',
    interfaces: ['eth0'],
    flag_debug_params: false,
    metrics: [RECEIVED_BYTES, RECEIVED_PACKETS].map((name) => ({ name, description: '', type: 'counter', values })),
  });
}

it('changes nothing on a reload that is refused', async () => {
  const dir = tempDir();
  const load = (multiplier: number, users: object) =>
    loadSettings(dir, { data_dir: 'data', multiplier, aggregator: { http: { port: 0 }, mqtt: { port: 0, users } } });
  const { log } = await testLog();
  const users = { a1: { password: 'x' } };
  const aggregator = await startAggregator(load(1, users), log);
  onTestFinished(() => aggregator.stop());
  const bus = new EmbeddedBus({ file: join(dir, 'data/aggregator/bus.db') });
  onTestFinished(() => bus.close());
  const rate = async () => {
    const { routers } = (await (await fetch(`${aggregator.url}/api/v1/routers`)).json()) as {
      routers: Array<{ latest: { rate: number } }>;
    };
    return routers[0]?.latest.rate;
  };
  const send = (second: number) => bus.append([{ topic: 'TD_r1', key: 'r1', headers: {}, value: Buffer.from(raw(second)) }]);
  const now = Math.floor(Date.now() / 1000) - 10;

  await expect(aggregator.reload?.(load(2000, { a1: { password_file: 'missing' } }))).rejects.toThrow(
    /password_file: cannot read .*missing/,
  );
  await send(now);
  await send(now + 1);
  expect(await until(rate, 'a rate')).toBe(1);

  await aggregator.reload?.(load(2000, users));
  await send(now + 2);
  await until(async () => (await rate()) === 2000, 'the new multiplier');
});
