/** Publishes metrics of containers, round after round, from Prometheus to the bus (contract 5). */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus, Message } from '../../common/bus.ts';
import { type Loaded, pathOf } from '../../common/config.ts';
import { messageOf, NdtError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Metrics } from '../../common/metrics.ts';
import { ensureDir, lockDir } from '../../common/sqlite.ts';
import { Faults } from './faults.ts';
import { type Measures, podMeasures } from './measures.ts';
import type { PodMessage } from './messages.ts';
import { type Plan, planOf } from './plan.ts';
import { Prometheus } from './prometheus.ts';
import { Round, type RoundResult } from './round.ts';
import { wantedSpan } from './spans.ts';
import { type Ends, readEnds, writeEnds } from './state.ts';

export interface PodsOptions {
  loaded: Loaded;
  /** Without one, nothing is published and nothing remembered: `round` gives back what it would have been. */
  bus?: Pick<Bus, 'append'>;
  metrics: Metrics;
  log: Logger;
}

interface Due {
  metric: string;
  messages: Message[];
  endMs: number;
  done: (error?: unknown) => void;
}

const END_MS = 1500;

export class PodsPublisher {
  /** How the last round went. */
  lastResult: RoundResult | undefined;
  private readonly bus: Pick<Bus, 'append'> | undefined;
  private readonly log: Logger;
  private readonly faults: Faults;
  private readonly measures: Measures;
  private readonly dir: string;
  private readonly stateFile: string;
  private topic: string;
  private plan: Plan;
  private prometheus: Prometheus;
  private ends: Ends = new Map();
  private restored = false;
  private first = 0;
  private current: Promise<Message[]> | undefined;
  private due: Due[] = [];
  private publishing: Promise<void> | undefined;

  /** @throws NdtError CONFIG where the section `pods` cannot be used */
  constructor({ loaded, bus, metrics, log }: PodsOptions) {
    this.plan = planOf(loaded.config.pods);
    this.prometheus = new Prometheus(loaded);
    this.topic = loaded.config.pods.topic;
    this.bus = bus;
    this.log = log;
    this.faults = new Faults(log);
    this.measures = podMeasures(metrics);
    this.dir = `${pathOf(loaded, loaded.config.data_dir)}/aggregator`;
    this.stateFile = `${this.dir}/pods.json`;
    metrics.onCollect(() => {
      const ends = this.plan.metrics.map(({ name }) => this.ends.get(name)).filter((end) => end !== undefined);
      if (ends.length > 0) this.measures.behind.set(Math.max(0, Date.now() - Math.min(...ends)) / 1000);
    });
  }

  /** Another configuration, from the next round on. @throws NdtError CONFIG, and stays with the old one */
  configure(loaded: Loaded): void {
    const plan = planOf(loaded.config.pods);
    const prometheus = new Prometheus(loaded);
    const old = this.prometheus;
    this.plan = plan;
    this.prometheus = prometheus;
    this.topic = loaded.config.pods.topic;
    void (this.current ?? Promise.resolve([])).catch(() => {}).then(() => old.close());
  }

  /**
   * Round after round until the signal aborts. A round that takes longer than the interval is followed by the next at once, which asks
   * for the time since.
   * @throws NdtError at once, so that a program can refuse to start: UNAVAILABLE where another publisher runs on this data folder,
   * CANNOT_CREATE where the folder cannot be used
   */
  run(signal: AbortSignal): Promise<void> {
    return this.rounds(signal, lockDir(this.dir, 'pods'));
  }

  /** Why pods' metrics do not go through at the moment; empty when they do. */
  troubles(): string[] {
    return this.lastResult === 'failed' ? ['the last round got nothing from Prometheus, or could publish nothing'] : [];
  }

  private async rounds(signal: AbortSignal, unlock: () => void): Promise<void> {
    try {
      while (!signal.aborted) {
        await this.round(Date.now(), signal);
        await sleep(this.pauseMs(Date.now()), undefined, { signal });
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      // What is being published is remembered as well, if that takes no longer than a moment.
      await Promise.race([this.publishing, sleep(END_MS, undefined, { ref: false })]);
      this.prometheus.close();
      unlock();
    }
  }

  /**
   * Asks, publishes and remembers. While a round is running, gives that one back: rounds never overlap.
   * @param nowMs Unix ms
   * @returns the messages, as far as they were published
   */
  round(nowMs: number, signal: AbortSignal = new AbortController().signal): Promise<Message[]> {
    this.current ??= this.oneRound(nowMs, signal).finally(() => {
      this.current = undefined;
    });
    return this.current;
  }

  /** Rounds lie on whole multiples of the interval, behind the delay, so that each finds as many new values as the last. */
  private pauseMs(nowMs: number): number {
    const { intervalMs, delayMs } = this.plan;
    const next = (Math.floor((nowMs - delayMs) / intervalMs) + 1) * intervalMs + delayMs;
    // Timers may be a moment early.
    return Math.ceil(next - nowMs) + 1;
  }

  private async oneRound(nowMs: number, signal: AbortSignal): Promise<Message[]> {
    if (this.bus !== undefined) {
      if (!this.restored) this.restore();
      this.begin(nowMs);
    }
    const started = performance.now();
    const published: Message[] = [];
    const { plan, prometheus, ends, measures, faults, first } = this;
    const round = new Round({
      plan,
      prometheus,
      ends,
      nowMs,
      first,
      measures,
      faults,
      signal,
      publish: async (metric, podMessages, endMs) => {
        const messages = podMessages.map((message) => this.messageOf(message));
        await this.publish(metric, messages, endMs, signal);
        for (const message of messages) published.push(message);
      },
    });
    const { result, next } = await round.run();
    this.first = next;
    this.lastResult = result;
    measures.rounds.inc({ result });
    measures.duration.observe((performance.now() - started) / 1000);
    if (result === 'ok' || result === 'nothing_new') measures.lastSuccess.set(Date.now() / 1000);
    this.log.debug({ result, messages: published.length, ms: Math.round(performance.now() - started) }, 'pods: round');
    return published;
  }

  /** @throws NdtError CANNOT_CREATE */
  private restore(): void {
    ensureDir(this.dir);
    const { ends, trouble } = readEnds(this.stateFile);
    if (trouble !== undefined) {
      this.log.warn(`pods: ${trouble}: publishing starts anew from now, the time since the last round is not made up for`);
    }
    // The file of another list may name metrics that are no longer asked for: they would count as far behind for ever.
    const names = new Set(this.plan.metrics.map(({ name }) => name));
    for (const [name, end] of ends) if (names.has(name)) this.ends.set(name, end);
    this.restored = true;
  }

  /** Where new metrics begin is in the file before anything of them is on the bus: a kill in their first round makes no hole. */
  private begin(nowMs: number): void {
    const { stepMs, windowMs, delayMs, maxCatchUpMs } = this.plan;
    const fresh = this.plan.metrics.filter(({ name }) => !this.ends.has(name));
    const { span } = wantedSpan(undefined, { nowMs: nowMs - delayMs, stepMs, lookbackMs: windowMs, maxCatchUpMs });
    if (fresh.length === 0 || span === undefined) return;
    for (const { name } of fresh) this.ends.set(name, span.startMs - stepMs);
    this.save();
  }

  private messageOf(message: PodMessage): Message {
    return { topic: this.topic, key: message.container_id, headers: {}, value: Buffer.from(JSON.stringify(message)) };
  }

  /** Resolves when the messages are durable on the bus and the new end is in the file. */
  private async publish(metric: string, messages: Message[], endMs: number, signal: AbortSignal): Promise<void> {
    if (this.bus === undefined) {
      this.measures.messages.inc({}, messages.length);
      return;
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.due.push({ metric, messages, endMs, done: (error) => (error === undefined ? resolve() : reject(error)) });
    this.publishing ??= this.publishDue(this.bus);
    // Kafka may be away for as long as it likes; a program that is to end does not wait for it.
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    try {
      signal.throwIfAborted();
      await Promise.race([promise, aborted.promise]);
    } finally {
      promise.catch(() => {});
      signal.removeEventListener('abort', abort);
    }
  }

  /** What has come together while the last batch was written goes out, and into the state file, as one. */
  private async publishDue(bus: Pick<Bus, 'append'>): Promise<void> {
    while (this.due.length > 0) {
      const batch = this.due.splice(0);
      let failure: unknown;
      try {
        await this.append(
          bus,
          batch.flatMap(({ messages }) => messages),
        );
        for (const { metric, endMs } of batch) this.ends.set(metric, endMs);
        this.save();
      } catch (error) {
        failure = error ?? new Error('unknown');
      }
      for (const { done } of batch) done(failure);
    }
    // In the same moment as the last look at what is due: what comes later starts anew.
    this.publishing = undefined;
  }

  private async append(bus: Pick<Bus, 'append'>, messages: Message[]): Promise<void> {
    try {
      await bus.append(messages);
      this.faults.clear('publishing');
    } catch (error) {
      // The others are on the bus, and this one will be refused for ever: it must not hold everything up.
      if (!(error instanceof NdtError && error.code === 'DATA')) throw error;
      this.measures.refused.inc();
      this.faults.raise('refused', messageOf(error));
    }
    this.measures.messages.inc({}, messages.length);
  }

  private save(): void {
    try {
      writeEnds(this.stateFile, this.ends);
      this.faults.clear('state');
    } catch (error) {
      this.faults.raise('state', `${messageOf(error)}; until then, a restart would publish again what has been published since`);
    }
  }
}
