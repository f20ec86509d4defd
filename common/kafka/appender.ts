/**
 * Appends for callers who wait until it is durable. What comes while a write is under way goes out together with the next one; what is
 * not confirmed is sent again, under the same numbers as long as that can be, for ever.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Message } from '../bus.ts';
import { NdtError } from '../errors.ts';
import type { Cluster } from './cluster.ts';
import { RecordRefused, TransportError } from './errors.ts';
import type { Producer } from './producer.ts';
import type { TopicMaker } from './topic-maker.ts';

interface Call {
  left: number;
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
  private readonly delicate = new Set<string>();
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
    const call = { left: messages.length, resolve, reject };
    for (const message of messages) this.waiting.push({ message, call });
    this.running ??= this.run().finally(() => {
      this.running = undefined;
    });
    return promise;
  }

  /** Resolves when nothing waits any more, or after so long. */
  async flush(withinMs: number): Promise<void> {
    if (this.running !== undefined) await Promise.race([this.running, sleep(withinMs, undefined, { ref: false })]);
  }

  private async run(): Promise<void> {
    // One turn of the event loop, so that what is appended together goes out together.
    await sleep(this.lingerMs);
    while (this.waiting.length > 0) {
      const round = this.waiting.splice(0, ROUND_MESSAGES);
      const failure = await this.write(round);
      if (failure !== undefined) {
        for (const { call } of [...round, ...this.waiting.splice(0)]) call.reject(failure);
        return;
      }
    }
  }

  /** Until all of it is durable, or refused for good. Returns why, when the bus was closed before. */
  private async write(round: readonly Waiting[]): Promise<Error | undefined> {
    const started = performance.now();
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
            for (const index of indices) this.settle(left[index], done, index);
          },
          this.delicate,
        );
      } catch (error) {
        if (this.cluster.closed) return new Error('the bus is closed');
        const [index, ...others] = error instanceof RecordRefused ? error.indices : [];
        if (error instanceof RecordRefused && index !== undefined) {
          if (others.length > 0) this.delicate.add(error.topic);
          else this.refuse(left[index], done, index, error);
          left = left.filter((_, i) => !done.has(i));
          continue;
        }
        this.onFault(error);
        if (error instanceof TransportError) this.cluster.reset(error);
        await sleep(pause);
        pause = Math.min(pause * 2, RETRY_MS.most);
      }
      left = left.filter((_, i) => !done.has(i));
    }
    this.onDone(round.length, (performance.now() - started) / 1000);
    return undefined;
  }

  private settle(waiting: Waiting | undefined, done: Set<number>, index: number): void {
    if (waiting === undefined || done.has(index)) return;
    done.add(index);
    waiting.call.left -= 1;
    if (waiting.call.left === 0) waiting.call.resolve();
  }

  private refuse(waiting: Waiting | undefined, done: Set<number>, index: number, { type, topic }: RecordRefused): void {
    if (waiting === undefined) return;
    done.add(index);
    const bytes = waiting.message.value.length;
    waiting.call.reject(
      new NdtError(
        'DATA',
        `${topic} refuses a record of ${bytes} bytes (${type}): raise max.message.bytes of the topic, or make the record smaller`,
      ),
    );
  }
}
