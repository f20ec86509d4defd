/**
 * A small pipeline over Kafka whose every loss, doubling and reordering shows: an uplink sends numbered records of several routers, a
 * stage adds them up router by router (its state), and every sum it writes has to be the sum of all before it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { Entry, Uplink } from '../agent/uplink.ts';
import { createKafkaUplink } from '../agent/uplinks/kafka.ts';
import type { Message, Stage } from '../common/bus.ts';
import type { KafkaBus } from '../common/bus-kafka.ts';
import { topicsOf } from '../common/topics.ts';
import { busOn, configWith } from './kafka-bus.ts';
import { readTopic } from './kcat.ts';
import { until } from './until.ts';

const ROUTERS = 4;

/** A consumer as a process of its own would be: with its own bus. */
export interface Worker {
  bus: KafkaBus;
  stop(): Promise<void>;
}

export class Pipeline {
  readonly faults: string[] = [];
  /** Records sent and confirmed so far. */
  sent = 0;
  private total = 0;
  private readonly name: string;
  private readonly bootstrap: string;
  private readonly kafka: object;
  private readonly uplink: Uplink;
  private readonly workers = new Set<Worker>();
  private readonly sending = new AbortController();
  private sender: Promise<void> | undefined;

  constructor(bootstrap: string, name: string, kafka: object = {}) {
    this.bootstrap = bootstrap;
    this.name = name;
    this.kafka = { timeout: 3, session_timeout: 6, transaction_timeout: 6, ...kafka };
    this.uplink = createKafkaUplink({ loaded: configWith(bootstrap, this.kafka), agentId: name });
  }

  /**
   * Adds a consumer to the group.
   * @param bootstrap where it finds the brokers, the pipeline's own way when missing
   */
  work(bootstrap = this.bootstrap): Worker {
    const bus = busOn(bootstrap, { kafka: this.kafka, onFault: (message) => this.faults.push(message), batch: 200 });
    const running = bus.consume(`sum-${this.name}`, topicsOf(`IN_${this.name}_{router}`), this.stage(), new AbortController().signal);
    const worker = {
      bus,
      stop: async () => {
        this.workers.delete(worker);
        await bus.close();
        await running;
      },
    };
    this.workers.add(worker);
    return worker;
  }

  /** Sends batches until `total` records are confirmed, as the drain would: what is not confirmed goes again. */
  send(total: number, batch = 20, pauseMs = 5): void {
    this.total = total;
    this.sender = (async () => {
      while (this.sent < this.total && !this.sending.signal.aborted) {
        let left = Array.from({ length: Math.min(batch, this.total - this.sent) }, (_, i) => this.entry(this.sent + 1 + i));
        const count = left.length;
        while (left.length > 0 && !this.sending.signal.aborted) {
          try {
            const { acked } = await this.uplink.send(left, this.sending.signal);
            left = left.filter(({ seq }) => !acked.includes(seq));
          } catch {
            await sleep(50);
          }
        }
        if (left.length === 0) this.sent += count;
        await sleep(pauseMs);
      }
    })();
  }

  /** Sends no more than so many, where more were asked for. */
  stopAt(total: number): void {
    this.total = total;
  }

  /** Waits for all of it to come out, and looks at every record. */
  async expectExactlyOnce(total: number, timeoutMs = 60_000): Promise<void> {
    await until(
      () => this.sent >= total,
      `${total} records to be confirmed (${this.sent} are); faults: ${this.faults.slice(-3).join(' | ')}`,
      timeoutMs,
    );
    const seen = await until(
      async () => {
        const records = await readTopic(this.bootstrap, `OUT_${this.name}`).catch(() => []);
        return records.length >= total ? records : undefined;
      },
      `${total} sums; faults: ${this.faults.slice(-3).join(' | ')}`,
      timeoutMs,
    );
    const sums = new Map<string, number>();
    const seqs = new Map<string, number[]>();
    for (const { key, headers, value } of seen) {
      const seq = Number(headers['ndt-seq']);
      seqs.set(key, [...(seqs.get(key) ?? []), seq]);
      sums.set(key, (sums.get(key) ?? 0) + seq);
      expect(JSON.parse(value), `${key} ${seq}`).toEqual({ seq, sum: sums.get(key) });
    }
    for (let router = 0; router < ROUTERS; router += 1) {
      const wanted = Array.from({ length: total }, (_, i) => i + 1).filter((seq) => seq % ROUTERS === router);
      expect(seqs.get(`r${router}`)).toEqual(wanted);
    }
  }

  async close(): Promise<void> {
    this.sending.abort();
    await this.sender;
    await this.uplink.close();
    await Promise.all([...this.workers].map((worker) => worker.stop()));
  }

  private entry(seq: number): Entry {
    const key = `r${seq % ROUTERS}`;
    const headers = { 'ndt-agent': this.name, 'ndt-boot': 'b', 'ndt-seq': String(seq) };
    return { seq, topic: `IN_${this.name}_${key}`, key, headers, body: JSON.stringify({ seq, pad: 'x'.repeat(300) }) };
  }

  private stage(): Stage {
    const sums = new Map<string, number>();
    return {
      restore: (state) => {
        sums.clear();
        for (const [key, value] of state) sums.set(key, Number(value.toString()));
      },
      handle: (batch) => {
        const append: Message[] = [];
        const state = new Map<string, Buffer>();
        for (const { key, headers, value } of batch) {
          const { seq } = JSON.parse(value.toString()) as { seq: number };
          const sum = (sums.get(key ?? '') ?? 0) + seq;
          sums.set(key ?? '', sum);
          state.set(key ?? '', Buffer.from(String(sum)));
          append.push({ topic: `OUT_${this.name}`, key, headers, value: Buffer.from(JSON.stringify({ seq, sum })) });
        }
        return { append, state };
      },
    };
  }
}
