/** Messages made into batches: each to its partition, of a size that fits, under its sequence numbers. */
import murmur2 from 'kafkajs/src/producer/partitioners/default/murmur2.js';
import type { Headers } from '../bus.ts';
import type { BatchLimits } from './batch-limits.ts';
import type { Cluster } from './cluster.ts';
import { KafkaError } from './errors.ts';
import { keyOf, type TopicPartition } from './positions.ts';

export interface Outgoing {
  topic: string;
  key: string | null;
  headers: Headers;
  value: Buffer | string | null;
}

export interface Chunk extends TopicPartition {
  sequence: number;
  messages: Outgoing[];
  /** Their places in what was given. */
  indices: number[];
  bytes: number;
}

const REQUEST_BYTES = 8 * 1024 * 1024;
const CHUNK_MESSAGES = 10_000;
const SEQUENCES = 2 ** 31;
/** Of a record, beside key, value and headers. */
const RECORD_BYTES = 24;

export class Batches {
  private readonly cluster: Cluster;
  private readonly batchBytes: number;
  private readonly sequences = new Map<string, number>();
  private round = 0;

  constructor(cluster: Cluster, batchBytes: number) {
    this.cluster = cluster;
    this.batchBytes = batchBytes;
  }

  /** Begins to count anew, under another producer id. */
  restart(): void {
    this.sequences.clear();
  }

  plan(messages: readonly Outgoing[], limits: BatchLimits): Chunk[] {
    this.round += 1;
    const chunks: Chunk[] = [];
    const last = new Map<string, Chunk>();
    messages.forEach((message, i) => {
      const at = { topic: message.topic, partition: this.partitionOf(message) };
      const key = keyOf(at);
      const bytes = sizeOf(message);
      const chunk = last.get(key);
      const sequence = this.sequences.get(key) ?? 0;
      this.sequences.set(key, (sequence + 1) % SEQUENCES);
      if (
        chunk !== undefined &&
        chunk.bytes + bytes <= Math.min(this.batchBytes, limits.of(message.topic)) &&
        chunk.messages.length < CHUNK_MESSAGES
      ) {
        chunk.messages.push(message);
        chunk.indices.push(i);
        chunk.bytes += bytes;
        return;
      }
      const fresh: Chunk = { ...at, sequence, messages: [message], indices: [i], bytes };
      chunks.push(fresh);
      last.set(key, fresh);
    });
    return chunks;
  }

  /**
   * The next batch of each partition, by the node that leads it.
   * @returns also why some of them cannot be sent now, where they have no leader
   */
  requests(waiting: readonly Chunk[]): { requests: Map<number, Chunk[]>; homeless: KafkaError | undefined } {
    const requests = new Map<number, Chunk[]>();
    const bytes = new Map<number, number>();
    const seen = new Set<string>();
    let homeless: KafkaError | undefined;
    for (const chunk of waiting) {
      const key = keyOf(chunk);
      if (seen.has(key)) continue;
      seen.add(key);
      const leader = this.cluster.leaderOf(chunk.topic, chunk.partition);
      if (leader === undefined) {
        homeless = new KafkaError(5, { topic: chunk.topic, partition: chunk.partition });
        continue;
      }
      const sum = (bytes.get(leader) ?? 0) + chunk.bytes;
      const batch = requests.get(leader);
      if (batch !== undefined && sum > REQUEST_BYTES) continue;
      bytes.set(leader, sum);
      if (batch === undefined) requests.set(leader, [chunk]);
      else batch.push(chunk);
    }
    return { requests, homeless };
  }

  /** As Kafka's own clients do it, so that a key has one partition whoever writes. */
  private partitionOf({ topic, key }: Outgoing): number {
    const count = this.cluster.topics.get(topic)?.partitions.length ?? 1;
    return key === null ? this.round % count : (murmur2(Buffer.from(key)) & 0x7fffffff) % count;
  }
}

function sizeOf({ key, value, headers }: Outgoing): number {
  let bytes = RECORD_BYTES + (key?.length ?? 0) + (value === null ? 0 : Buffer.byteLength(value));
  for (const name in headers) bytes += name.length + (headers[name]?.length ?? 0) + 4;
  return bytes;
}
