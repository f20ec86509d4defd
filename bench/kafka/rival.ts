/** A client of Kafka in the two roles that our bus has, so that all are measured by the same hands. */
import type { Message } from '../../common/bus.ts';

export interface Rival {
  name: string;
  /** Idempotent, acks all; one batch after the other. */
  producer(bootstrap: string): Promise<RivalProducer>;
  /**
   * Reads the topics from the beginning, committed records only, `SETTINGS.batch` at a time at most, and commits its position after each
   * batch: by itself, or with a copy of the batch on `output` in one transaction.
   */
  consumer(bootstrap: string, group: string, topics: readonly string[], output: string | undefined): Promise<RivalConsumer>;
}

export interface RivalProducer {
  /** Resolves when all of it is durable. */
  send(batch: Message[]): Promise<void>;
  close(): Promise<void>;
}

export interface RivalConsumer {
  /** Messages handled whose position is committed. */
  handled(): number;
  close(): Promise<void>;
}

/** What all of them run with. */
export const SETTINGS = {
  /** Messages of a write, and most of a transaction. */
  send: 500,
  batch: 1000,
  compression: 'zstd',
  maxWaitMs: 500,
  partitionBytes: 1024 * 1024,
  responseBytes: 8 * 1024 * 1024,
  sessionMs: 10_000,
  transactionMs: 15_000,
} as const;
