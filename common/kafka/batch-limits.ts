/**
 * How large a batch may be for a topic that has refused one: halved until it is taken or the culprit is alone in it, and let grow again
 * with what is taken. One by one, a topic's records would take longer than a transaction may.
 */
import type { RecordRefused } from './errors.ts';

const GROWTH = 1.1;
/** Beyond what brokers take it is no limit any more. */
const MOST_BYTES = 64 * 1024 * 1024;

export class BatchLimits {
  private readonly bytes = new Map<string, number>();

  of(topic: string): number {
    return this.bytes.get(topic) ?? Number.POSITIVE_INFINITY;
  }

  refused({ topic, bytes, indices }: RecordRefused): void {
    if (indices.length > 1) this.bytes.set(topic, bytes / 2);
    else this.bytes.delete(topic);
  }

  taken(): void {
    for (const [topic, bytes] of this.bytes) {
      if (bytes > MOST_BYTES) this.bytes.delete(topic);
      else this.bytes.set(topic, bytes * GROWTH);
    }
  }
}
