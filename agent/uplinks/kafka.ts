/**
 * The uplink straight to Apache Kafka, exactly once: a batch is one transaction, and the numbers delivered so far become the position
 * of the agent's own consumer group in that same transaction (as its metadata). An agent that was killed between the commit and the
 * deletion from its outbox asks for them when it comes back, and does not send those records again. docs/decisions/kafka-uplink.md
 * has the measurements.
 *
 * Records are in the order they are given, and one transaction follows the other, so the order of a router is that of its batches.
 */
import { pino } from 'pino';
import type { Loaded } from '../../common/config.ts';
import { messageOf, NdtError } from '../../common/errors.ts';
import { BatchLimits } from '../../common/kafka/batch-limits.ts';
import { Cluster } from '../../common/kafka/cluster.ts';
import { KafkaError, RecordRefused, TransportError } from '../../common/kafka/errors.ts';
import { explain } from '../../common/kafka/explain.ts';
import { committedPositions, keyOf } from '../../common/kafka/positions.ts';
import { Producer } from '../../common/kafka/producer.ts';
import { type KafkaOptions, kafkaOptions } from '../../common/kafka/settings.ts';
import { TopicMaker } from '../../common/kafka/topic-maker.ts';
import type { Logger } from '../../common/logger.ts';
import { type TopicSet, topicsOf } from '../../common/topics.ts';
import { type Delivery, type Entry, type Uplink, UplinkError } from '../uplink.ts';
import { SeqRanges } from './ranges.ts';

export interface KafkaUplinkOptions {
  loaded: Loaded;
  agentId: string;
  log?: Logger;
}

/** Brokers take 4096 bytes of metadata unless told otherwise. */
const METADATA_CHARACTERS = 3500;
const INIT_MS = 5000;

/** What only an administrator can mend; an administrator who wants no such topic will not. */
const NOT_ALLOWED: ReadonlySet<string | undefined> = new Set([
  'TOPIC_AUTHORIZATION_FAILED',
  'CLUSTER_AUTHORIZATION_FAILED',
  'POLICY_VIOLATION',
  'INVALID_CONFIG',
  'INVALID_PARTITIONS',
  'INVALID_REPLICATION_FACTOR',
  'INVALID_TOPIC_EXCEPTION',
]);

interface Client {
  cluster: Cluster;
  maker: TopicMaker;
  producer: Producer;
  /** Whether what was delivered before is known. */
  informed: boolean;
}

export function createKafkaUplink(options: KafkaUplinkOptions): Uplink {
  return new KafkaUplink(options);
}

class KafkaUplink implements Uplink {
  connected = false;
  private readonly kafka: KafkaOptions;
  private readonly log: Logger;
  /** Transactional id and consumer group alike. */
  private readonly identity: string;
  /** The group's position is one on this topic: it is there for every agent, whatever its routers. */
  private readonly anchor: { topic: string; partition: number };
  /** Of inventories. They come again every day, and must not hold up the records where this topic is missing or not for us. */
  private readonly optional: TopicSet;
  private client: Client | undefined;
  private delivered = SeqRanges.none;
  private readonly limits = new BatchLimits();
  private last: Promise<unknown> = Promise.resolve();
  private closed = false;

  constructor({ loaded, agentId, log }: KafkaUplinkOptions) {
    this.kafka = kafkaOptions(loaded, `ndt-agent-${agentId}`);
    this.log = log ?? pino({ level: 'silent' });
    this.identity = `ndt-agent-${agentId}`;
    this.optional = topicsOf(loaded.config.topics.inventory);
    this.anchor = { topic: loaded.config.topics.notices, partition: 0 };
  }

  async send(batch: Entry[], signal: AbortSignal): Promise<Delivery> {
    // One transaction at a time: the next begins when this one is settled.
    const sending = this.last.then(() => this.sendNow(batch, signal));
    this.last = sending.catch(() => {});
    return await sending;
  }

  async close(): Promise<void> {
    this.closed = true;
    this.drop();
    await this.last;
  }

  private async sendNow(batch: Entry[], signal: AbortSignal): Promise<Delivery> {
    if (this.closed || signal.aborted) throw new UplinkError('closed', 'the uplink is closed');
    const stop = () => this.drop();
    signal.addEventListener('abort', stop, { once: true });
    try {
      const delivery = await this.deliver(batch);
      this.connected = true;
      return delivery;
    } catch (error) {
      this.connected = false;
      if (error instanceof TransportError) this.drop();
      if (this.closed || signal.aborted) throw new UplinkError('closed', 'the uplink is closed', { cause: error });
      const { reason, message } = explain(error, this.kafka.client.user);
      this.log.debug(`kafka uplink: ${messageOf(error)}`);
      throw new UplinkError(reason, message);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  private async deliver(batch: readonly Entry[]): Promise<Delivery> {
    const delivery: Delivery = { acked: [], rejected: [] };
    let left = [...batch];
    for (;;) {
      const { producer, maker } = await this.ready();
      // Committed by an attempt, or a process, that did not come to know it. Notices have no number that lasts.
      const known = (entry: Entry) => entry.seq > 0 && this.delivered.has(entry.seq);
      for (const entry of left) if (known(entry)) delivery.acked.push(entry.seq);
      left = left.filter((entry) => !known(entry));
      const refuseTopic = (topic: string, error: unknown) => {
        const reason = explain(error, this.kafka.client.user).message;
        for (const entry of left) if (entry.topic === topic) delivery.rejected.push({ seq: entry.seq, reason });
        left = left.filter((entry) => entry.topic !== topic);
      };
      for (const topic of new Set(left.map((entry) => entry.topic))) {
        if (!this.optional.matches(topic)) continue;
        try {
          await maker.ensure([topic]);
        } catch (error) {
          if (!isNotAllowed(error)) throw error;
          refuseTopic(topic, error);
        }
      }
      if (left.length === 0) return delivery;
      const next = this.delivered.with(left.flatMap(({ seq }) => (seq > 0 ? [seq] : [])));
      const position = { ...this.anchor, offset: next.highest + 1, metadata: next.encode(METADATA_CHARACTERS) };
      const messages = left.map(({ topic, key, headers, body }) => ({ topic, key, headers, value: body }));
      try {
        await producer.transaction(
          messages,
          { group: this.identity, positions: [position] },
          this.kafka.transactionTimeoutMs * 0.6,
          this.limits,
        );
      } catch (error) {
        // The right to know of a topic is not yet the right to write to it.
        const topic = error instanceof KafkaError && isNotAllowed(error) ? error.subject.topic : undefined;
        if (topic !== undefined && this.optional.matches(topic)) {
          refuseTopic(topic, error);
          continue;
        }
        if (!(error instanceof RecordRefused)) throw error;
        const culprit = error.indices.length === 1 ? left[error.indices[0] ?? -1] : undefined;
        this.limits.refused(error);
        if (culprit === undefined) continue;
        delivery.rejected.push({ seq: culprit.seq, reason: reasonOf(error, culprit) });
        left = left.filter((entry) => entry !== culprit);
        continue;
      }
      this.delivered = next;
      this.limits.taken();
      for (const { seq } of left) delivery.acked.push(seq);
      return delivery;
    }
  }

  /** A client that may begin a transaction. What was open before is settled by then, and what it delivered is known. */
  private async ready(): Promise<Client> {
    this.client ??= this.connect();
    const client = this.client;
    if (!client.producer.ready || !client.informed) {
      client.informed = false;
      await client.maker.ensure([this.anchor.topic]);
      await client.producer.init(INIT_MS);
      const positions = await committedPositions(client.cluster, this.identity, [this.anchor]);
      this.delivered = SeqRanges.decode(positions.get(keyOf(this.anchor))?.metadata ?? '');
      client.informed = true;
    }
    return client;
  }

  private connect(): Client {
    const cluster = new Cluster(this.kafka.client, this.log);
    const maker = new TopicMaker(cluster, this.kafka.topics);
    return { cluster, maker, producer: new Producer(cluster, maker, this.kafka, this.identity), informed: false };
  }

  /** Ends what is under way; the next batch begins on new connections. */
  private drop(): void {
    this.client?.cluster.close();
    this.client = undefined;
  }
}

function isNotAllowed(error: unknown): boolean {
  return (error instanceof NdtError && error.code === 'UNAVAILABLE') || (error instanceof KafkaError && NOT_ALLOWED.has(error.type));
}

function reasonOf({ type, topic }: RecordRefused, { body }: Entry): string {
  const bytes = Buffer.byteLength(body);
  if (type === 'MESSAGE_TOO_LARGE' || type === 'RECORD_LIST_TOO_LARGE')
    return `too large for the topic ${topic}: ${bytes} bytes (its max.message.bytes)`;
  return `refused by the topic ${topic} (${type})`;
}
