/** Three brokers that share the work, each its own controller too: one of them may go at any time. */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { type BrokerSpec, brokerLog, brokerServes, formatBroker, newClusterId, spawnBroker } from '../../scripts/kafka/broker.ts';
import { freePort } from '../ports.ts';

export interface KafkaCluster {
  /** `127.0.0.1:port` of each broker. */
  brokers: string[];
  /** The index in `brokers` of who leads the first partition of a topic; undefined while nobody does, or where there is no such topic. */
  leaderOf(topic: string): Promise<number | undefined>;
  kill9(broker: number): Promise<void>;
  /** Resolves when it serves again. */
  restart(broker: number): Promise<void>;
  stop(): Promise<void>;
}

const BROKERS = 3;
const START_MS = 90_000;

export async function startKafkaCluster(): Promise<KafkaCluster> {
  const dir = mkdtempSync(join(tmpdir(), 'ndt-cluster-'));
  const nodes = [];
  for (let id = 1; id <= BROKERS; id += 1) nodes.push({ id, port: await freePort(), controllerPort: await freePort() });
  const voters = nodes.map(({ id, controllerPort }) => `${id}@127.0.0.1:${controllerPort}`).join();
  const clusterId = newClusterId();
  const specs = nodes.map(({ id, port, controllerPort }): BrokerSpec => {
    const copies = { 'default.replication.factor': 3, 'min.insync.replicas': 2, 'offsets.topic.replication.factor': 3 };
    const transactions = { 'transaction.state.log.replication.factor': 3, 'transaction.state.log.min.isr': 2 };
    const properties = { 'node.id': id, 'controller.quorum.voters': voters, ...copies, ...transactions };
    return { dir: join(dir, String(id)), port, controllerPort, clusterId, heapMb: 384, properties };
  });
  const children = new Map<number, ChildProcess>();
  const killAll = () => {
    for (const child of children.values()) child.kill('SIGKILL');
  };
  process.on('exit', killAll);

  const specOf = (broker: number): BrokerSpec => {
    const spec = specs[broker];
    if (spec === undefined) throw new Error(`there is no broker ${broker}`);
    return spec;
  };
  const restart = async (broker: number) => {
    const spec = specOf(broker);
    const from = statSync(brokerLog(spec.dir), { throwIfNoEntry: false })?.size ?? 0;
    const child = await spawnBroker(spec);
    children.set(broker, child);
    await brokerServes(spec, child, from, START_MS);
  };
  const kill9 = async (broker: number) => {
    const child = children.get(broker);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  };
  const brokers = specs.map(({ port }) => `127.0.0.1:${port}`);
  const cluster: KafkaCluster = {
    brokers,
    kill9,
    restart,
    leaderOf: async (topic) => {
      const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
      await admin.connect();
      try {
        const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
        const leader = topics[0]?.partitions[0]?.leader;
        return leader === undefined || leader < 1 ? undefined : leader - 1;
      } catch {
        return undefined;
      } finally {
        await admin.disconnect();
      }
    },
    stop: async () => {
      await Promise.all(specs.map((_, broker) => kill9(broker)));
      process.off('exit', killAll);
      rmSync(dir, { recursive: true, force: true });
    },
  };
  try {
    for (const spec of specs) await formatBroker(spec);
    // None of them serves before most of them are there.
    await Promise.all(specs.map((_, broker) => restart(broker)));
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  return cluster;
}
