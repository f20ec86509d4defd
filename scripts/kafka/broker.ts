/**
 * One Apache Kafka broker as a process: a KRaft node that is its own controller, on loopback. `npm run kafka` keeps one running,
 * tests start and stop theirs.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { NdtError } from '../../common/errors.ts';
import { ensureJars } from './jars.ts';

export type Properties = { [name: string]: string | number | boolean };

export interface BrokerSpec {
  /** Where data, configuration and log are. */
  dir: string;
  /** Of the listener that clients use, on 127.0.0.1. */
  port: number;
  controllerPort: number;
  /** Broker properties on top of ours, `listeners` among them. */
  properties?: Properties;
  /** SCRAM users to make when the data is formatted: `SCRAM-SHA-256=[name=alice,password=secret]`. */
  scram?: readonly string[];
  /** What its brokers agree on, where it is not the newest: `transaction.version=1`. */
  features?: readonly string[];
  /** Of the cluster that it shall be part of; a new one when missing. */
  clusterId?: string;
  heapMb?: number;
  /** The broker runs on when we end. */
  detached?: boolean;
}

const FORMAT_MS = 60_000;

/** Quick to start, kind to a small machine, and everything on the one node. */
function propertiesOf({ dir, port, controllerPort, properties = {} }: BrokerSpec): Properties {
  return {
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
    'controller.listener.names': 'CONTROLLER',
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'inter.broker.listener.name': 'PLAINTEXT',
    'log.dirs': join(dir, 'log'),
    'offsets.topic.num.partitions': 1,
    'offsets.topic.replication.factor': 1,
    'transaction.state.log.num.partitions': 1,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.min.isr': 1,
    'share.coordinator.state.topic.replication.factor': 1,
    'share.coordinator.state.topic.min.isr': 1,
    'group.initial.rebalance.delay.ms': 0,
    // A killed broker comes back only when its old registration has run out.
    'broker.session.timeout.ms': 2000,
    'broker.heartbeat.interval.ms': 400,
    'num.network.threads': 2,
    'num.io.threads': 4,
    'background.threads': 2,
    'log.cleaner.dedupe.buffer.size': 4 * 1024 * 1024,
    ...properties,
  };
}

export function newClusterId(): string {
  // As an argument it must not look like an option.
  let id = '-';
  while (id.startsWith('-')) id = randomBytes(16).toString('base64url');
  return id;
}

/** Makes the data folder where there is none yet. @throws NdtError where the properties are refused */
export async function formatBroker(spec: BrokerSpec): Promise<void> {
  mkdirSync(spec.dir, { recursive: true });
  const file = join(spec.dir, 'server.properties');
  const lines = Object.entries(propertiesOf(spec)).map(
    ([name, value]) => `${name}=${String(value).replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}`,
  );
  writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 });
  if (existsSync(join(spec.dir, 'log', 'meta.properties'))) return;
  const { java, classPath } = await ensureJars();
  const id = spec.clusterId ?? newClusterId();
  const users = (spec.scram ?? []).flatMap((user) => ['--add-scram', user]);
  const features = (spec.features ?? []).flatMap((feature) => ['--feature', feature]);
  const format = ['format', '-t', id, '-c', file, ...users, ...features];
  try {
    await promisify(execFile)(java, ['-cp', classPath, '-Xmx128m', '-XX:TieredStopAtLevel=1', 'kafka.tools.StorageTool', ...format], {
      timeout: FORMAT_MS,
    });
  } catch (error) {
    rmSync(join(spec.dir, 'log'), { recursive: true, force: true });
    const said = error instanceof Error && 'stderr' in error ? `${error.stderr}` : String(error);
    throw new NdtError('UNAVAILABLE', `Apache Kafka refuses its configuration ${file}: ${lastLines(said)}`);
  }
}

/** Starts it on formatted data; does not wait until it serves. */
export async function spawnBroker(spec: BrokerSpec): Promise<ChildProcess> {
  const { java, classPath } = await ensureJars();
  const log = openSync(brokerLog(spec.dir), 'a');
  try {
    const memory = [`-Xmx${spec.heapMb ?? 512}m`, '-Xms64m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'];
    const child = spawn(java, ['-cp', classPath, ...memory, 'kafka.Kafka', join(spec.dir, 'server.properties')], {
      cwd: spec.dir,
      detached: spec.detached === true,
      stdio: ['ignore', log, log],
    });
    if (spec.detached === true) child.unref();
    return child;
  } finally {
    closeSync(log);
  }
}

/** Waits until it says itself that it serves. @throws NdtError with the end of its log where it ended instead */
export async function brokerServes(spec: BrokerSpec, child: ChildProcess, from: number, timeoutMs = 60_000): Promise<void> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const said = readFileSync(brokerLog(spec.dir)).subarray(from).toString();
    if (said.includes('Kafka Server started') && (await takesConnections(spec.port))) return;
    const ended = child.exitCode !== null || child.signalCode !== null;
    if (ended)
      throw new NdtError('UNAVAILABLE', `the broker ended instead of serving: ${lastLines(said)} (its log: ${brokerLog(spec.dir)})`);
    if (performance.now() > end)
      throw new NdtError('UNAVAILABLE', `the broker does not serve after ${timeoutMs / 1000} s: look into its log ${brokerLog(spec.dir)}`);
    await sleep(25);
  }
}

export function brokerLog(dir: string): string {
  return join(dir, 'broker.log');
}

function lastLines(text: string): string {
  const lines = text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('\tat '));
  const telling = lines.filter((line) => /Exception|ERROR|FATAL|Invalid|already in use/.test(line));
  return (telling.at(-1) ?? lines.at(-1) ?? 'it said nothing').trim();
}

export function takesConnections(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  return new Promise<boolean>((resolve) => {
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
  }).finally(() => socket.destroy());
}
