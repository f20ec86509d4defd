/**
 * Reads partitions from where they stand: one long poll to each leader at a time, into a buffer of bounded size, whatever the leaders
 * do meanwhile. Only what is committed comes out.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Delivered } from '../bus.ts';
import type { Cluster } from './cluster.ts';
import { check, isLeaderMove, KafkaError, TransportError } from './errors.ts';
import { type FetchedPartition, type FetchedRecord, fetchFrom } from './fetch-decoder.ts';
import { boundsOf, byTopic, keyOf, type Position, type TopicPartition } from './positions.ts';

interface Reading extends TopicPartition {
  /** The next offset to ask for. */
  next: number;
  records: FetchedRecord[];
  /** How many of them were taken. */
  taken: number;
  /** The end of what is committed, as last heard. */
  end: number;
  /** The topic was deleted. */
  gone: boolean;
  /** Not asked for before then, by `performance.now()`. */
  pausedUntil: number;
}

export interface FetcherEvents {
  /** Something is wrong and is tried again. */
  fault(error: unknown): void;
  notice(message: string): void;
}

/** What the positions say is no longer what is there: begin again from the committed ones. */
export class Resync extends Error {}

const MAX_WAIT_MS = 500;
const RESPONSE_BYTES = 8 * 1024 * 1024;
const PARTITION_BYTES = 1024 * 1024;
const UNREADABLE_MS = 5000;

export class Fetcher {
  private readonly cluster: Cluster;
  private readonly events: FetcherEvents;
  private readonly readings: Reading[];
  private readonly byKey = new Map<string, Reading>();
  private readonly bufferLimit: number;
  private readonly busy = new Set<number>();
  private buffered = 0;
  private first = 0;
  private stopped = false;
  private awake = false;
  private turn = 0;
  private failure: unknown;
  private looking = false;
  private changed = Promise.withResolvers<void>();

  constructor(cluster: Cluster, positions: readonly Position[], bufferLimit: number, events: FetcherEvents) {
    this.cluster = cluster;
    this.events = events;
    this.bufferLimit = bufferLimit;
    this.readings = positions.map(({ topic, partition, offset }) => ({
      topic,
      partition,
      next: offset,
      records: [],
      taken: 0,
      end: offset,
      gone: false,
      pausedUntil: 0,
    }));
    for (const reading of this.readings) this.byKey.set(keyOf(reading), reading);
    this.pump();
  }

  /** Resolves when there is something to take, or something is wrong. */
  get ready(): Promise<void> {
    return this.changed.promise;
  }

  /** Ends the wait of whoever waits for `ready`, for good. */
  wake(): void {
    this.awake = true;
    this.changed.resolve();
  }

  /** Messages that can be taken now. */
  get waiting(): number {
    return this.buffered;
  }

  /** Messages not yet taken that are committed, by `topic`. */
  lag(): Map<string, number> {
    const lags = new Map<string, number>();
    for (const { topic, next, records, taken, end } of this.readings) {
      lags.set(topic, (lags.get(topic) ?? 0) + Math.max(0, end - next) + records.length - taken);
    }
    return lags;
  }

  /**
   * Up to so many messages, from all partitions in turn, and the positions after them.
   * @throws Resync
   */
  take(most: number): { messages: Delivered[]; positions: Position[] } {
    if (this.failure !== undefined) throw this.failure;
    const messages: Delivered[] = [];
    const positions: Position[] = [];
    for (let i = 0; i < this.readings.length && messages.length < most; i += 1) {
      const reading = this.readings[(this.first + i) % this.readings.length];
      if (reading === undefined || reading.taken === reading.records.length) continue;
      const part = reading.records.slice(reading.taken, reading.taken + most - messages.length);
      for (const { offset, timestamp, key, value, headers } of part) {
        messages.push({
          topic: reading.topic,
          partition: reading.partition,
          offset: String(offset),
          timestamp,
          key,
          headers,
          value: value ?? Buffer.alloc(0),
        });
      }
      reading.taken += part.length;
      this.buffered -= part.length;
      const all = reading.taken === reading.records.length;
      if (all) {
        reading.records = [];
        reading.taken = 0;
      }
      const last = part.at(-1);
      positions.push({
        topic: reading.topic,
        partition: reading.partition,
        offset: all || last === undefined ? reading.next : last.offset + 1,
      });
    }
    this.first = this.readings.length === 0 ? 0 : (this.first + 1) % this.readings.length;
    if (this.buffered === 0 && !this.awake) this.changed = Promise.withResolvers();
    this.pump();
    return { messages, positions };
  }

  stop(): void {
    this.stopped = true;
  }

  private pump(): void {
    if (this.stopped || this.failure !== undefined || this.buffered >= this.bufferLimit) return;
    const now = performance.now();
    const leaders = new Map<number, Reading[]>();
    let homeless = false;
    let paused = Number.POSITIVE_INFINITY;
    // Another one first each time: an answer has room for some only, and a batch larger than its part is given for the first alone.
    this.turn = (this.turn + 1) % Math.max(1, this.readings.length);
    for (const reading of [...this.readings.slice(this.turn), ...this.readings.slice(0, this.turn)]) {
      if (reading.pausedUntil > now) {
        paused = Math.min(paused, reading.pausedUntil - now);
        continue;
      }
      const leader = reading.gone ? undefined : this.cluster.leaderOf(reading.topic, reading.partition);
      if (leader === undefined) {
        homeless = true;
        continue;
      }
      const led = leaders.get(leader);
      if (led === undefined) leaders.set(leader, [reading]);
      else led.push(reading);
    }
    if (homeless) void this.look();
    if (leaders.size === 0 && Number.isFinite(paused)) setTimeout(() => this.pump(), paused).unref();
    for (const [leader, readings] of leaders) {
      if (this.busy.has(leader)) continue;
      this.busy.add(leader);
      void this.fetch(leader, readings).finally(() => {
        this.busy.delete(leader);
        this.pump();
      });
    }
  }

  private async fetch(leader: number, readings: readonly Reading[]): Promise<void> {
    const asked = new Map(readings.map((reading) => [keyOf(reading), reading.next]));
    const topics = byTopic(readings).map(({ topic, partitions }) => ({
      topic,
      partitions: partitions.map(({ partition, next }) => ({ partition, offset: next, maxBytes: PARTITION_BYTES })),
    }));
    try {
      const request = fetchFrom((topic, partition) => asked.get(keyOf({ topic, partition })) ?? 0);
      const question = { maxWaitMs: MAX_WAIT_MS, maxBytes: RESPONSE_BYTES, topics };
      const { errorCode, partitions } = await this.cluster.ask(leader, 'fetch', request, question);
      check(errorCode);
      let moved = false;
      for (const fetched of partitions) if (await this.store(fetched, asked.get(keyOf(fetched)))) moved = true;
      if (moved) await this.look();
    } catch (error) {
      if (this.stopped) return;
      if (!(error instanceof TransportError) && !(error instanceof KafkaError)) return this.fail(error);
      this.events.fault(error);
      await this.look();
    }
  }

  /** @returns whether it is led by somebody else now */
  private async store(fetched: FetchedPartition, asked: number | undefined): Promise<boolean> {
    const reading = this.byKey.get(keyOf(fetched));
    if (reading === undefined || reading.next !== asked || this.stopped) return false;
    const error =
      fetched.errorCode === 0 ? undefined : new KafkaError(fetched.errorCode, { topic: fetched.topic, partition: fetched.partition });
    if (error?.type === 'OFFSET_OUT_OF_RANGE') {
      await this.comeBack(reading);
      return false;
    }
    if (isLeaderMove(error?.type)) return true;
    if (error !== undefined) {
      reading.pausedUntil = performance.now() + UNREADABLE_MS;
      this.events.fault(error);
      return false;
    }
    reading.end = fetched.lastStable;
    reading.next = fetched.next;
    if (fetched.records.length > 0) {
      // Pushing tens of thousands at once as arguments would break the stack.
      reading.records =
        reading.records.length === reading.taken ? fetched.records : [...reading.records.slice(reading.taken), ...fetched.records];
      reading.taken = 0;
      this.buffered += fetched.records.length;
      this.changed.resolve();
    }
    if (fetched.unreadable !== undefined) {
      reading.pausedUntil = performance.now() + UNREADABLE_MS;
      this.events.notice(
        `${reading.topic}, partition ${reading.partition}: what comes at offset ${fetched.next} cannot be read (${fetched.unreadable}); it is tried again, and nothing after it is read before that: look at the broker’s disk, or have it written with gzip, zstd or no compression`,
      );
    }
    return false;
  }

  /** Our place is not there: too old, and dropped by retention; or beyond the end, of a topic that was made again. */
  private async comeBack(reading: Reading): Promise<void> {
    const start = (await boundsOf(this.cluster, 'start', [reading])).get(keyOf(reading)) ?? 0;
    const place = `${reading.topic}, partition ${reading.partition}`;
    if (start > reading.next)
      this.events.notice(
        `${place}: retention dropped ${start - reading.next} messages that were still to be handled: keep them longer (retention.ms), or catch up faster`,
      );
    else this.events.notice(`${place}: offset ${reading.next} is not there any more, the topic was made again: reading from its start`);
    reading.next = start;
  }

  /** Asks who leads what by now, until all is settled. */
  private async look(): Promise<void> {
    if (this.looking || this.stopped) return;
    this.looking = true;
    try {
      await sleep(100);
      const topics = [...new Set(this.readings.map(({ topic }) => topic))];
      const there = await this.cluster.refresh(topics);
      for (const reading of this.readings) {
        const exists = there.has(reading.topic);
        if (reading.gone && exists) return this.fail(new Resync(`the topic ${reading.topic} was deleted and made again`));
        reading.gone = !exists;
      }
    } catch (error) {
      if (!this.stopped) this.events.fault(error);
      await sleep(200);
    } finally {
      this.looking = false;
      // Not at once: where a leader is missing this would come straight back here.
      setTimeout(() => this.pump(), 100).unref();
    }
  }

  private fail(error: unknown): void {
    this.failure = error;
    this.changed.resolve();
  }
}
