/**
 * Writes records, each exactly once for as long as this producer lives: idempotent, or in transactions.
 *
 * Every batch to a partition has a sequence number under the producer's id; a batch sent again under its number is not appended
 * again. The numbers are right only as long as every outcome is known. So a call that fails spoils the producer: what it had sent may
 * be there or not, and a number used again for something else would make the broker drop that silently. `init` begins anew; for a
 * transactional id it also ends whatever was open under it, by anyone.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Batches, type Chunk, type Outgoing } from './batches.ts';
import type { Cluster } from './cluster.ts';
import { isLeaderMove, isLost, isPassing, isRefusal, KafkaError, RecordRefused, typeOf } from './errors.ts';
import { persist } from './persist.ts';
import { byTopic, keyOf, type Position } from './positions.ts';
import { initProducerId, type ProducerId } from './producer-id.ts';
import { encodeProduce } from './record-batch.ts';
import type { KafkaOptions } from './settings.ts';
import type { TopicMaker } from './topic-maker.ts';

/** Positions that become the group's together with the transaction. */
export interface GroupPositions {
  group: string;
  positions: readonly Position[];
}

interface ProduceAnswer {
  topics: Array<{ topicName: string; partitions: Array<{ partition: number; errorCode: number }> }>;
}
interface AddPartitionsAnswer {
  errors: Array<{ topic: string; partitionErrors: Array<{ partition: number; errorCode: number }> }>;
}
interface TxnCommitAnswer {
  topics: Array<{ topic: string; partitions: Array<{ partition: number; errorCode: number }> }>;
}

const NONE: ReadonlySet<string> = new Set();

export class Producer {
  readonly transactionalId: string | undefined;
  private readonly cluster: Cluster;
  private readonly maker: TopicMaker;
  private readonly options: KafkaOptions;
  private identity: ProducerId | undefined;
  private readonly batches: Batches;
  private timeless = false;

  constructor(cluster: Cluster, maker: TopicMaker, options: KafkaOptions, transactionalId?: string) {
    this.cluster = cluster;
    this.maker = maker;
    this.options = options;
    this.transactionalId = transactionalId;
    this.batches = new Batches(cluster, options.batchBytes);
  }

  get ready(): boolean {
    return this.identity !== undefined;
  }

  /** Gets an id, and for a transactional one ends what was open under it; waits for that. */
  async init(within: number): Promise<ProducerId> {
    this.identity = undefined;
    this.batches.restart();
    const identity = await initProducerId(this.cluster, this.transactionalId, this.options.transactionTimeoutMs, within);
    this.identity = identity;
    return identity;
  }

  /** Goes on under an id that another one has got for us. */
  adopt(identity: ProducerId): void {
    this.batches.restart();
    this.identity = identity;
  }

  /**
   * Writes, outside of any transaction; resolves when all of it is durable.
   * @param within ms after which it is given up
   * @param confirmed told the places of messages that are durable, as they become so
   * @param delicate topics whose records go one by one, so that a refused one is known
   * @throws RecordRefused where a record is never going to be taken; KafkaError, TransportError. Then `init` comes first.
   */
  async produce(
    messages: readonly Outgoing[],
    within: number,
    confirmed: (indices: readonly number[]) => void = () => {},
    delicate: ReadonlySet<string> = NONE,
  ): Promise<void> {
    const identity = this.take();
    const chunks = await this.plan(messages, delicate);
    await this.send(identity, chunks, performance.now() + within, confirmed);
    this.identity = identity;
  }

  /**
   * One transaction: all messages and positions become visible at once, or none.
   * When it throws, it may have been committed or not; after `init` that is settled, and the group's positions tell which.
   */
  async transaction(
    messages: readonly Outgoing[],
    offsets: GroupPositions | undefined,
    within: number,
    delicate: ReadonlySet<string> = NONE,
  ): Promise<void> {
    const identity = this.take();
    const end = performance.now() + within;
    const chunks = await this.plan(messages, delicate);
    const positions = offsets?.positions.length === 0 ? undefined : offsets;
    // One after the other, although Kafka would allow some of it at once: a broker asks the coordinator about each write, and where that
    // meets another question about the same transaction it puts us off for a while.
    if (chunks.length > 0) await this.addPartitions(identity, chunks, end);
    if (positions !== undefined)
      await persist(this.cluster, end, () => this.askTransaction('AddOffsetsToTxn', { ...identity, groupId: positions.group }));
    await this.send(identity, chunks, end, () => {});
    if (positions !== undefined) await this.commitOffsets(identity, positions, end);
    await persist(this.cluster, end, () => this.askTransaction('EndTxn', { ...identity, transactionResult: true }));
    this.identity = identity;
  }

  /** Takes the identity away until the call has succeeded. */
  private take(): ProducerId {
    const identity = this.identity;
    if (identity === undefined) throw new Error('the producer has to be initialised first');
    this.identity = undefined;
    return identity;
  }

  private async plan(messages: readonly Outgoing[], delicate: ReadonlySet<string>): Promise<Chunk[]> {
    await this.maker.ensure([...new Set(messages.map(({ topic }) => topic))]);
    return this.batches.plan(messages, delicate);
  }

  /** Sends batches, those of a partition one after the other, until all are confirmed. */
  private async send(
    identity: ProducerId,
    chunks: readonly Chunk[],
    end: number,
    confirmed: (indices: readonly number[]) => void,
  ): Promise<void> {
    let waiting = [...chunks];
    for (let pause = 2; waiting.length > 0; ) {
      const { requests, homeless } = this.batches.requests(waiting);
      const results = await Promise.allSettled([...requests].map(([leader, batch]) => this.request(identity, leader, batch)));
      const done = new Set<Chunk>();
      let trouble: unknown = homeless;
      let fatal: unknown;
      for (const result of results) {
        if (result.status === 'rejected') {
          if (isLost(result.reason)) trouble = result.reason;
          else fatal = result.reason;
          continue;
        }
        for (const { chunk, code } of result.value) {
          const error = code === 0 ? undefined : new KafkaError(code, { topic: chunk.topic, partition: chunk.partition });
          if (error === undefined || error.type === 'DUPLICATE_SEQUENCE_NUMBER') done.add(chunk);
          else if (error.type === 'INVALID_TIMESTAMP' && !this.timeless) {
            // The clocks differ by more than the broker takes. A record without a time is taken by any.
            this.timeless = true;
            fatal = error;
          } else if (isRefusal(error.type)) fatal = new RecordRefused(error.type, chunk.topic, chunk.partition, chunk.indices);
          else if (isPassing(error.type)) trouble = error;
          else fatal = error;
        }
      }
      for (const { indices } of done) confirmed(indices);
      if (fatal !== undefined) throw fatal;
      waiting = waiting.filter((chunk) => !done.has(chunk));
      if (trouble === undefined) {
        pause = 2;
        continue;
      }
      await this.settle(trouble, waiting, pause, end);
      pause = Math.min(pause * 2, 500);
    }
  }

  /** Waits a moment and looks at the leaders again. @throws the trouble, when the time is over */
  private async settle(trouble: unknown, waiting: readonly Chunk[], pause: number, end: number): Promise<void> {
    if (this.cluster.closed || performance.now() + pause > end) throw trouble;
    await sleep(pause);
    if (!isLost(trouble) && !isLeaderMove(typeOf(trouble))) return;
    const topics = [...new Set(waiting.map(({ topic }) => topic))];
    try {
      await this.cluster.refresh(topics);
      await this.maker.ensure(topics);
    } catch (error) {
      if (!isLost(error) && !isPassing(typeOf(error))) throw error;
    }
  }

  private async request(identity: ProducerId, leader: number, chunks: readonly Chunk[]): Promise<Array<{ chunk: Chunk; code: number }>> {
    const body = await encodeProduce({
      ...identity,
      transactionalId: this.transactionalId ?? null,
      timeout: this.options.client.requestTimeoutMs,
      compression: this.options.compression,
      timestamp: this.timeless ? -1 : Date.now(),
      topicData: byTopic(chunks),
    });
    const { topics } = await this.cluster.ask<ProduceAnswer>(leader, 'data', 'Produce', { acks: -1 }, undefined, body);
    const codes = new Map(
      topics.flatMap(({ topicName, partitions }) =>
        partitions.map(({ partition, errorCode }) => [keyOf({ topic: topicName, partition }), errorCode]),
      ),
    );
    return chunks.map((chunk) => ({ chunk, code: codes.get(keyOf(chunk)) ?? 13 }));
  }

  private async addPartitions(identity: ProducerId, chunks: readonly Chunk[], end: number): Promise<void> {
    const partitions = new Map(chunks.map(({ topic, partition }) => [keyOf({ topic, partition }), { topic, partition }]));
    const topics = byTopic(partitions.values()).map(({ topic, partitions: led }) => ({
      topic,
      partitions: led.map(({ partition }) => partition),
    }));
    const codesOf = ({ errors }: AddPartitionsAnswer) => {
      const codes = errors.flatMap(({ topic, partitionErrors }) =>
        partitionErrors.map(({ partition, errorCode }) => ({ topic, partition, errorCode })),
      );
      // One wrong partition makes the others OPERATION_NOT_ATTEMPTED.
      const telling = codes.find(({ errorCode }) => errorCode !== 0 && errorCode !== 55);
      if (telling !== undefined && [3, 29].includes(telling.errorCode))
        throw new KafkaError(telling.errorCode, { topic: telling.topic, partition: telling.partition });
      return [telling?.errorCode ?? 0];
    };
    await persist(this.cluster, end, async () => {
      try {
        await this.askTransaction('AddPartitionsToTxn', { ...identity, topics }, codesOf);
      } catch (error) {
        if (!(error instanceof KafkaError) || error.type !== 'UNKNOWN_TOPIC_OR_PARTITION' || error.subject.topic === undefined) throw error;
        // Deleted since we last looked, or so new that the coordinator has not heard of it.
        this.cluster.topics.delete(error.subject.topic);
        await this.maker.ensure([error.subject.topic]);
        throw new KafkaError(13, error.subject, 'the topic was not there');
      }
    });
  }

  private async commitOffsets(identity: ProducerId, { group, positions }: GroupPositions, end: number): Promise<void> {
    const topics = byTopic(
      positions.map((position) => ({ ...position, offset: String(position.offset), metadata: position.metadata ?? '' })),
    );
    const args = { ...identity, transactionalId: this.transactionalId, groupId: group, topics };
    const codes = ({ topics: answers }: TxnCommitAnswer) =>
      answers.flatMap(({ partitions }) => partitions.map(({ errorCode }) => errorCode));
    await persist(this.cluster, end, () =>
      this.cluster.askCoordinator<TxnCommitAnswer>('group', group, 'txn', 'TxnOffsetCommit', args, codes),
    );
  }

  private askTransaction<T>(api: string, args: object, codes?: (answer: T) => Iterable<number>): Promise<T> {
    const id = this.transactionalId ?? '';
    const first = (answer: T) => [(answer as { errorCode: number }).errorCode];
    return this.cluster.askCoordinator<T>('transaction', id, 'txn', api, { ...args, transactionalId: id }, codes ?? first);
  }
}
