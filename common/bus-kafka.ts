/**
 * The bus on Apache Kafka: `Bus` over topics, consumer groups and transactions of a real cluster. kafka/consumer.ts says how a stage
 * runs on it, docs/decisions/kafka-exactly-once.md why that is exactly once.
 *
 * A group `rates` is the consumer group `ndt.rates`, its state the compacted topic `ndt.state.rates`, its transactional ids
 * `ndt.rates.0` to `.15`. Readers of what it writes must read committed records only.
 */
import type { Bus, Message, Stage } from './bus.ts';
import { HEADER } from './bus.ts';
import { Appender } from './kafka/appender.ts';
import { Cluster } from './kafka/cluster.ts';
import { GroupConsumer } from './kafka/consumer.ts';
import { explain } from './kafka/explain.ts';
import { Producer } from './kafka/producer.ts';
import type { KafkaOptions } from './kafka/settings.ts';
import { TopicMaker } from './kafka/topic-maker.ts';
import type { Logger } from './logger.ts';
import type { TopicSet } from './topics.ts';

export interface KafkaBusOptions {
  /** `kafkaOptions(loaded, 'ndt-aggregator')` */
  kafka: KafkaOptions;
  log: Logger;
  /** Where a record goes that its topic refuses, too large for it say. */
  deadLetterTopic?: string;
  /** Told what is wrong, in one line that says what to do; the same line at most once a minute. */
  onFault?: (message: string) => void;
  /** Most messages handed to a stage at once. */
  batch?: number;
}

export interface GroupStats {
  group: string;
  /** Messages that wait for this process, by topic. */
  lag: Map<string, number>;
  connected: boolean;
  batches: number;
  messages: number;
  /** Of handling and committing, all batches together. */
  seconds: number;
}

export interface KafkaBusStats {
  /** Whether a broker is connected at the moment. */
  connected: boolean;
  appended: number;
  /** Waited for appends, all together. */
  appendSeconds: number;
  /** Times that something had to be tried again. */
  faults: number;
  groups: GroupStats[];
}

const FLUSH_MS = 3000;
const TOLD_AGAIN_MS = 60_000;
/** Of a record that was refused as too large. */
const DEAD_LETTER_BYTES = 64 * 1024;
/** Of its key, and of each header [characters]. */
const DEAD_LETTER_HEADER = 4096;

export class KafkaBus implements Bus {
  private readonly options: Required<KafkaBusOptions>;
  private readonly cluster: Cluster;
  private readonly appender: Appender;
  private readonly told = new Map<string, number>();
  private readonly running = new Map<GroupConsumer, GroupStats>();
  private readonly stopping = new AbortController();
  private readonly consumers = new Set<Promise<void>>();
  private faults = 0;
  private appended = 0;
  private appendSeconds = 0;

  constructor(options: KafkaBusOptions) {
    this.options = { deadLetterTopic: 'ndt.dead-letters', onFault: () => {}, batch: 1000, ...options };
    const { kafka, log } = this.options;
    this.cluster = new Cluster(kafka.client, log);
    const maker = new TopicMaker(this.cluster, kafka.topics);
    this.appender = new Appender({
      cluster: this.cluster,
      maker,
      producer: new Producer(this.cluster, maker, kafka),
      lingerMs: kafka.lingerMs,
      onFault: (error) => this.fault(explain(error, kafka.client.user).message),
      onDone: (messages, seconds) => {
        this.appended += messages;
        this.appendSeconds += seconds;
      },
    });
  }

  /**
   * Resolves when all messages are durable, however long the brokers are away.
   * @throws NdtError DATA where a topic refuses one of them for good; the others are appended
   */
  async append(messages: Message[]): Promise<void> {
    if (messages.length > 0) await this.appender.append(messages);
  }

  async consume(group: string, topics: TopicSet, stage: Stage, signal: AbortSignal): Promise<void> {
    const { kafka, log, batch } = this.options;
    const stats: GroupStats = { group, lag: new Map(), connected: false, batches: 0, messages: 0, seconds: 0 };
    const consumer = new GroupConsumer({
      kafka,
      log,
      group: `ndt.${group}`,
      stateTopic: `ndt.state.${group}`.replace(/[^A-Za-z0-9._-]/g, '_'),
      topics,
      stage,
      batch,
      deadLetter: (message, reason) => this.deadLetter(message, reason),
      onFault: (message) => this.fault(message),
      onBatch: (messages, seconds) => {
        stats.batches += 1;
        stats.messages += messages;
        stats.seconds += seconds;
      },
    });
    this.running.set(consumer, stats);
    const running = consumer.run(AbortSignal.any([signal, this.stopping.signal]));
    this.consumers.add(running);
    try {
      await running;
    } finally {
      this.running.delete(consumer);
      this.consumers.delete(running);
    }
  }

  stats(): KafkaBusStats {
    const groups = [...this.running].map(([consumer, stats]) => ({ ...stats, lag: consumer.lag(), connected: consumer.connected }));
    const connected = this.cluster.connected || groups.some((group) => group.connected);
    return { connected, appended: this.appended, appendSeconds: this.appendSeconds, faults: this.faults, groups };
  }

  /** Asks a broker whether it is there. @throws Error saying in one line what to do where it is not */
  async probe(): Promise<void> {
    try {
      await this.cluster.refresh([]);
    } catch (error) {
      throw new Error(explain(error, this.options.kafka.client.user).message, { cause: error });
    }
  }

  /** Ends the consumers, waits a moment for what is being appended; has 5 s. */
  async close(): Promise<void> {
    this.stopping.abort();
    await Promise.all([this.appender.flush(this.cluster.connected ? FLUSH_MS : 0), ...this.consumers]);
    this.cluster.close();
  }

  private deadLetter({ topic, key, headers, value }: Message, reason: string): Message {
    // It may be them that are too large.
    const kept = Object.fromEntries(Object.entries(headers).filter(([name, text]) => name.length + text.length <= DEAD_LETTER_HEADER));
    return {
      topic: this.options.deadLetterTopic,
      key: key?.slice(0, DEAD_LETTER_HEADER) ?? null,
      headers: { ...kept, [HEADER.reason]: reason, [HEADER.origin]: topic.slice(0, DEAD_LETTER_HEADER) },
      value: value.subarray(0, DEAD_LETTER_BYTES),
    };
  }

  private fault(message: string): void {
    this.faults += 1;
    const now = performance.now();
    if (now - (this.told.get(message) ?? Number.NEGATIVE_INFINITY) < TOLD_AGAIN_MS) return;
    if (this.told.size > 1000) this.told.clear();
    this.told.set(message, now);
    this.options.onFault(message);
  }
}
