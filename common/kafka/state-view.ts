/** The state of a group, as its compacted topic tells it: the last value of each key. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from './cluster.ts';
import { check, KafkaError } from './errors.ts';
import { fetchFrom } from './fetch-decoder.ts';
import { boundsOf, keyOf } from './positions.ts';

const RESPONSE_BYTES = 8 * 1024 * 1024;

export class StateView {
  readonly topic: string;
  private readonly cluster: Cluster;
  private readonly values = new Map<string, Buffer>();
  private next: number | undefined;

  constructor(cluster: Cluster, topic: string) {
    this.cluster = cluster;
    this.topic = topic;
  }

  /** A copy: stages keep and change what they are given. */
  get state(): Map<string, Buffer> {
    return new Map(this.values);
  }

  /** What we have just committed ourselves. */
  apply(changes: ReadonlyMap<string, Buffer | null>): void {
    for (const [key, value] of changes) {
      if (value === null) this.values.delete(key);
      else this.values.set(key, value);
    }
  }

  /**
   * Reads up to what is there now. Transactions of others that are still open are waited for: what comes after them in the log cannot
   * be told before they have ended.
   */
  async catchUp(within: number): Promise<void> {
    const at = { topic: this.topic, partition: 0 };
    const key = keyOf(at);
    const end = (await boundsOf(this.cluster, 'end', [at], 0)).get(key) ?? 0;
    const start = (await boundsOf(this.cluster, 'start', [at], 0)).get(key) ?? 0;
    if (this.next === undefined || this.next > end || this.next < start) {
      // For the first time; or the topic was made again.
      this.values.clear();
      this.next = start;
    }
    const deadline = performance.now() + within;
    while (this.next < end) {
      const before: number = this.next;
      await this.read(before);
      if (this.next > before) continue;
      if (performance.now() > deadline) throw new KafkaError(7, at, 'a transaction of another process is still open');
      await sleep(10);
    }
  }

  private async read(from: number): Promise<void> {
    const leader = this.cluster.leaderOf(this.topic, 0);
    if (leader === undefined) throw new KafkaError(5, { topic: this.topic, partition: 0 });
    const topics = [{ topic: this.topic, partitions: [{ partition: 0, offset: from, maxBytes: RESPONSE_BYTES }] }];
    const question = { maxWaitMs: 100, maxBytes: RESPONSE_BYTES, topics };
    const { errorCode, partitions } = await this.cluster.ask(
      leader,
      'state',
      fetchFrom(() => from),
      question,
    );
    check(errorCode);
    for (const { errorCode: code, records, next, unreadable } of partitions) {
      check(code, { topic: this.topic, partition: 0 });
      if (unreadable !== undefined) throw new Error(`the state in ${this.topic} cannot be read: ${unreadable}`);
      for (const { key, value } of records) if (key !== null) this.apply(new Map([[key, value]]));
      this.next = next;
    }
  }
}
