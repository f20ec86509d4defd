/**
 * kill -9 of the NetFlow role on Kafka, over and over, while flows come in from outside. Every flow carries a number, so that a loss, a
 * doubling and a change of order all show.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs from 'kafkajs';
import { expect } from 'vitest';
import { OnKafka, readCommitted } from './kafka-programs.ts';
import { produce } from './kcat.ts';
import type { Running } from './programs.ts';
import { until } from './until.ts';

const PARTITIONS = 3;
const EXPORTERS = 5;
const CHUNK = 100;

export interface Kills {
  rounds: number;
  /** Processes that share the work; one of them is killed in each round. */
  processes: number;
  /** Of the section `netflow`; the topics are the test's own. */
  netflow?: { aggregate?: number; lateness?: number; bidirectional?: boolean };
}

interface Flow {
  'bytes-in': number;
  aggregate?: { flows: number };
  'pkts-in': number;
}

type Role = Running & { url: string };

/** @returns how many flows it were */
export async function expectExactlyOnceOverKills(dir: string, bootstrap: string, name: string, kills: Kills): Promise<number> {
  const topics = { input: `flows-${name}`, output: `out-${name}`, errors: `errors-${name}` };
  await makeTopic(bootstrap, topics.input);
  const on = new OnKafka(dir, bootstrap, { kafka: { transaction_timeout: 6 }, netflow: { ...topics, ...kills.netflow } });
  const start = (number: number) => on.start('aggregator', `${name}-${number}`, { aggregator: { roles: ['netflow'] } });
  const ending = new AbortController();
  try {
    const roles: Role[] = [];
    for (let i = 0; i < kills.processes; i += 1) roles.push(await start(i));
    const sender = send(bootstrap, topics.input, ending.signal);
    for (let round = 1; round <= kills.rounds; round += 1) {
      await until(
        async () => (await Promise.all(roles.map(handled))).some((n) => n > 0),
        `round ${round}: flows to be handled; ${roles.map(({ log }) => log.slice(-500)).join('\n')}`,
        60_000,
      );
      // At any point of reading, handling and committing.
      await sleep(Math.random() * 700);
      const victim = Math.floor(Math.random() * roles.length);
      await roles[victim]?.kill9();
      roles[victim] = await start(victim);
    }
    ending.abort();
    const sent = await sender;
    await expectAll(bootstrap, topics.output, sent, kills.netflow?.aggregate !== undefined);
    expect(await readCommitted(bootstrap, topics.errors)).toEqual([]);
    return sent;
  } finally {
    ending.abort();
    await on.stop();
  }
}

/** Sends numbered flows of several exporters, keyed by them, until told to end; then one of each that ends all windows. Returns how many. */
async function send(bootstrap: string, topic: string, signal: AbortSignal): Promise<number> {
  let sent = 0;
  const line = (atS: number, exporter = sent % EXPORTERS) => {
    sent += 1;
    const value = {
      ...{ SamplerAddress: `192.0.2.${exporter}`, SrcAddr: '10.0.0.1', DstAddr: '10.0.0.2', SrcPort: 1000 + (sent % 7), DstPort: 80 },
      ...{ Proto: 6, Etype: 2048, TimeFlowStart: atS, TimeFlowEnd: atS, BytesIn: sent, PacketsIn: 1 },
    };
    return { key: `192.0.2.${exporter}`, value: JSON.stringify(value) };
  };
  while (!signal.aborted) {
    const now = Math.floor(Date.now() / 1000);
    await produce(
      bootstrap,
      topic,
      Array.from({ length: CHUNK }, () => line(now)),
    );
    await sleep(20);
  }
  // Not an hour: what is later than that counts as one of a wrong clock.
  const after = Math.floor(Date.now() / 1000) + 3000;
  await produce(
    bootstrap,
    topic,
    Array.from({ length: EXPORTERS }, (_, exporter) => line(after, exporter)),
  );
  return sent;
}

async function expectAll(bootstrap: string, topic: string, sent: number, summedUp: boolean): Promise<void> {
  // Where flows are summed up, the last one of each exporter is still held.
  const wanted = summedUp ? sent - EXPORTERS : sent;
  const seen = await until(
    async () => {
      const records = (await readCommitted(bootstrap, topic)).map(({ key, value }) => ({ key, flow: flowOf(value) }));
      return records.reduce((sum, { flow }) => sum + flow['pkts-in'], 0) >= wanted && records;
    },
    `${wanted} flows on ${topic}`,
    90_000,
  );
  if (summedUp) {
    // Each flow is in exactly one record: counters, and what they are of, add up.
    expect(seen.reduce((sum, { flow }) => sum + flow['pkts-in'], 0)).toBe(wanted);
    expect(seen.reduce((sum, { flow }) => sum + (flow.aggregate?.flows ?? 0), 0)).toBe(wanted);
    expect(seen.reduce((sum, { flow }) => sum + flow['bytes-in'], 0)).toBe((wanted * (wanted + 1)) / 2);
    return;
  }
  const numbers = Array.from({ length: wanted }, (_, i) => i + 1);
  for (const [key, mine] of Map.groupBy(seen, ({ key }) => key)) {
    const got = mine.map(({ flow }) => flow['bytes-in']);
    expect(got, key).toEqual([...got].sort((a, b) => a - b));
  }
  expect(seen.map(({ flow }) => flow['bytes-in']).sort((a, b) => a - b)).toEqual(numbers);
}

export function flowOf(value: string): Flow & { [leaf: string]: unknown } {
  const record = JSON.parse(value) as {
    'netflow-v9:netflow': { 'export-packet': { 'flow-data-record': [Flow & { [leaf: string]: unknown }] } };
  };
  return record['netflow-v9:netflow']['export-packet']['flow-data-record'][0];
}

/** Flows that this process has handled and committed, as it tells itself. */
async function handled({ url }: Role): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^ndt_kafka_stage_messages_total\{group="ndt-netflow"\} (\d+)/m.exec(text)?.[1] ?? 0);
}

async function makeTopic(bootstrap: string, topic: string): Promise<void> {
  const admin = new kafkajs.Kafka({ brokers: [bootstrap], logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS }], waitForLeaders: true });
  } finally {
    await admin.disconnect();
  }
}
