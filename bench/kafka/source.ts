/** Records to measure with, and a way to show them to a reader that waits: all at once, at a known moment. */
import { readFileSync } from 'node:fs';
import { HEADER, type Message } from '../../common/bus.ts';
import { Cluster } from '../../common/kafka/cluster.ts';
import { kafkaOptions } from '../../common/kafka/settings.ts';
import { TopicMaker } from '../../common/kafka/topic-maker.ts';
import { epochText, parseRecord, printRecord } from '../../common/record.ts';
import { configWith, testLog } from '../../test/kafka-bus.ts';
import { recording } from '../../test/recording.ts';
import { byTopicOf, clientOf } from './bare-kafkajs.ts';

export const ROUTERS = 7;
const SEED = new URL('../../test/fixtures/records/seed-processed.json', import.meta.url);

/** Processed records of the seed's size, about 1 KB, in the order in which routers are polled; of router i on `topics[i]`. */
export function processedMessages(topics: readonly string[], count: number): Message[] {
  const record = parseRecord(readFileSync(SEED, 'utf8'), 'processed');
  return Array.from({ length: count }, (_, i) => {
    const router = `r${i % topics.length}`;
    const round = Math.floor(i / topics.length);
    const text = printRecord({
      ...record,
      node_exporter: `${router}:9100`,
      epoch_timestamp: epochText((1_745_233_000 + round) * 1e6 + ((i * 7919) % 1_000_000)),
      metrics: (record.metrics ?? []).map((family) => ({
        ...family,
        values: family.values.map((value) => ({ ...value, value: `${((2_434_326_851 + i * 73_211) / 1e9).toFixed(9)}e+09` })),
      })),
    });
    return messageOf(topics[i % topics.length] ?? '', router, text, i);
  });
}

/** Raw records with counters that grow, each router's in order. */
export function rawMessages(topics: readonly string[], count: number): Message[] {
  const routers = topics.map((_, i) => recording(`r${i}`, Math.ceil(count / topics.length)));
  return Array.from({ length: count }, (_, i) => {
    const at = i % topics.length;
    return messageOf(topics[at] ?? '', `r${at}`, routers[at]?.[Math.floor(i / topics.length)] ?? '', i);
  });
}

function messageOf(topic: string, key: string, text: string, i: number): Message {
  const headers = { [HEADER.agent]: 'bench', [HEADER.boot]: '0199c2d4-7e10-7000-8000-1c697a3b2f41', [HEADER.seq]: String(i + 1) };
  return { topic, key, headers, value: Buffer.from(text) };
}

export class Source {
  private readonly producer;
  private readonly cluster: Cluster;
  private readonly maker: TopicMaker;
  private made = 0;

  private constructor(bootstrap: string) {
    const client = clientOf(bootstrap);
    this.producer = client.producer({
      transactionalId: 'bench-source',
      idempotent: true,
      maxInFlightRequests: 1,
      transactionTimeout: 60_000,
    });
    const options = kafkaOptions(configWith(bootstrap), 'bench');
    this.cluster = new Cluster(options.client, testLog);
    this.maker = new TopicMaker(this.cluster, options.topics);
  }

  static async open(bootstrap: string): Promise<Source> {
    const source = new Source(bootstrap);
    await source.producer.connect();
    return source;
  }

  /** New topics of one partition. */
  async topics(names: readonly string[]): Promise<void> {
    await this.maker.ensure(names);
  }

  /** New ones, for as many routers. */
  async fresh(): Promise<string[]> {
    this.made += 1;
    const names = Array.from({ length: ROUTERS }, (_, i) => `bench.${this.made}.r${i}`);
    await this.topics(names);
    return names;
  }

  /** Writes messages that nobody sees before the function that comes back is called. */
  async hide(messages: readonly Message[]): Promise<() => Promise<void>> {
    const transaction = await this.producer.transaction();
    for (let i = 0; i < messages.length; i += 5000) await transaction.sendBatch(byTopicOf(messages.slice(i, i + 5000)));
    return () => transaction.commit();
  }

  async show(messages: readonly Message[]): Promise<void> {
    await (await this.hide(messages))();
  }

  async close(): Promise<void> {
    await this.producer.disconnect();
    this.cluster.close();
  }
}
