/**
 * `npm start`: the whole pipeline on this machine's own interfaces. One aggregator (embedded broker, bus, ML, page) and one agent, each
 * a process of its own, talking over MQTT as they would over a network; and a live view of what flows.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Args, durationMs, main, textOption } from '../common/cli.ts';
import { EXIT, NdtError } from '../common/errors.ts';
import { Child, freePort } from './start/child.ts';
import { ensureConfig } from './start/config.ts';
import { follow } from './start/follow.ts';
import { accountsNow, summarise } from './start/summary.ts';
import { View } from './start/view.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

async function start(args: Args): Promise<number> {
  const limit = textOption(args, 'for');
  const limitMs = limit === undefined ? undefined : durationMs(limit, 'for');
  const dir = resolve(textOption(args, 'data') ?? `${root}.ndt/data`);
  try {
    mkdirSync(dir, { recursive: true });
  } catch (error) {
    throw new NdtError('CANNOT_CREATE', `cannot make the data folder ${dir}: give another one with --data DIR`, { cause: error });
  }
  const config = ensureConfig(dir);
  const [httpPort, mqttPort, agentPort] = [await freePort(9480), await freePort(1883), await freePort(9470)];
  const url = `http://127.0.0.1:${httpPort}`;
  const env = {
    ...process.env,
    NDT_DATA_DIR: dir,
    NDT_AGGREGATOR_HTTP_PORT: String(httpPort),
    NDT_AGGREGATOR_MQTT_PORT: String(mqttPort),
    NDT_AGENT_HTTP_PORT: String(agentPort),
    NDT_MQTT_URL: `mqtt://127.0.0.1:${mqttPort}`,
  };
  const interrupted = Promise.withResolvers<string>();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupted.resolve(signal));

  const onKafka = args.values.kafka === true;
  const broker = onKafka ? await startBroker(`${dir}/kafka`) : undefined;
  if (broker !== undefined) {
    Object.assign(env, {
      NDT_BUS: 'kafka',
      NDT_AGENT_UPLINK: 'kafka',
      NDT_KAFKA_BROKERS: broker.address,
      NDT_AGGREGATOR_ROLES: 'rates,store,api',
      NDT_ML_HTTP_PORT: String(await freePort(9490)),
    });
  }

  const view = new View(process.stdout);
  const aggregator = new Child('aggregator', `${root}aggregator/main.ts`, config.file, env, dir);
  const ml = onKafka ? new Child('ml', `${root}ml/main.ts`, config.file, env, dir) : undefined;
  let agent: Child | undefined;
  try {
    await aggregator.ready(`${url}/readyz`);
    agent = new Child('agent', `${root}agent/main.ts`, config.file, env, dir);
    view.intro([
      `ndt watches ${config.describe} of this machine once a second`,
      `page      ${url}/`,
      `API       ${url}/api/v1/openapi.json`,
      `data      ${dir}`,
      `settings  ${config.file} (a change takes effect at once)`,
      ...(broker === undefined ? [] : [`Kafka     ${broker.address}: agent, aggregator and ML are processes of their own on it`]),
      limitMs === undefined ? 'Ctrl-C ends it; nothing is lost, and the next start goes on from there' : `ends by itself after ${limit}`,
    ]);
    const before = await accountsNow(url);
    await agent.ready(`http://127.0.0.1:${agentPort}/healthz`);
    const following = follow(`${url}/api/v1/stream`, (figures) => view.show(figures));
    const ended = await Promise.race([
      interrupted.promise.then(() => 'asked' as const),
      ...(limitMs === undefined ? [] : [new Promise<'time'>((done) => setTimeout(() => done('time'), limitMs))]),
      aggregator.ended.then(() => aggregator),
      agent.ended.then(() => agent),
      ...(ml === undefined ? [] : [ml.ended.then(() => ml)]),
    ]);
    view.close();
    // The agent first: what it still has goes out while the aggregator is there to take it.
    await agent.stop();
    const summary = ended === aggregator ? undefined : await summarise(url, before);
    following.stop();
    await ml?.stop();
    await aggregator.stop();
    if (ended instanceof Child)
      throw new NdtError('UNAVAILABLE', `${ended.describeEnd()}\nNothing accepted is lost; start again to go on.`);
    process.stdout.write(`${summary}\n`);
    return EXIT.ok;
  } finally {
    view.close();
    await agent?.stop();
    await ml?.stop();
    await aggregator.stop();
    broker?.stop();
  }
}

/** A real broker of Apache Kafka on this machine, its data beside the rest. */
async function startBroker(dir: string): Promise<{ address: string; stop: () => void }> {
  const kafka = (command: string) =>
    spawnSync(process.execPath, [`${root}scripts/kafka.ts`, command, '--data', dir], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  process.stdout.write('starting Apache Kafka (the first time its jars are fetched from Maven Central)\n');
  const { status, stdout } = kafka('start');
  const address = /(127\.0\.0\.1:\d+)/.exec(stdout)?.[1];
  if (status !== EXIT.ok || address === undefined)
    throw new NdtError('UNAVAILABLE', 'Apache Kafka could not be started: see above; without --kafka nothing of it is needed');
  return { address, stop: () => void kafka('stop') };
}

await main(
  {
    name: 'npm start --',
    summary: 'the whole pipeline on this machine’s own interfaces',
    commands: [
      {
        name: 'run',
        summary: 'watch this machine and show what flows',
        options: {
          for: { type: 'string', value: 'TIME', help: 'end after this time (20s, 5m, 1h) with a summary; without it, at Ctrl-C' },
          kafka: {
            type: 'boolean',
            help: 'the same on a real Apache Kafka: agent, aggregator and ML as processes of their own (needs Java 17 and Maven)',
          },
          data: { type: 'string', value: 'DIR', help: 'where everything is kept (.ndt/data in the project)' },
        },
        run: start,
      },
    ],
    examples: ['npm start', 'npm start -- --for 20s', 'npm start -- --kafka'],
  },
  process.argv.length > 2 ? process.argv.slice(2) : ['run'],
);
