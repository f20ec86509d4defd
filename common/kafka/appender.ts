/**
 * Appends for callers who wait until it is durable. What comes while a write is under way goes out together with the next one; what is
 * not confirmed is sent again, under the same numbers as long as that can be, for ever.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Message } from '../bus.ts';
import { NdtError } from '../errors.ts';
import { BatchLimits } from './batch-limits.ts';
import type { Cluster } from './cluster.ts';
import { KafkaError, RecordRefused, TransportError } from './errors.ts';
import type { Producer } from './producer.ts';
import { isTopicName, type TopicMaker } from './topic-maker.ts';

interface Call {
  left: number;
  /** Why one of them is never going to be written. */
  failure?: NdtError | undefined;
  resolve: () => void;
  reject: (error: unknown) => void;
}

interface Waiting {
  message: Message;
  call: Call;
}

const ROUND_MESSAGES = 10_000;
const WITHIN_MS = 10_000;
const INIT_MS = 5000;
const RETRY_MS = { first: 100, most: 5000 };

export class Appender {
  private readonly cluster: Cluster;
  private readonly producer: Producer;
  private readonly maker: TopicMaker;
  private readonly lingerMs: number;
  private readonly onFault: (error: unknown) => void;
  private readonly onDone: (messages: number, seconds: number) => void;
  private readonly limits = new BatchLimits();
  /** What is for topics that cannot be had now: missing, without a leader, not for us. It must not hold up the others. */
  private readonly held = new Map<string, Waiting[]>();
  /** How long such a topic is left alone the next time [ms]; forgotten when it has taken something. */
  private readonly pauses = new Map<string, number>();
  private waiting: Waiting[] = [];
  private running: Promise<void> | undefined;

  constructor(options: {
    cluster: Cluster;
    producer: Producer;
    maker: TopicMaker;
    lingerMs: number;
    onFault: (error: unknown) => void;
    onDone: (messages: number, seconds: number) => void;
  }) {
    this.cluster = options.cluster;
    this.producer = options.producer;
    this.maker = options.maker;
    this.lingerMs = options.lingerMs;
    this.onFault = options.onFault;
    this.onDone = options.onDone;
  }

  append(messages: readonly Message[]): Promise<void> {
    if (this.cluster.closed) return Promise.reject(new Error('the bus is closed'));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const call: Call = { left: messages.length, resolve, reject };
    for (const message of messages) {
      if (isTopicName(message.topic)) this.waiting.push({ message, call });
      else finish(call, notATopic(message.topic));
    }
    this.start();
    return promise;
  }

  /** Resolves when nothing waits any more but for topics that cannot be had, or after so long. */
  async flush(withinMs: number): Promise<void> {
    if (this.running !== undefined) await Promise.race([this.running, sleep(withinMs, undefined, { ref: false })]);
  }

  private start(): void {
    this.running ??= this.run();
  }

  private async run(): Promise<void> {
    try {
      // One turn of the event loop, so that what is appended together goes out together.
      await sleep(this.lingerMs);
      while (this.waiting.length > 0) {
        const round = this.waiting.splice(0, ROUND_MESSAGES).filter((waiting) => !this.isHeld(waiting));
        const failure = await this.write(round);
        if (failure !== undefined) {
          for (const { call } of [...round, ...this.waiting.splice(0)]) call.reject(failure);
          return;
        }
      }
    } finally {
      // In the very step that found nothing waiting: what comes a step later begins anew.
      this.running = undefined;
    }
  }

  /** Sets aside what is for this topic, to try it again later, before what comes for it meanwhile. */
  private hold(topic: string, among: readonly Waiting[]): void {
    const pause = this.pauses.get(topic) ?? RETRY_MS.first;
    this.pauses.set(topic, Math.min(pause * 2, RETRY_MS.most));
    const held = among.filter(({ message }) => message.topic === topic);
    this.held.set(topic, held);
    const again = () => {
      this.held.delete(topic);
      this.waiting = [...held, ...this.waiting];
      this.start();
    };
    void sleep(pause, undefined, { signal: this.cluster.signal }).then(again, again);
  }

  private isHeld(waiting: Waiting): boolean {
    const held = this.held.get(waiting.message.topic);
    held?.push(waiting);
    return held !== undefined;
  }

  /** Until all of it is durable, refused for good, or held. Returns why, when the bus was closed before. */
  private async write(round: readonly Waiting[]): Promise<Error | undefined> {
    const started = performance.now();
    let written = 0;
    let left = [...round];
    for (let pause = RETRY_MS.first; left.length > 0; ) {
      const done = new Set<number>();
      try {
        if (!this.producer.ready) {
          // Says at once what is wrong, where `init` would try for a while.
          await this.maker.ensure([...new Set(left.map(({ message }) => message.topic))]);
          await this.producer.init(INIT_MS);
        }
        await this.producer.produce(
          left.map(({ message }) => message),
          WITHIN_MS,
          (indices) => {
            for (const index of indices) if (this.settle(left[index], done, index)) written += 1;
          },
          this.limits,
        );
      } catch (error) {
        if (this.cluster.closed) return new Error('the bus is closed');
        const [index, ...others] = error instanceof RecordRefused ? error.indices : [];
        if (error instanceof RecordRefused && index !== undefined) {
          this.limits.refused(error);
          if (others.length === 0) this.refuse(left[index], done, index, error);
          left = left.filter((_, i) => !done.has(i));
          continue;
        }
        this.onFault(error);
        left = left.filter((_, i) => !done.has(i));
        done.clear();
        const topic = topicOf(error);
        if (topic !== undefined) {
          this.hold(topic, left);
          left = left.filter(({ message }) => message.topic !== topic);
          continue;
        }
        if (error instanceof TransportError) this.cluster.reset(error);
        await sleep(pause, undefined, { signal: this.cluster.signal }).catch(() => {});
        pause = Math.min(pause * 2, RETRY_MS.most);
      }
      left = left.filter((_, i) => !done.has(i));
    }
    if (written > 0) {
      this.limits.taken();
      this.onDone(written, (performance.now() - started) / 1000);
    }
    return undefined;
  }

  /** @returns whether it was not known before */
  private settle(waiting: Waiting | undefined, done: Set<number>, index: number): boolean {
    if (waiting === undefined || done.has(index)) return false;
    done.add(index);
    this.pauses.delete(waiting.message.topic);
    finish(waiting.call);
    return true;
  }

  private refuse(waiting: Waiting | undefined, done: Set<number>, index: number, { type, topic }: RecordRefused): void {
    if (waiting === undefined) return;
    done.add(index);
    const bytes = waiting.message.value.length;
    const advice = 'raise max.message.bytes of the topic, or make the record smaller';
    finish(waiting.call, new NdtError('DATA', `${topic} refuses a record of ${bytes} bytes (${type}): ${advice}`));
  }
}

/** One of a call's messages is done with; the caller is told when all are, so that it may forget the others. */
function finish(call: Call, failure?: NdtError): void {
  call.failure ??= failure;
  call.left -= 1;
  if (call.left > 0) return;
  if (call.failure === undefined) call.resolve();
  else call.reject(call.failure);
}

function notATopic(name: string): NdtError {
  const expected = 'expected letters, digits, dot, dash, underscore';
  return new NdtError('DATA', `${JSON.stringify(name.slice(0, 80))} is no name that Kafka takes for a topic: ${expected}`);
}

/** The topic that an error is of, and no other. */
function topicOf(error: unknown): string | undefined {
  if (error instanceof NdtError) return topicOf(error.cause);
  return error instanceof KafkaError ? error.subject.topic : undefined;
}
