/**
 * Runs a stage on Kafka: as a member of its group it reads its share of the partitions, lets the stage handle a batch, and makes what
 * comes of it (messages, state) and the position one transaction.
 *
 * There is one answer to everything that goes wrong: forget what was read, settle what was open under our transactional id, take
 * positions and state as they are committed, and go on from there; and where the share itself is in doubt, join the group again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Delivered, Message, Outcome, Stage } from '../bus.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { TopicSet } from '../topics.ts';
import { BatchLimits } from './batch-limits.ts';
import { Cluster } from './cluster.ts';
import { isFenced, isRejoin, RecordRefused, TransportError } from './errors.ts';
import { explain } from './explain.ts';
import { Fetcher, Resync } from './fetcher.ts';
import { type Joined, Member, type Share } from './member.ts';
import { OutgoingBatch } from './outgoing-batch.ts';
import { boundsOf, commitPositions, committedPositions, keyOf, type Position, type TopicPartition } from './positions.ts';
import { Producer } from './producer.ts';
import { initProducerId } from './producer-id.ts';
import type { KafkaOptions } from './settings.ts';
import { StateView } from './state-view.ts';
import { TopicMaker } from './topic-maker.ts';

export interface ConsumerOptions {
  kafka: KafkaOptions;
  log: Logger;
  /** Kafka's name of the group. */
  group: string;
  stateTopic: string;
  topics: TopicSet;
  stage: Stage;
  /** Most messages handed to the stage at once. */
  batch: number;
  /** Where an outcome goes that its topic refuses. */
  deadLetter: (message: Message, reason: string) => Message;
  onFault: (message: string) => void;
  /** A batch was handled and committed, in so many seconds. */
  onBatch: (messages: number, seconds: number) => void;
}

/** Members of a group that can work at once; more of them wait. Part of the group's protocol: all of its members must agree. */
const SEATS = 16;
/** How often the leader looks for topics; and anybody, for brokers that have come and gone. */
const WATCH_MS = 2000;
const REFRESH_MS = 60_000;
const STOP_MS = 3000;
const LEAVE_MS = 1000;
const RETRY_MS = { first: 100, most: 5000 };
const GATHER = { below: 100, ms: 1 };
const RESYNC_MS = { first: 10, most: 2000 };

type Ending = 'stop' | 'rejoin' | 'resync';

export class GroupConsumer {
  private readonly options: ConsumerOptions;
  private readonly cluster: Cluster;
  private readonly maker: TopicMaker;
  private readonly member: Member;
  private readonly view: StateView;
  private fetcher: Fetcher | undefined;
  /** Ends the waits of the generation: it is over, or all is. */
  private over = new AbortController();
  private sharedOut = '';
  private readonly limits = new BatchLimits();

  constructor(options: ConsumerOptions) {
    const { kafka, log, group, stateTopic } = options;
    this.options = options;
    this.cluster = new Cluster(kafka.client, log);
    this.maker = new TopicMaker(this.cluster, kafka.topics);
    this.member = new Member(this.cluster, group, kafka.sessionTimeoutMs);
    this.view = new StateView(this.cluster, stateTopic);
  }

  get connected(): boolean {
    return this.cluster.connected;
  }

  /** Committed messages that wait for us, by topic. */
  lag(): Map<string, number> {
    return this.fetcher?.lag() ?? new Map();
  }

  /** Runs until `signal` aborts; then ends the batch in hand and leaves, within 5 s. */
  async run(signal: AbortSignal): Promise<void> {
    const hurry = () => {
      this.interrupt();
      setTimeout(() => this.cluster.close(), STOP_MS).unref();
    };
    signal.addEventListener('abort', hurry, { once: true });
    let pause = RETRY_MS.first;
    while (!signal.aborted) {
      try {
        await this.session(signal, () => {
          pause = RETRY_MS.first;
        });
      } catch (error) {
        if (signal.aborted) break;
        if (!isRejoin(error)) this.fault(error);
        if (error instanceof TransportError) this.cluster.reset(error);
        await sleep(isRejoin(error) ? RETRY_MS.first : pause, undefined, { signal }).catch(() => {});
        pause = Math.min(pause * 2, RETRY_MS.most);
      } finally {
        this.fetcher?.stop();
        this.fetcher = undefined;
        this.member.stopHeartbeat();
      }
    }
    await Promise.race([this.member.leave().catch(() => {}), sleep(LEAVE_MS, undefined, { ref: false })]);
    signal.removeEventListener('abort', hurry);
    this.cluster.close();
  }

  /** One membership: joins, works, joins again, until asked to stop. */
  private async session(signal: AbortSignal, well: () => void): Promise<void> {
    while (!signal.aborted) {
      if (this.options.stage.restore !== undefined) await this.maker.ensure([this.view.topic], 'state');
      const topics = await this.topics();
      const joined = await this.member.join([...new Set(topics.map(({ topic }) => topic))], (members) => this.shareOut(members));
      const watch = setInterval(() => void this.lookForTopics(joined.leader), joined.leader ? WATCH_MS : REFRESH_MS);
      try {
        await this.generation(joined, signal, well);
      } finally {
        clearInterval(watch);
      }
    }
  }

  private interrupt(): void {
    this.over.abort();
    this.fetcher?.wake();
  }

  /** All partitions of the topics wanted, in a fixed order. */
  private async topics(): Promise<TopicPartition[]> {
    const found: TopicPartition[] = [];
    for (const [topic, { partitions }] of await this.cluster.refresh()) {
      if (topic.startsWith('__') || !this.options.topics.matches(topic)) continue;
      for (const { partition } of partitions) found.push({ topic, partition });
    }
    return found.sort((a, b) => (a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : a.partition - b.partition));
  }

  /** As the leader: ends what the generation before had open, then gives everyone a seat and partitions. */
  private async shareOut(members: readonly string[]): Promise<Map<string, Share>> {
    const within = this.options.kafka.sessionTimeoutMs * 0.8;
    const seats = await Promise.all(
      Array.from({ length: SEATS }, async (_, number) => ({
        number,
        ...(await initProducerId(this.cluster, this.seatId(number), this.options.kafka.transactionTimeoutMs, within)),
      })),
    );
    const partitions = await this.topics();
    this.sharedOut = partitions.map(keyOf).join();
    const shares = [...members].sort().map((memberId, i) => ({ memberId, share: { partitions: [] as TopicPartition[], seat: seats[i] } }));
    const seated = shares.slice(0, SEATS);
    partitions.forEach((at, i) => void seated[i % seated.length]?.share.partitions.push(at));
    return new Map(shares.map(({ memberId, share }) => [memberId, share]));
  }

  private seatId(number: number): string {
    return `${this.options.group}.${number}`;
  }

  /** As the leader also has everyone join again when there are other topics, or more partitions, than were shared out. */
  private async lookForTopics(leader: boolean): Promise<void> {
    try {
      const there = (await this.topics()).map(keyOf).join();
      if (leader && there !== this.sharedOut) this.member.rejoin();
    } catch {
      // Who reads and writes meets the same fault, and tells of it.
    }
  }

  private async generation({ partitions, seat, fresh }: Joined, signal: AbortSignal, well: () => void): Promise<void> {
    const producer = seat === undefined ? undefined : new Producer(this.cluster, this.maker, this.options.kafka, this.seatId(seat.number));
    if (seat !== undefined && fresh) producer?.adopt(seat);
    else await this.takeSeat(producer);
    // Once for a generation: each race on a promise that is pending for long leaves something behind on it.
    this.over = new AbortController();
    void this.member.ended.then(() => this.interrupt());
    for (let pause = RESYNC_MS.first; ; pause = Math.min(pause * 2, RESYNC_MS.most)) {
      const positions = await this.positions(partitions);
      await this.restore(true);
      const fetcher = new Fetcher(this.cluster, positions, 4 * this.options.batch, {
        fault: (error) => this.fault(error),
        notice: (message) => this.options.onFault(`${this.options.group}: ${message}`),
      });
      this.fetcher = fetcher;
      const ending = await this.work(fetcher, producer, signal, () => {
        pause = RESYNC_MS.first;
        well();
      });
      fetcher.stop();
      if (ending !== 'resync') return;
      await sleep(pause, undefined, { signal: this.over.signal }).catch(() => {});
      if (signal.aborted || this.member.mustRejoin) return;
      await this.takeSeat(producer);
    }
  }

  /**
   * Takes the next epoch of our seat, which ends what is open under it.
   * @throws KafkaError where the seat is not ours any more
   */
  private async takeSeat(producer: Producer | undefined): Promise<void> {
    // Who was shut out by a new generation learns it here, and disturbs nobody.
    await this.member.heartbeat();
    await producer?.init(this.options.kafka.transactionTimeoutMs);
    // A generation that began meanwhile: we have just shut out our successor, who will come back from that, and must not write ourselves.
    await this.member.heartbeat();
  }

  private async positions(partitions: readonly TopicPartition[]): Promise<Position[]> {
    const there = await this.cluster.refresh([...new Set(partitions.map(({ topic }) => topic))]);
    const ours = partitions.filter(({ topic, partition }) => there.get(topic)?.partitions.some((info) => info.partition === partition));
    const committed = await committedPositions(this.cluster, this.options.group, ours);
    const fresh = ours.filter((at) => !committed.has(keyOf(at)) && this.cluster.leaderOf(at.topic, at.partition) !== undefined);
    const starts = await boundsOf(this.cluster, 'start', fresh);
    return ours.map((at) => committed.get(keyOf(at)) ?? { ...at, offset: starts.get(keyOf(at)) ?? 0 });
  }

  private async restore(read: boolean): Promise<void> {
    const { stage, kafka } = this.options;
    if (stage.restore === undefined) return;
    if (read) await this.view.catchUp(kafka.transactionTimeoutMs + 5000);
    stage.restore(this.view.state);
  }

  private async work(fetcher: Fetcher, producer: Producer | undefined, signal: AbortSignal, well: () => void): Promise<Ending> {
    for (;;) {
      if (signal.aborted) return 'stop';
      if (this.member.mustRejoin) return 'rejoin';
      let batch: ReturnType<Fetcher['take']>;
      try {
        batch = fetcher.take(this.options.batch);
      } catch (error) {
        if (!(error instanceof Resync)) throw error;
        this.options.onFault(`${this.options.group}: ${error.message}`);
        return 'resync';
      }
      if (batch.messages.length === 0) {
        await fetcher.ready;
        // What was written together becomes visible partition by partition: a moment later it fits into one transaction.
        if (fetcher.waiting < GATHER.below) await sleep(GATHER.ms);
        continue;
      }
      const started = performance.now();
      const handled = await this.handle(batch.messages, signal);
      if (handled === 'interrupted') continue;
      try {
        await this.commit(handled.outcome, batch.positions, producer);
      } catch (error) {
        if (isRejoin(error)) return 'rejoin';
        if (!signal.aborted) this.fault(error);
        return 'resync';
      }
      this.options.onBatch(batch.messages.length, (performance.now() - started) / 1000);
      well();
    }
  }

  /** Until the stage takes it: nothing is skipped. */
  private async handle(batch: Delivered[], signal: AbortSignal): Promise<{ outcome: Outcome | undefined } | 'interrupted'> {
    const { stage, group, onFault } = this.options;
    for (let pause = 50; ; pause = Math.min(pause * 2, 5000)) {
      try {
        return { outcome: await stage.handle(batch) };
      } catch (error) {
        onFault(`${group}: ${messageOf(error)}; the same ${batch.length} messages are tried again`);
        await this.restore(false);
        await sleep(pause, undefined, { signal: this.over.signal }).catch(() => {});
        if (signal.aborted || this.member.mustRejoin) return 'interrupted';
      }
    }
  }

  private async commit(outcome: Outcome | undefined, positions: readonly Position[], producer: Producer | undefined): Promise<void> {
    const { group, kafka, deadLetter, onFault } = this.options;
    if (outcome?.state !== undefined && outcome.state.size > 0) await this.maker.ensure([this.view.topic], 'state');
    const outgoing = new OutgoingBatch(outcome, this.view.topic, deadLetter);
    const within = kafka.transactionTimeoutMs * 0.6;
    for (;;) {
      const { messages } = outgoing;
      if (messages.length === 0) return await commitPositions(this.cluster, group, this.member, positions);
      if (producer === undefined) throw new Error('there is no seat left in the group');
      try {
        await producer.transaction(messages, { group, positions }, within, this.limits);
        break;
      } catch (error) {
        if (!(error instanceof RecordRefused)) throw error;
        this.limits.refused(error);
        // One of several: smaller batches show which.
        if (error.indices.length === 1) {
          const fault = outgoing.refused(error);
          if (fault === undefined) throw error;
          onFault(`${group}: ${fault}`);
        }
        await this.takeSeat(producer);
      }
    }
    this.limits.taken();
    if (outcome?.state !== undefined) this.view.apply(outcome.state);
  }

  private fault(error: unknown): void {
    const { group, kafka, onFault } = this.options;
    const message = isFenced(error)
      ? 'a transaction was ended from outside: the group was shared out anew, or it took longer than kafka.transaction_timeout; its messages are handled again'
      : explain(error, kafka.client.user).message;
    onFault(`${group}: ${message}`);
  }
}
