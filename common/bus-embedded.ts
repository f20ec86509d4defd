/**
 * The embedded bus: `Bus` over the SQLite log, without any infrastructure.
 *
 * Commits are collected: whatever is waiting when the event loop turns goes into one transaction, so that many small appends cost one
 * wait for the disk. A consumer takes the topics of its group that nobody else of the group has in hand, lets the stage handle a batch
 * and commits outcome and position together. Other processes may use the same file: a position that another process has moved
 * meanwhile makes our outcome void, and the batch is read again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus, Delivered, Message, Outcome, Stage } from './bus.ts';
import { HEADER } from './bus.ts';
import { messageOf } from './errors.ts';
import { Log, type LogRow, type Retention } from './log.ts';
import type { TopicSet } from './topics.ts';

export interface EmbeddedBusOptions {
  file: string;
  retention?: Retention;
  /** Told when a stage threw and its batch will come again, and when retention dropped messages that nobody had read. */
  onFault?: (message: string) => void;
  /** Most messages handed to a stage at once. */
  batch?: number;
}

interface Pending {
  work: () => unknown;
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
}

interface Group {
  /** Topics with messages to handle, and the position of each topic that the group has met. */
  ready: Set<number>;
  positions: Map<number, number>;
  claimed: Set<number>;
  /** What its consumers read. */
  readonly sets: Set<TopicSet>;
}

class PositionMoved extends Error {}

/** Of values in a batch: one of large records must not be a backlog of gigabytes in memory. */
const BATCH_BYTES = 16 * 2 ** 20;
const WATCH_MS = 20;
const RETAIN_MS = 30_000;

export class EmbeddedBus implements Bus {
  readonly log: Log;
  private readonly options: Required<EmbeddedBusOptions>;
  private readonly groups = new Map<string, Group>();
  private readonly topics = new Map<number, string>();
  private readonly waiting = new Set<() => void>();
  private pending: Pending[] = [];
  private newest = 0;
  private dataVersion: unknown;
  private closed = false;
  private readonly timers: NodeJS.Timeout[];

  constructor(options: EmbeddedBusOptions) {
    this.options = { retention: { maxBytes: 2 ** 30, maxAgeMs: 3 * 86_400_000 }, onFault: () => {}, batch: 500, ...options };
    this.log = new Log(options.file);
    for (const { id, name } of this.log.topics()) this.topics.set(id, name);
    this.newest = this.log.newest();
    this.dataVersion = this.log.db.pragma('data_version', { simple: true });
    this.timers = [setInterval(() => this.watch(), WATCH_MS), setInterval(() => this.retain(), RETAIN_MS)];
    for (const timer of this.timers) timer.unref();
  }

  async append(messages: Message[]): Promise<void> {
    if (messages.length === 0) return;
    await this.commit(() => this.log.append(messages, Date.now()));
  }

  /**
   * Appends what has not arrived before, by `(ndt-agent, ndt-seq)`; messages without a sequence number are always new.
   * Resolves when durable, with the messages that were new.
   */
  async ingest(messages: Message[]): Promise<Message[]> {
    return await this.commit(() => {
      const fresh = messages.filter(({ headers }) => {
        const agent = headers[HEADER.agent];
        const seq = headers[HEADER.seq];
        return agent === undefined || seq === undefined || this.log.seen.add(agent, Number(seq));
      });
      this.log.append(fresh, Date.now());
      return fresh;
    });
  }

  async consume(group: string, topics: TopicSet, stage: Stage, signal: AbortSignal): Promise<void> {
    const state = this.group(group);
    state.sets.add(topics);
    stage.restore?.(this.log.state(group));
    let pause = 50;
    const rest = async (error: unknown, what: string) => {
      this.options.onFault(`${group}: ${messageOf(error)}; ${what}`);
      await sleep(pause, undefined, { signal }).catch(() => {});
      pause = Math.min(pause * 2, 5000);
    };
    let restored = true;
    while (!signal.aborted && !this.closed) {
      let claim: ReturnType<EmbeddedBus['claim']>;
      try {
        if (!restored) stage.restore?.(this.log.state(group));
        restored = true;
        claim = this.claim(group, state, topics);
      } catch (error) {
        await rest(error, 'reading is tried again');
        continue;
      }
      if (claim.batch.length === 0) {
        await this.change(signal);
        continue;
      }
      try {
        const outcome = await stage.handle(claim.batch);
        await this.commit(() => this.settle(group, claim.next, outcome));
        for (const [topic, { next }] of claim.next) state.positions.set(topic, next);
        pause = 50;
      } catch (error) {
        // Nothing of the outcome is in the log: a bus opened anew gives the batch again.
        if (this.closed) return;
        for (const topic of claim.next.keys()) state.positions.delete(topic);
        restored = false;
        if (!(error instanceof PositionMoved)) await rest(error, `the same ${claim.batch.length} messages are tried again`);
      } finally {
        for (const topic of claim.next.keys()) {
          state.claimed.delete(topic);
          state.ready.add(topic);
        }
        this.wake();
      }
    }
  }

  /** Messages that each group has still to handle, by topic. */
  lag(): Array<{ group: string; topic: string; lag: number }> {
    const begun = this.log.lag();
    const fresh = [...this.topics].flatMap(([id, topic]) =>
      this.newcomers({ id, name: topic }).map((group) => ({ group, topic, lag: this.log.count(id) })),
    );
    return [...begun, ...fresh];
  }

  async close(): Promise<void> {
    if (this.closed) return;
    for (const timer of this.timers) clearInterval(timer);
    this.flush();
    this.closed = true;
    this.wake();
    this.log.close();
  }

  /** Queues work for the next transaction. */
  private commit<T>(work: () => T): Promise<T> {
    if (this.closed) return Promise.reject(new Error('the bus is closed'));
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.pending.push({ work, resolve: (value) => resolve(value as T), reject });
    if (this.pending.length === 1) setImmediate(() => this.flush());
    return promise;
  }

  private flush(): void {
    const pending = this.pending;
    if (pending.length === 0 || this.closed) return;
    this.pending = [];
    // A unit that fails is taken back alone (a savepoint each); a commit that fails takes all of them back.
    const done: Array<() => void> = [];
    try {
      this.log.transaction(() => {
        for (const { work, resolve, reject } of pending) {
          try {
            const value = this.log.part(work);
            done.push(() => resolve(value));
          } catch (error) {
            // A full disk ends the whole transaction: what is left must not be written outside of it.
            if (!this.log.db.inTransaction) throw error;
            done.push(() => reject(error));
          }
        }
      });
    } catch (error) {
      for (const { reject } of pending) reject(error);
      return;
    }
    for (const settle of done) settle();
    this.look(() => this.refresh());
  }

  private settle(group: string, next: Map<number, { from: number; next: number }>, outcome: Outcome | undefined): void {
    for (const [topic, { from, next: to }] of next) {
      if (this.log.position(group, topic) !== from) throw new PositionMoved();
      this.log.setPosition(group, topic, to);
    }
    if (outcome?.append !== undefined) this.log.append(outcome.append, Date.now());
    if (outcome?.state !== undefined) this.log.setState(group, outcome.state);
  }

  private group(name: string): Group {
    let group = this.groups.get(name);
    if (group === undefined) {
      group = { ready: new Set(this.topics.keys()), positions: new Map(), claimed: new Set(), sets: new Set() };
      this.groups.set(name, group);
    }
    return group;
  }

  /** Takes topics with messages, up to a batch of them. */
  private claim(name: string, group: Group, topics: TopicSet): { batch: Delivered[]; next: Map<number, { from: number; next: number }> } {
    const batch: Delivered[] = [];
    let bytes = 0;
    const next = new Map<number, { from: number; next: number }>();
    for (const topic of group.ready) {
      const room = this.options.batch - batch.length;
      if (room <= 0 || bytes >= BATCH_BYTES) break;
      const topicName = this.topics.get(topic);
      if (topicName === undefined || group.claimed.has(topic) || !topics.matches(topicName)) continue;
      const from = group.positions.get(topic) ?? this.log.position(name, topic);
      let rows: LogRow[];
      try {
        rows = this.log.read(topic, topicName, from, room, BATCH_BYTES - bytes);
      } catch (error) {
        for (const claimed of next.keys()) group.claimed.delete(claimed);
        throw error;
      }
      const last = rows.at(-1);
      if (last === undefined) {
        group.ready.delete(topic);
        group.positions.set(topic, from);
        continue;
      }
      next.set(topic, { from, next: last.offset + 1 });
      group.claimed.add(topic);
      for (const { offset, ...row } of rows) {
        bytes += row.value.length;
        batch.push({ ...row, partition: 0, offset: String(offset) });
      }
    }
    // Fair to all topics: what was read now comes last next time.
    for (const topic of next.keys()) group.ready.delete(topic);
    return { batch, next };
  }

  /** Learns of new messages, ours or another process's, and wakes the consumers. */
  private refresh(): void {
    const heads = this.log.headsAfter(this.newest);
    this.dataVersion = this.log.db.pragma('data_version', { simple: true });
    if (heads.length === 0) return;
    if (heads.some(({ topic }) => !this.topics.has(topic))) for (const { id, name } of this.log.topics()) this.topics.set(id, name);
    for (const { topic, head } of heads) {
      this.newest = Math.max(this.newest, head);
      for (const group of this.groups.values()) group.ready.add(topic);
    }
    this.wake();
  }

  private watch(): void {
    if (this.closed) return;
    this.look(() => {
      if (this.log.db.pragma('data_version', { simple: true }) === this.dataVersion) return;
      // Another process wrote: positions may have moved as well.
      for (const group of this.groups.values())
        for (const topic of [...group.positions.keys()]) if (!group.claimed.has(topic)) group.positions.delete(topic);
      this.refresh();
    });
  }

  /** Nobody would catch what is thrown here, and the next look may do. */
  private look(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.dataVersion = undefined;
      this.options.onFault(`looking for new messages failed: ${messageOf(error)}`);
    }
  }

  /** Groups of this process that read a topic and have handled nothing of it yet: they have no position there. */
  private newcomers({ id, name }: { id: number; name: string }): string[] {
    return [...this.groups]
      .filter(([group, { sets }]) => [...sets].some((set) => set.matches(name)) && !this.log.hasPosition(group, id))
      .map(([group]) => group);
  }

  private retain(): void {
    if (this.closed) return;
    try {
      const awaited = (topic: { id: number; name: string }) => this.newcomers(topic).length > 0;
      const { unread } = this.log.transaction(() => this.log.retain(this.options.retention, Date.now(), undefined, awaited));
      if (unread > 0)
        this.options.onFault(`retention dropped ${unread} messages that a group had still to handle: it is far behind, or gone`);
    } catch (error) {
      this.options.onFault(`retention failed: ${messageOf(error)}`);
    }
  }

  private wake(): void {
    const waiting = [...this.waiting];
    this.waiting.clear();
    for (const resolve of waiting) resolve();
  }

  private change(signal: AbortSignal): Promise<void> {
    if (signal.aborted || this.closed) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        this.waiting.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      this.waiting.add(done);
      signal.addEventListener('abort', done, { once: true });
    });
  }
}
