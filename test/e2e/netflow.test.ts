import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { EmbeddedBus } from '../../common/bus-embedded.ts';
import { OnKafka, readCommitted } from '../kafka-programs.ts';
import { hasKcat, NEEDS_KCAT, produce } from '../kcat.ts';
import { expectExactlyOnceOverKills, flowOf } from '../netflow-kills.ts';
import { freePort } from '../ports.ts';
import { Running, runOnce } from '../programs.ts';
import { canStartKafka, type Kafka, NEEDS_OWN_KAFKA, startKafka } from '../real/kafka.ts';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

const flow = (number: number) =>
  JSON.stringify({
    SamplerAddress: '192.0.2.1',
    SrcAddr: '10.0.0.1',
    DstAddr: '10.0.0.2',
    SrcPort: 1,
    DstPort: 2,
    Proto: 17,
    BytesIn: number,
  });

it('the role netflow on the embedded bus, over a kill -9: what the filter would print, each once', async () => {
  const dir = tempDir();
  const port = await freePort();
  const config = join(dir, 'ndt.json');
  writeFileSync(config, JSON.stringify({ data_dir: 'data', log: { format: 'json' }, aggregator: { roles: ['netflow'], http: { port } } }));
  const start = async () => {
    const running = new Running('aggregator', ['run', '--config', config]);
    onTestFinished(async () => void (await running.stop()));
    await running.says('aggregator runs');
    return running;
  };
  const first = await start();
  const bus = new EmbeddedBus({ file: join(dir, 'data/aggregator/bus.db') });
  onTestFinished(() => bus.close());
  const read = (topic: string) => {
    const id = bus.log.topics().find(({ name }) => name === topic)?.id;
    return id === undefined ? [] : bus.log.read(id, topic, 0, 10_000);
  };
  const lines = Array.from({ length: 2000 }, (_, i) => (i === 700 ? '{"SrcAddr":"10.0.0.1"}' : flow(i)));
  for (let i = 0; i < lines.length; i += 100) {
    await bus.append(lines.slice(i, i + 100).map((line) => ({ topic: 'flows', key: 'r1', headers: {}, value: Buffer.from(line) })));
    if (i !== 1000) continue;
    await first.kill9();
    await start();
  }
  await until(() => read('netflow-output').length + read('netflow-errors').length >= lines.length, 'a record for each flow');
  const filtered = runOnce('aggregator', ['netflow'], { input: `${lines.join('\n')}\n` });
  expect(read('netflow-output').map(({ value }) => value.toString())).toEqual(filtered.stdout.trim().split('\n'));
  expect(read('netflow-errors').map(({ headers, value }) => ({ headers, value: value.toString() }))).toEqual([
    { headers: { 'ndt-reason': 'no destination address (DstAddr)', 'ndt-origin': 'flows' }, value: lines[700] },
  ]);
  expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).toBe(200);
}, 60_000);

describe.skipIf(!canStartKafka || !hasKcat)(`the role netflow on Apache Kafka, as a process${NEEDS_OWN_KAFKA}${NEEDS_KCAT}`, () => {
  let kafka: Kafka;
  beforeAll(async () => {
    kafka = await startKafka();
  }, 180_000);
  afterAll(() => kafka.stop());

  it('flows of an outside producer come out normalised for an outside reader; what is none goes to netflow-errors', async () => {
    const on = new OnKafka(tempDir(), kafka.bootstrap, {});
    onTestFinished(() => on.stop());
    const role = await on.start('aggregator', 'role', { aggregator: { roles: ['netflow'] } });
    await produce(kafka.bootstrap, 'flows', [
      { key: '192.0.2.1', value: flow(1) },
      { key: '192.0.2.1', value: 'no flow' },
      { key: '192.0.2.1', value: flow(2) },
    ]);
    const out = await until(
      async () => {
        const records = await readCommitted(kafka.bootstrap, 'netflow-output');
        return records.length >= 2 && records;
      },
      `the records; ${role.log.slice(-1000)}`,
    );
    expect(out.map(({ key, headers, value }) => ({ key, headers, bytes: flowOf(value)['bytes-in'] }))).toEqual(
      [1, 2].map((bytes) => ({ key: '192.0.2.1', headers: {}, bytes })),
    );
    expect(await readCommitted(kafka.bootstrap, 'netflow-errors')).toEqual([
      expect.objectContaining({
        key: '192.0.2.1',
        value: 'no flow',
        headers: { 'ndt-reason': expect.stringMatching(/./), 'ndt-origin': 'flows' },
      }),
    ]);
    const metrics = await (await fetch(`${role.url}/metrics`)).text();
    for (const line of [
      'ndt_netflow_flows_total{result="normalised"} 2',
      'ndt_netflow_flows_total{result="bad"} 1',
      'ndt_netflow_records_total 2',
      'ndt_bus_lag_messages{group="ndt-netflow"} 0',
    ])
      expect(metrics.split('\n')).toContain(line);
    expect((await role.stop()).code).toBe(0);
  }, 60_000);

  it('kill -9 at random, 3 rounds: every flow exactly once', async () => {
    expect(await expectExactlyOnceOverKills(tempDir(), kafka.bootstrap, 'short', { rounds: 3, processes: 1 })).toBeGreaterThan(100);
  }, 180_000);
});
