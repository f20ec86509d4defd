/**
 * The bus between the stages: topics of messages, read by consumer groups. Two adapters implement it (the embedded SQLite log and
 * Apache Kafka) and `test/contract/bus.ts` is the suite that both pass.
 */
import type { TopicSet } from './topics.ts';

export type Headers = { [name: string]: string };

export interface Message {
  topic: string;
  /** Messages of one key keep their order: the router's name. */
  key: string | null;
  headers: Headers;
  value: Buffer;
}

export interface Delivered extends Message {
  partition: number;
  /** Position in the partition, increasing but not gapless. Decimal. */
  offset: string;
  /** When it was appended, Unix ms. */
  timestamp: number;
}

/** What a stage makes of a batch. All of it, and the group's new position, becomes visible at once or not at all. */
export interface Outcome {
  append?: Message[];
  /** The stage's state by key; null deletes. Given back through `restore`. */
  state?: Map<string, Buffer | null>;
}

/** A consumer of the bus. */
export interface Stage {
  /** Called before the first batch and whenever the group's share changed: the state as last committed. */
  restore?(state: Map<string, Buffer>): void;
  /**
   * Handles a batch; messages of one key are in order. When it throws, nothing is committed and the batch comes again after a
   * pause: a message that can never be handled must be returned as a dead letter instead.
   */
  handle(batch: Delivered[]): Promise<Outcome | undefined> | Outcome | undefined;
}

export interface Bus {
  /** Resolves when all messages are durable. */
  append(messages: Message[]): Promise<void>;
  /**
   * Runs a stage over all messages of the topics, from the beginning for a new group, from the group's position otherwise.
   * Consumers of one group share the messages. Resolves when `signal` aborts, after the batch in hand.
   */
  consume(group: string, topics: TopicSet, stage: Stage, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** Contract 7: how a record tells who made it. */
export const HEADER = {
  agent: 'ndt-agent',
  boot: 'ndt-boot',
  seq: 'ndt-seq',
  replayed: 'ndt-replayed',
  /** Dead letters: why, and the topic it came from. */
  reason: 'ndt-reason',
  origin: 'ndt-origin',
} as const;
