/** A real Apache Kafka broker as a process of a test's own: killed, paused and started again as the test wants. */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { type BrokerSpec, brokerLog, brokerServes, formatBroker, type Properties, spawnBroker } from '../../scripts/kafka/broker.ts';
import { findProgram } from '../../scripts/programs.ts';
import { freePort } from '../ports.ts';
import { until } from '../until.ts';

/** A broker that runs elsewhere, for tests that only need one to be there: `NDT_TEST_KAFKA=host:port`. */
export const externalKafka: string | undefined = process.env.NDT_TEST_KAFKA || undefined;
/** Whether a broker of our own can be started. */
export const canStartKafka: boolean = findProgram('java') !== undefined && findProgram('mvn') !== undefined;
/** Whether there is a broker to test against at all. */
export const hasKafka: boolean = canStartKafka || externalKafka !== undefined;
/** For names of tests that are skipped. */
export const NEEDS_KAFKA = hasKafka ? '' : ' (skipped: needs Java 17 and Maven, or NDT_TEST_KAFKA=host:port)';
export const NEEDS_OWN_KAFKA = canStartKafka ? '' : ' (skipped: needs Java 17 and Maven)';

export interface KafkaOptions {
  port?: number;
  properties?: Properties;
  /** SCRAM users: `SCRAM-SHA-256=[name=alice,password=secret]`. */
  scram?: readonly string[];
  /** Transactions as in Kafka before 4.0 are 1, the newest of it when missing. */
  transactionVersion?: number;
  /** Kept when given; a temporary one, gone with `stop`, otherwise. */
  dir?: string;
}

export interface Kafka {
  /** `127.0.0.1:port` */
  bootstrap: string;
  port: number;
  dir: string;
  readonly pid: number;
  /** Ends it cleanly; its data stays. */
  halt(): Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill9(): Promise<void>;
  /** Starts it on its data and port, after `halt` or `kill9`; resolves when it serves. */
  restart(): Promise<void>;
  sigstop(): void;
  sigcont(): void;
  /** On its first listener, which must take us without a password. */
  deleteTopic(topic: string): Promise<void>;
  /** Ends it and deletes its data. */
  stop(): Promise<void>;
}

export async function startKafka(options: KafkaOptions = {}): Promise<Kafka> {
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'ndt-kafka-'));
  const port = options.port ?? (await freePort());
  const controllerPort = await freePort();
  const spec: BrokerSpec = {
    dir,
    port,
    controllerPort,
    ...(options.properties === undefined ? {} : { properties: fill(options.properties, port, controllerPort) }),
    ...(options.scram === undefined ? {} : { scram: options.scram }),
    ...(options.transactionVersion === undefined ? {} : { features: [`transaction.version=${options.transactionVersion}`] }),
  };
  let child: ChildProcess | undefined;
  const kill = () => child?.kill('SIGKILL');
  // No orphan may stay behind where the test's process ends early.
  process.on('exit', kill);

  const start = async () => {
    const from = sizeOf(brokerLog(dir));
    const started = await spawnBroker(spec);
    child = started;
    await brokerServes(spec, started, from);
  };
  const end = async (signal: NodeJS.Signals) => {
    const running = child;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const ended = new Promise((resolve) => running.once('exit', resolve));
    running.kill(signal);
    await ended;
  };
  const kafka: Kafka = {
    bootstrap: `127.0.0.1:${port}`,
    port,
    dir,
    get pid() {
      return child?.pid ?? 0;
    },
    halt: () => end('SIGTERM'),
    kill9: () => end('SIGKILL'),
    restart: start,
    sigstop: () => void child?.kill('SIGSTOP'),
    sigcont: () => void child?.kill('SIGCONT'),
    deleteTopic: (topic) => deleteTopic(`127.0.0.1:${port}`, topic),
    stop: async () => {
      await end('SIGKILL');
      process.off('exit', kill);
      if (options.dir === undefined) rmSync(dir, { recursive: true, force: true });
    },
  };
  try {
    await formatBroker(spec);
    await start();
  } catch (error) {
    await kafka.stop();
    throw error;
  }
  return kafka;
}

async function deleteTopic(bootstrap: string, topic: string): Promise<void> {
  const admin = new kafkajs.Kafka({ brokers: [bootstrap], logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    await admin.deleteTopics({ topics: [topic] });
    await until(async () => !(await admin.listTopics()).includes(topic), `the topic ${topic} to be gone`);
  } finally {
    await admin.disconnect();
  }
}

/** `{port}` in a property is the port of the clients' listener, `{controller}` that of the controller's. */
function fill(properties: Properties, port: number, controllerPort: number): Properties {
  const filled = (value: string) => value.replaceAll('{port}', String(port)).replaceAll('{controller}', String(controllerPort));
  return Object.fromEntries(Object.entries(properties).map(([name, value]) => [name, typeof value === 'string' ? filled(value) : value]));
}

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}
