/** The role `pods` as real processes, asking a server of the test's own that has a value for each time and knows how to misbehave. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { PodMessage } from '../../aggregator/pods/messages.ts';
import { EmbeddedBus } from '../../common/bus-embedded.ts';
import { OnKafka, readCommitted } from '../kafka-programs.ts';
import { hasKcat, NEEDS_KCAT } from '../kcat.ts';
import { CONTAINER, matrix, servePrometheus } from '../pods.ts';
import { freePort } from '../ports.ts';
import { Running } from '../programs.ts';
import { canStartKafka, type Kafka, NEEDS_OWN_KAFKA, startKafka } from '../real/kafka.ts';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

const TOPIC = 'nfvi.ncsrd.kubernetes';
const CONTAINERS = [CONTAINER, 'f'.repeat(64)];
const METRICS = [
  { name: 'a', type: 'gauge', unit: 'bytes' },
  { name: 'b', type: 'counter', unit: 'packets' },
];
const STEP_MS = 100;
const SHORT = { interval: 0.1, step: '100ms', window: '200ms', delay: 0, metrics: METRICS };

/** A Prometheus that can be broken. */
async function server() {
  const state = { broken: false };
  const { url } = await servePrometheus((one, _, response) => {
    if (state.broken) response.statusCode = 503;
    return matrix(one, CONTAINERS);
  });
  return { url, state };
}

/** The role alone on the embedded bus, and the topics of that. */
async function embedded() {
  const dir = tempDir();
  const file = join(dir, 'ndt.json');
  const http = { port: await freePort() };
  const configure = (pods: object) =>
    writeFileSync(file, JSON.stringify({ data_dir: 'data', log: { format: 'json' }, aggregator: { roles: ['pods'], http }, pods }));
  const start = async (env: NodeJS.ProcessEnv = {}) => {
    const running = new Running('aggregator', ['run', '--config', file], env);
    onTestFinished(async () => void (await running.stop()));
    await running.says('aggregator runs');
    return running;
  };
  let bus: EmbeddedBus | undefined;
  onTestFinished(async () => await bus?.close());
  const read = (topic: string): PodMessage[] => {
    bus ??= new EmbeddedBus({ file: join(dir, 'data/aggregator/bus.db') });
    const id = bus.log.topics().find(({ name }) => name === topic)?.id;
    return id === undefined ? [] : bus.log.read(id, topic, 0, 100_000).map(({ value }) => JSON.parse(value.toString()) as PodMessage);
  };
  return { configure, start, read, file, url: `http://127.0.0.1:${http.port}` };
}

/**
 * Checks that each container and metric has a value at every time since the first, and the same one where a time comes again.
 * @returns how many messages of one container and metric began with a time that had come before
 */
function repeatsAmong(messages: PodMessage[]): number {
  const found = new Map<string, { values: Map<number, string>; newest: number; repeats: number }>();
  for (const { container_id, metric_type, data } of messages) {
    const name = `${container_id} ${metric_type}`;
    const series = found.get(name) ?? { values: new Map<number, string>(), newest: 0, repeats: 0 };
    found.set(name, series);
    const times = data.map(({ timestamp }) => Date.parse(timestamp));
    if (times[0]! <= series.newest) series.repeats += 1;
    data.forEach(({ value }, i) => {
      expect(series.values.get(times[i]!) ?? value).toBe(value);
      series.values.set(times[i]!, value);
      series.newest = Math.max(series.newest, times[i]!);
    });
  }
  expect(found.size).toBe(CONTAINERS.length * METRICS.length);
  for (const { values } of found.values()) {
    const times = [...values.keys()].sort((a, b) => a - b);
    expect(times).toEqual(times.map((_, i) => times[0]! + i * STEP_MS));
  }
  return Math.max(...[...found.values()].map(({ repeats }) => repeats));
}

it('the role runs beside its metrics and readiness, and goes over to a new configuration', async () => {
  const { url: prometheus, state } = await server();
  const { configure, start, read, url } = await embedded();
  configure({ ...SHORT, prometheus: { url: 'http://127.0.0.1:1' } });
  const { port } = new URL(prometheus);
  const role = await start({
    PROMETHEUS_HOST: '127.0.0.1',
    PROMETHEUS_PORT: port,
    SCHEDULER_SECONDS: '0.2',
    KAFKA_KUBERNETES_TOPIC: 'seed',
  });
  await until(() => read('seed').length >= 8, 'messages on the topic of the seed’s variable');
  const metrics = await (await fetch(`${url}/metrics`)).text();
  expect(metrics).toMatch(/^ndt_pods_rounds_total\{result="ok"\} [1-9]/m);
  const ready = async () => await (await fetch(`${url}/readyz`)).json();
  expect(await ready()).toEqual({ ready: true, reasons: [] });
  state.broken = true;
  await until(async () => (await fetch(`${url}/readyz`)).status === 503, 'readiness to end');
  expect(await ready()).toEqual({ ready: false, reasons: [expect.stringMatching(/the last round got nothing from Prometheus/)] });
  state.broken = false;
  await until(async () => (await fetch(`${url}/readyz`)).ok, 'readiness to come back');
  expect(repeatsAmong(read('seed'))).toBe(0);

  configure({ ...SHORT, window: '1s', container_pattern: '(' });
  await role.says('container_pattern: \\"(\\" is no regular expression');
  configure({ ...SHORT, window: '200ms', metrics: [{ name: 'c' }] });
  await role.says('configuration reloaded');
  await until(() => read('seed').some(({ metric_type }) => metric_type === 'c'), 'the new metric');
  expect(await role.stop()).toEqual({ code: 0, signal: null });
}, 60_000);

it('of two on one data folder the second refuses to start', async () => {
  const { url: prometheus } = await server();
  const { configure, start, file } = await embedded();
  configure({ ...SHORT, prometheus: { url: prometheus }, http: { port: 0 } });
  await start();
  const second = new Running('aggregator', ['pods', '--config', file]);
  expect(await second.exited).toEqual({ code: 69, signal: null });
  expect(second.log).toMatch(/another ndt pods is running on .*: stop it, or give this one a data folder of its own/);
}, 60_000);

it('kill -9 at random, 8 times: no time is lost, and what comes again is the same', async () => {
  const { url: prometheus } = await server();
  const { configure, start, read } = await embedded();
  configure({ ...SHORT, prometheus: { url: prometheus } });
  for (let round = 0; round < 8; round += 1) {
    const before = round === 0 ? 0 : read(TOPIC).length;
    const role = await start();
    await until(() => read(TOPIC).length > before, 'messages');
    // Any moment of a round will do, so that over the rounds all of them come.
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 2 * STEP_MS));
    await role.kill9();
  }
  const last = await start();
  const killed = read(TOPIC).length;
  await until(() => read(TOPIC).length > killed + 8, 'messages after the last kill');
  await last.stop();
  // A kill can hit one batch at most between the bus and the state file.
  expect(repeatsAmong(read(TOPIC))).toBeLessThanOrEqual(8);
}, 120_000);

describe.skipIf(!canStartKafka || !hasKcat)(`on Apache Kafka${NEEDS_OWN_KAFKA}${NEEDS_KCAT}`, () => {
  let kafka: Kafka;
  beforeAll(async () => {
    kafka = await startKafka();
  }, 180_000);
  afterAll(() => kafka.stop());

  it('the role, killed three times: an outside reader misses no time, and containers are the keys', async () => {
    const { url: prometheus } = await server();
    const on = new OnKafka(tempDir(), kafka.bootstrap, {});
    onTestFinished(() => on.stop());
    const settings = { aggregator: { roles: ['pods'] }, pods: { ...SHORT, prometheus: { url: prometheus } } };
    const came = async () => await readCommitted(kafka.bootstrap, TOPIC);
    for (let round = 0; round < 4; round += 1) {
      const before = (await came()).length;
      const role = await on.start('aggregator', 'role', settings);
      await until(async () => (await came()).length > before, 'messages');
      if (round < 3) await role.kill9();
      else expect(await role.stop()).toEqual({ code: 0, signal: null });
    }
    const records = await came();
    const messages = records.map(({ value }) => JSON.parse(value) as PodMessage);
    expect(repeatsAmong(messages)).toBeLessThanOrEqual(3);
    expect(records.map(({ key }) => key)).toEqual(messages.map(({ container_id }) => container_id));
  }, 120_000);

  it('the command, with nothing but the seed’s variables', async () => {
    const { url: prometheus } = await server();
    const [kafkaHost = '', kafkaPort = ''] = kafka.bootstrap.split(':');
    const dir = tempDir();
    const file = join(dir, 'ndt.json');
    writeFileSync(file, JSON.stringify({ data_dir: 'data', pods: { http: { port: 0 }, metrics: METRICS } }));
    const publisher = new Running('aggregator', ['pods', '--config', file], {
      DEBUG: '1',
      KAFKA_IP: kafkaHost,
      KAFKA_PORT: kafkaPort,
      KAFKA_KUBERNETES_TOPIC: 'nfvi.ncsrd2.kubernetes',
      PROMETHEUS_HOST: new URL(prometheus).hostname,
      PROMETHEUS_PORT: new URL(prometheus).port,
      PROMETHEUS_POLLING_STEP: '1s',
      SCHEDULER_SECONDS: '1',
    });
    onTestFinished(async () => void (await publisher.stop()));
    const records = await until(async () => {
      const all = await readCommitted(kafka.bootstrap, 'nfvi.ncsrd2.kubernetes');
      return all.length >= 8 && all;
    }, 'messages');
    const times = (JSON.parse(records[0]?.value ?? '') as PodMessage).data.map(({ timestamp }) => Date.parse(timestamp));
    // The last minute, a value a second.
    expect(times).toEqual(Array.from({ length: 60 }, (_, i) => times[0]! + i * 1000));
    expect(publisher.log).toContain('pods: round');
  }, 60_000);
});
