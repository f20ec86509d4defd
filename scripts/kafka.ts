/** `npm run kafka -- start|stop|status|topics`: a real Apache Kafka broker on this machine, without Docker, for trying and for tests. */
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { type Args, type Command, main, textOption } from '../common/cli.ts';
import { codeOf, EXIT, messageOf, NdtError } from '../common/errors.ts';
import { Cluster } from '../common/kafka/cluster.ts';
import { boundsOf, keyOf } from '../common/kafka/positions.ts';
import { brokerLog, brokerServes, formatBroker, type Properties, spawnBroker, takesConnections } from './kafka/broker.ts';
import { KAFKA_DIR } from './kafka/jars.ts';
import { freePort } from './start/child.ts';

interface Started {
  pid: number;
  port: number;
  /** The process's start, from /proc: a number given to another process later is not taken for ours. */
  began: string;
}

const PORT = 9092;
const STOP_MS = 20_000;
const DATA = { data: { type: 'string', value: 'DIR', help: 'folder of the broker’s data, .ndt/kafka/data when missing' } } as const;

const commands: Command[] = [
  {
    name: 'start',
    summary: 'start the broker, or say that it runs; prints its address when it serves',
    options: {
      ...DATA,
      port: { type: 'string', value: 'PORT', help: `port of 127.0.0.1 to listen on, ${PORT} or the next free one when missing` },
      set: { type: 'string', value: 'NAME=VALUE', help: 'set a property of the broker; separate several by commas' },
    },
    run: start,
  },
  { name: 'stop', summary: 'stop it; its data stays', options: DATA, run: stop },
  { name: 'status', summary: 'say whether it runs', options: DATA, run: status },
  { name: 'topics', summary: 'list the topics: partitions, and records that they hold', options: DATA, run: topics },
];

async function start(args: Args): Promise<number> {
  const dir = dataOf(args);
  const running = findRunning(dir);
  if (running !== undefined) {
    process.stdout.write(`Kafka runs already (process ${running.pid}): 127.0.0.1:${running.port}\n`);
    return EXIT.ok;
  }
  const given = textOption(args, 'port');
  const port = given === undefined ? await freePort(PORT) : portOf(given);
  if (await takesConnections(port))
    throw new NdtError('CANNOT_CREATE', `something listens on port ${port} already: stop it, or give another port with --port`);
  const controllerPort = await freePort(port < 65_535 ? port + 1 : PORT + 1);
  const spec = { dir, port, controllerPort, properties: propertiesOf(textOption(args, 'set')), detached: true };
  await formatBroker(spec);
  const from = statSync(brokerLog(dir), { throwIfNoEntry: false })?.size ?? 0;
  const child = await spawnBroker(spec);
  const pid = child.pid ?? 0;
  try {
    await brokerServes(spec, child, from);
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
  const started: Started = { pid, port, began: beganAt(pid) };
  writeFileSync(stateFile(dir), JSON.stringify(started));
  process.stdout.write(`Kafka serves at 127.0.0.1:${port} (process ${pid}, data and log in ${dir}); npm run kafka -- stop ends it\n`);
  return EXIT.ok;
}

async function stop(args: Args): Promise<number> {
  const dir = dataOf(args);
  const running = findRunning(dir);
  if (running === undefined) {
    process.stdout.write('Kafka does not run\n');
    return EXIT.ok;
  }
  process.kill(running.pid, 'SIGTERM');
  for (const end = performance.now() + STOP_MS; findRunning(dir) !== undefined; await sleep(50)) {
    if (performance.now() > end) process.kill(running.pid, 'SIGKILL');
  }
  rmSync(stateFile(dir), { force: true });
  process.stdout.write('Kafka has stopped; its data stays for the next start\n');
  return EXIT.ok;
}

async function status(args: Args): Promise<number> {
  const running = findRunning(dataOf(args));
  const serves = running !== undefined && (await takesConnections(running.port));
  process.stdout.write(
    running === undefined
      ? 'Kafka does not run\n'
      : `Kafka runs (process ${running.pid}) and ${serves ? 'serves' : 'does not take connections'}: 127.0.0.1:${running.port}\n`,
  );
  return serves ? EXIT.ok : EXIT.unavailable;
}

async function topics(args: Args): Promise<number> {
  const running = findRunning(dataOf(args));
  if (running === undefined) throw new NdtError('UNAVAILABLE', 'Kafka does not run: npm run kafka -- start');
  const settings = {
    brokers: [{ host: '127.0.0.1', port: running.port }],
    clientId: 'ndt-kafka',
    connectTimeoutMs: 5000,
    requestTimeoutMs: 10_000,
    tls: () => undefined,
    sasl: () => undefined,
    encrypted: false,
    certified: false,
    user: undefined,
  };
  const cluster = new Cluster(settings, pino({ level: 'silent' }));
  try {
    const found = [...(await cluster.refresh())].sort(([a], [b]) => (a < b ? -1 : 1));
    const partitions = found.flatMap(([topic, info]) => info.partitions.map(({ partition }) => ({ topic, partition })));
    const [starts, ends] = [await boundsOf(cluster, 'start', partitions), await boundsOf(cluster, 'end', partitions)];
    const width = Math.max(5, ...found.map(([topic]) => topic.length));
    process.stdout.write(`${'topic'.padEnd(width)}  partitions  offsets\n`);
    for (const [topic, info] of found) {
      const held = info.partitions.reduce(
        (sum, { partition }) => sum + (ends.get(keyOf({ topic, partition })) ?? 0) - (starts.get(keyOf({ topic, partition })) ?? 0),
        0,
      );
      process.stdout.write(`${topic.padEnd(width)}  ${String(info.partitions.length).padStart(10)}  ${String(held).padStart(7)}\n`);
    }
  } finally {
    cluster.close();
  }
  return EXIT.ok;
}

function dataOf(args: Args): string {
  return resolve(textOption(args, 'data') ?? join(KAFKA_DIR, 'data'));
}

function stateFile(dir: string): string {
  return join(dir, 'broker.json');
}

function findRunning(dir: string): Started | undefined {
  const file = stateFile(dir);
  if (!existsSync(file)) return undefined;
  try {
    const started = JSON.parse(readFileSync(file, 'utf8')) as Started;
    process.kill(started.pid, 0);
    return beganAt(started.pid) === started.began ? started : undefined;
  } catch (error) {
    if (codeOf(error) === 'ESRCH' || error instanceof SyntaxError) return undefined;
    throw new NdtError('IO', `cannot tell whether the broker of ${dir} runs (${messageOf(error)}): look for its process by hand`);
  }
}

/** When a process began, in clock ticks; empty where that cannot be told, or where it is only waiting to be cleared away. */
function beganAt(pid: number): string {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
    return fields[0] === 'Z' ? 'ended' : (fields[19] ?? '');
  } catch {
    return '';
  }
}

function portOf(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw new NdtError('USAGE', `--port ${text}: expected a number from 1 to 65535`);
  return port;
}

function propertiesOf(text: string | undefined): Properties {
  const pairs = (text ?? '').split(',').filter((pair) => pair !== '');
  return Object.fromEntries(
    pairs.map((pair) => {
      const equals = pair.indexOf('=');
      if (equals < 1) throw new NdtError('USAGE', `--set ${pair}: expected NAME=VALUE, such as num.partitions=3`);
      return [pair.slice(0, equals), pair.slice(equals + 1)];
    }),
  );
}

await main({
  name: 'ndt-kafka',
  summary: 'a real Apache Kafka broker on this machine, for trying and for tests',
  commands,
  examples: [
    'npm run kafka -- start',
    'npm run kafka -- start --port 9192 --set num.partitions=3',
    'npm run kafka -- topics',
    'npm run kafka -- stop',
  ],
});
