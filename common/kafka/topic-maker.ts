/** Topics that are missing are made, where that is wanted and allowed; where not, it is said how to make them. */
import { setTimeout as sleep } from 'node:timers/promises';
import { NdtError } from '../errors.ts';
import type { Cluster } from './cluster.ts';
import { KafkaError, typeOf } from './errors.ts';
import { CREATE_TOPICS } from './requests.ts';
import type { KafkaOptions } from './settings.ts';

/** `state`: compacted, one partition, read whole whenever the shares of a group change. */
export type TopicKind = 'records' | 'state';

const SETTLE_MS = 10_000;
const LOOK_AGAIN_MS = 60_000;

/** Whether a broker takes a topic of that name at all: a router can be called by an IPv6 address. */
export function isTopicName(name: string): boolean {
  return /^[A-Za-z0-9._-]{1,249}$/.test(name) && name !== '.' && name !== '..';
}

export class TopicMaker {
  private readonly cluster: Cluster;
  private readonly options: KafkaOptions['topics'];
  private lookedAt = performance.now();

  constructor(cluster: Cluster, options: KafkaOptions['topics']) {
    this.cluster = cluster;
    this.options = options;
  }

  /**
   * Resolves when every topic is there and every partition of it has a leader that is known.
   * @throws KafkaError, or NdtError UNAVAILABLE where a topic is missing and is not to be made
   */
  async ensure(topics: readonly string[], kind: TopicKind = 'records'): Promise<void> {
    let wanted = topics.filter((topic) => !this.usable(topic));
    if (wanted.length === 0) return await this.lookAgain(topics);
    await this.cluster.refresh(wanted);
    const missing = wanted.filter((topic) => !this.cluster.topics.has(topic));
    if (missing.length > 0) await this.create(missing, kind);
    const end = performance.now() + SETTLE_MS;
    for (let pause = 5; ; pause = Math.min(pause * 2, 200)) {
      wanted = wanted.filter((topic) => !this.usable(topic));
      const [first] = wanted;
      if (first === undefined) return;
      if (performance.now() > end) throw new KafkaError(this.cluster.topics.has(first) ? 5 : 3, { topic: first });
      await sleep(pause);
      await this.cluster.refresh(wanted);
    }
  }

  /** Now and then, for partitions that were added. */
  private async lookAgain(topics: readonly string[]): Promise<void> {
    if (performance.now() - this.lookedAt < LOOK_AGAIN_MS) return;
    this.lookedAt = performance.now();
    await this.cluster.refresh(topics);
  }

  private usable(topic: string): boolean {
    const info = this.cluster.topics.get(topic);
    return info !== undefined && info.partitions.length > 0 && info.partitions.every(({ leader }) => leader >= 0);
  }

  private async create(topics: readonly string[], kind: TopicKind): Promise<void> {
    const [first = ''] = topics;
    const { partitions, replication, retentionMs } = this.options;
    if (!this.options.create) {
      const how = kind === 'state' ? '--partitions 1 --config cleanup.policy=compact' : `--partitions ${Math.max(partitions, 1)}`;
      throw new NdtError(
        'UNAVAILABLE',
        `the topic ${first} is missing and kafka.topics.create is false: kafka-topics.sh --create --topic ${first} ${how}`,
        { cause: new KafkaError(3, { topic: first }) },
      );
    }
    const retention = retentionMs === 0 ? [] : [{ name: 'retention.ms', value: String(retentionMs) }];
    const compacted = [
      { name: 'cleanup.policy', value: 'compact' },
      // Small segments, cleaned early: the topic is read whole whenever a group's shares change.
      { name: 'segment.bytes', value: String(16 * 1024 * 1024) },
      { name: 'min.cleanable.dirty.ratio', value: '0.1' },
    ];
    // The broker's clock, as a record's time is told to be that of its arrival; and an agent whose clock is wrong is not turned away.
    const arrival = [{ name: 'message.timestamp.type', value: 'LogAppendTime' }];
    const request = topics.map((topic) => ({
      topic,
      partitions: kind === 'state' ? 1 : partitions,
      replication,
      config: kind === 'state' ? compacted : [...retention, ...arrival],
    }));
    const { controller } = this.cluster;
    const made = await this.cluster.ask(controller < 0 ? 'any' : controller, 'main', CREATE_TOPICS, {
      topics: request,
      timeoutMs: 5000,
      validateOnly: false,
    });
    for (const { topic, errorCode, errorMessage } of made.topics) {
      if (errorCode === 0) continue;
      const error = new KafkaError(errorCode, { topic }, errorMessage ?? '');
      if (error.type === 'TOPIC_ALREADY_EXISTS') continue;
      // Which right is missing is told in two ways, by the broker's version.
      if (typeOf(error) === 'TOPIC_AUTHORIZATION_FAILED') throw new KafkaError(31, { topic }, errorMessage ?? '');
      throw error;
    }
  }
}
