/**
 * Writes records, each exactly once for as long as this producer lives: idempotent, or in transactions.
 *
 * Every batch to a partition has a sequence number under the producer's id; a batch sent again under its number is not appended
 * again. The numbers are right only as long as every outcome is known. So a call that fails spoils the producer: what it had sent may
 * be there or not, and a number used again for something else would make the broker drop that silently. `init` begins anew; for a
 * transactional id it also ends whatever was open under it, by anyone.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { BatchLimits } from './batch-limits.ts';
import { Batches, type Chunk, type Outgoing } from './batches.ts';
import type { Cluster } from './cluster.ts';
import { isBusy, isCoordinatorMove, isLeaderMove, isLost, isPassing, isRefusal, KafkaError, RecordRefused, typeOf } from './errors.ts';
import { persist } from './persist.ts';
import { byTopic, keyOf, numbersByTopic, type Position } from './positions.ts';
import { initProducerId, type ProducerId } from './producer-id.ts';
import { encodeBatch } from './record-batch.ts';
import {
  ADD_OFFSETS,
  ADD_PARTITIONS,
  API_VERSIONS,
  type Api,
  type Code,
  codesOf,
  END_TXN,
  END_TXN_V2,
  PRODUCE,
  PRODUCE_V2,
  TXN_OFFSET_COMMIT,
  TXN_OFFSET_COMMIT_V2,
} from './requests.ts';
import type { KafkaOptions } from './settings.ts';
import type { TopicMaker } from './topic-maker.ts';

/** Positions that become the group's together with the transaction. */
export interface GroupPositions {
  group: string;
  positions: readonly Position[];
}

/**
 * Between the end of a transaction of version 2 and what the next one writes. Its end is confirmed a moment before it is complete; a broker that
 * meets the next one within that moment puts it off by 20 ms (add.partitions.to.txn.retry.backoff.ms).
 */
const REST_MS = 1;

const NONE = new BatchLimits();

export class Producer {
  readonly transactionalId: string | undefined;
  private readonly cluster: Cluster;
  private readonly maker: TopicMaker;
  private readonly options: KafkaOptions;
  private identity: ProducerId | undefined;
  private readonly batches: Batches;
  private timeless = false;
  private version2: boolean | undefined;
  /** By `performance.now()`. */
  private restUntil = 0;

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
    this.version2 = undefined;
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
   * @param limits of batches; of one that is refused the caller makes them smaller, until it is a single record
   * @throws RecordRefused where a record is never going to be taken; KafkaError, TransportError. Then `init` comes first.
   */
  async produce(
    messages: readonly Outgoing[],
    within: number,
    confirmed: (indices: readonly number[]) => void = () => {},
    limits: BatchLimits = NONE,
  ): Promise<void> {
    const identity = this.take();
    const chunks = await this.plan(messages, limits);
    await this.send(identity, chunks, performance.now() + within, { confirmed });
    this.identity = identity;
  }

  /**
   * One transaction: all messages and positions become visible at once, or none. Five questions, or three where the cluster has
   * transactions of version 2 (KIP-890): what is written there joins the transaction by being written, and each transaction has an epoch
   * of its own.
   * When it throws, it may have been committed or not; after `init` that is settled, and the group's positions tell which.
   * @param offsets at least one
   */
  async transaction(messages: readonly Outgoing[], offsets: GroupPositions, within: number, limits: BatchLimits = NONE): Promise<void> {
    this.version2 ??= await this.hasVersion2();
    const identity = this.take();
    const end = performance.now() + within;
    const chunks = await this.plan(messages, limits);
    if (this.version2) {
      await this.send(identity, chunks, end, { api: PRODUCE_V2 });
      await this.commitOffsets(identity, offsets, end, TXN_OFFSET_COMMIT_V2);
      const { producerId, producerEpoch } = await this.askTransaction(end, END_TXN_V2, { ...identity, commit: true });
      this.adopt({ producerId, producerEpoch });
      this.restUntil = performance.now() + REST_MS;
      return;
    }
    // One after the other, although Kafka would allow some of it at once: a broker asks the coordinator about each write, and where that
    // meets another question about the same transaction it puts us off for a while.
    if (chunks.length > 0) await this.addPartitions(identity, chunks, end);
    await this.askTransaction(end, ADD_OFFSETS, { ...identity, group: offsets.group });
    await this.send(identity, chunks, end);
    await this.commitOffsets(identity, offsets, end);
    await this.askTransaction(end, END_TXN, { ...identity, commit: true });
    this.identity = identity;
  }

  /** Asked anew for each identity: what brokers agree on can change. */
  private async hasVersion2(): Promise<boolean> {
    const { features } = await this.cluster.ask('any', 'main', API_VERSIONS, undefined);
    return (features.get('transaction.version') ?? 0) >= 2;
  }

  /** Takes the identity away until the call has succeeded. */
  private take(): ProducerId {
    const identity = this.identity;
    if (identity === undefined) throw new Error('the producer has to be initialised first');
    this.identity = undefined;
    return identity;
  }

  private async plan(messages: readonly Outgoing[], limits: BatchLimits): Promise<Chunk[]> {
    await this.maker.ensure([...new Set(messages.map(({ topic }) => topic))]);
    return this.batches.plan(messages, limits);
  }

  /** Sends batches, those of a partition one after the other, until all are confirmed. */
  private async send(
    identity: ProducerId,
    chunks: readonly Chunk[],
    end: number,
    { api = PRODUCE, confirmed = () => {} }: { api?: typeof PRODUCE; confirmed?: (indices: readonly number[]) => void } = {},
  ): Promise<void> {
    let waiting = [...chunks];
    /** Sent, and neither confirmed nor refused. */
    const unsure = new Set<Chunk>();
    let fatal: unknown;
    for (let pause = 2; waiting.length > 0; ) {
      const { requests, homeless } = this.batches.requests(waiting);
      const sent = [...requests];
      const results = await Promise.allSettled(sent.map(([leader, batch]) => this.request(identity, leader, batch, api)));
      const done = new Set<Chunk>();
      let trouble: unknown = homeless;
      for (const [i, result] of results.entries()) {
        if (result.status === 'rejected') {
          if (isLost(result.reason)) {
            trouble = result.reason;
            for (const chunk of sent[i]?.[1] ?? []) unsure.add(chunk);
          } else fatal = result.reason;
          continue;
        }
        for (const { chunk, code } of result.value) {
          unsure.delete(chunk);
          const error = code === 0 ? undefined : new KafkaError(code, { topic: chunk.topic, partition: chunk.partition });
          if (error === undefined || error.type === 'DUPLICATE_SEQUENCE_NUMBER') done.add(chunk);
          else if (error.type === 'INVALID_TIMESTAMP' && !this.timeless) {
            // The clocks differ by more than the broker takes. A record without a time is taken by any.
            this.timeless = true;
            fatal = error;
          } else if (isRefusal(error.type)) fatal = new RecordRefused(error.type, chunk.topic, chunk.partition, chunk.indices, chunk.bytes);
          else if (isPassing(error.type) || isBusy(error.type) || isCoordinatorMove(error)) {
            trouble = error;
            unsure.add(chunk);
          } else fatal = error;
        }
      }
      for (const { indices } of done) confirmed(indices);
      waiting = waiting.filter((chunk) => !done.has(chunk));
      if (fatal !== undefined) {
        // Under another id nobody knows any more what of the rest is there; a transaction is undone as a whole.
        waiting = this.transactionalId === undefined ? waiting.filter((chunk) => unsure.has(chunk)) : [];
        if (waiting.length === 0) throw fatal;
      }
      if (trouble === undefined) {
        pause = 2;
        continue;
      }
      try {
        await this.settle(trouble, waiting, pause, end);
      } catch (error) {
        throw fatal ?? error;
      }
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

  private async request(
    identity: ProducerId,
    leader: number,
    chunks: readonly Chunk[],
    api: typeof PRODUCE,
  ): Promise<Array<{ chunk: Chunk; code: number }>> {
    const transactionalId = this.transactionalId ?? null;
    const { compression } = this.options;
    const head = { ...identity, transactional: transactionalId !== null, compression, timestamp: this.timeless ? -1 : Date.now() };
    const batches = await Promise.all(
      chunks.map(async ({ topic, partition, sequence, messages }) => ({
        topic,
        partition,
        batch: await encodeBatch(messages, { ...head, firstSequence: sequence }),
      })),
    );
    const rest = Math.ceil(this.restUntil - performance.now());
    if (rest > 0) await sleep(rest);
    const timeoutMs = this.options.client.requestTimeoutMs;
    const { topics } = await this.cluster.ask(leader, 'data', api, { transactionalId, timeoutMs, topics: byTopic(batches) });
    const codes = new Map(codesOf(topics).map((code) => [keyOf(code), code.errorCode]));
    return chunks.map((chunk) => ({ chunk, code: codes.get(keyOf(chunk)) ?? 13 }));
  }

  private async addPartitions(identity: ProducerId, chunks: readonly Chunk[], end: number): Promise<void> {
    const partitions = new Map(chunks.map(({ topic, partition }) => [keyOf({ topic, partition }), { topic, partition }]));
    const question = { ...identity, topics: numbersByTopic(partitions.values()) };
    try {
      await this.askTransaction(end, ADD_PARTITIONS, question, ({ topics }) => {
        // One wrong partition makes the others OPERATION_NOT_ATTEMPTED.
        const telling = codesOf(topics).find(({ errorCode }) => errorCode !== 0 && errorCode !== 55);
        if (telling !== undefined && [3, 29].includes(telling.errorCode))
          throw new KafkaError(telling.errorCode, { topic: telling.topic, partition: telling.partition });
        return [telling?.errorCode ?? 0];
      });
    } catch (error) {
      if (!(error instanceof KafkaError) || error.type !== 'UNKNOWN_TOPIC_OR_PARTITION' || error.subject.topic === undefined) throw error;
      // Deleted since we last looked, or so new that the coordinator has not heard of it.
      if (performance.now() > end) throw new KafkaError(13, error.subject, 'the topic was not there');
      this.cluster.topics.delete(error.subject.topic);
      await this.maker.ensure([error.subject.topic]);
      await sleep(20);
      await this.addPartitions(identity, chunks, end);
    }
  }

  private async commitOffsets(
    identity: ProducerId,
    { group, positions }: GroupPositions,
    end: number,
    api: typeof TXN_OFFSET_COMMIT = TXN_OFFSET_COMMIT,
  ): Promise<void> {
    const question = { ...identity, transactionalId: this.transactionalId ?? '', group, topics: byTopic(positions) };
    await persist(this.cluster, end, () =>
      this.cluster.askCoordinator('group', group, 'txn', api, question, ({ topics }) => codesOf(topics).map(({ errorCode }) => errorCode)),
    );
  }

  /** Asks the coordinator, again while it is busy or being settled. */
  private askTransaction<Question, Answer>(
    end: number,
    api: Api<Question & { transactionalId: string }, Answer>,
    question: Question,
    codes: (answer: Answer) => Iterable<number> = (answer) => [(answer as Code).errorCode],
  ): Promise<Answer> {
    const transactionalId = this.transactionalId ?? '';
    return persist(this.cluster, end, () =>
      this.cluster.askCoordinator('transaction', transactionalId, 'txn', api, { ...question, transactionalId }, codes),
    );
  }
}
