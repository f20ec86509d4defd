/**
 * One round: every metric is asked for over the time since its last published end. Metrics do not wait for each other: one whose query
 * fails is behind alone, and makes up for it in a later round.
 *
 * A few metrics are asked for at a time. When that many in a row fail for a reason that is not the query's (nobody answers, say), the
 * rest of the round is left to the next one, which begins with the metrics that were not asked for.
 */
import { messageOf } from '../../common/errors.ts';
import type { Faults } from './faults.ts';
import type { Measures } from './measures.ts';
import { byContainer, DROP_REASONS, type DropReason, lossOf, type PodMessage, podMessages, type Values } from './messages.ts';
import type { Asked, Plan, Query } from './plan.ts';
import type { Prometheus } from './prometheus.ts';
import { PrometheusError } from './prometheus-error.ts';
import { halves, type Span, slices, wantedSpan } from './spans.ts';
import type { Ends } from './state.ts';

export type RoundResult = 'ok' | 'partial' | 'failed' | 'nothing_new';

export interface RoundOptions {
  plan: Plan;
  prometheus: Pick<Prometheus, 'queryRange'>;
  /** What each metric has been published up to; read here, and moved where time is given up. */
  ends: Ends;
  nowMs: number;
  /** The metric to begin with. */
  first: number;
  measures: Measures;
  faults: Faults;
  /** Publishes and then remembers the metric's new end. @throws when it could not */
  publish(metric: string, messages: PodMessage[], endMs: number): Promise<void>;
  signal: AbortSignal;
}

const AT_A_TIME = 4;
/** Most values of one series in a query: a long outage is made up for in several answers rather than in one that is too large. */
const MAX_POINTS = 100;

export class Round {
  private readonly options: RoundOptions;
  /** Answers that more than one metric needs. */
  private readonly shared = new Map<string, Promise<Map<string, Values>>>();
  private readonly drops = new Map<DropReason, { count: number; example: string }>();
  private readonly warnings = new Set<string>();
  private asked = 0;
  private failed = 0;
  private serverFailed = false;
  private clockWentBack = false;
  private missedMs = 0;
  private inARow = 0;
  private series = 0;
  private taken = 0;

  constructor(options: RoundOptions) {
    this.options = options;
  }

  /**
   * @returns how it went, and the metric to begin with next time
   * @throws the signal's reason when that aborts
   */
  async run(): Promise<{ result: RoundResult; next: number }> {
    const { plan, first, signal, faults } = this.options;
    const { metrics } = plan;
    const order = metrics.map((_, i) => metrics[(first + i) % metrics.length]).filter((metric) => metric !== undefined);
    const worker = async () => {
      while (this.inARow < AT_A_TIME) {
        const metric = order[this.taken];
        if (metric === undefined) return;
        this.taken += 1;
        await this.metric(metric);
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, worker));
    signal.throwIfAborted();
    if (this.asked === 0) return { result: 'nothing_new', next: first };
    this.report();
    const left = order.length - this.taken;
    const result = this.failed === 0 ? 'ok' : this.failed + left >= order.length ? 'failed' : 'partial';
    if (!this.serverFailed && left === 0) faults.clear('Prometheus');
    return { result, next: left === 0 ? 0 : (first + this.taken) % metrics.length };
  }

  /** Never throws: what goes wrong is counted and told, and the next metric goes on. */
  private async metric(metric: Asked): Promise<void> {
    const { plan, ends, nowMs, measures, faults, publish, signal } = this.options;
    const { stepMs, windowMs, delayMs, maxCatchUpMs } = plan;
    const { span, missedMs, clockWentBack } = wantedSpan(ends.get(metric.name), {
      nowMs: nowMs - delayMs,
      stepMs,
      lookbackMs: windowMs,
      maxCatchUpMs,
    });
    if (clockWentBack) this.clockWentBack = true;
    if (missedMs > 0) {
      this.missedMs = Math.max(this.missedMs, missedMs);
      measures.missed.inc({}, missedMs / 1000);
      ends.set(metric.name, (span?.startMs ?? nowMs) - stepMs);
    }
    if (span !== undefined) this.asked += 1;
    try {
      for (const slice of span === undefined ? [] : slices(span, stepMs, MAX_POINTS)) {
        for await (const { containers, endMs } of this.answered(metric, slice)) {
          this.inARow = 0;
          await publish(metric.name, podMessages(metric, containers), endMs);
        }
      }
      faults.clear(metric.name);
    } catch (error) {
      if (signal.aborted) return;
      this.failed += 1;
      const reason = error instanceof PrometheusError ? error.reason : 'publish';
      measures.failures.inc({ reason });
      const ofTheQuery = error instanceof PrometheusError && error.ofTheQuery;
      if (!ofTheQuery) {
        this.inARow += 1;
        if (error instanceof PrometheusError) this.serverFailed = true;
      }
      const what = ofTheQuery ? metric.name : reason === 'publish' ? 'publishing' : 'Prometheus';
      // The sentence of ours has its cause in it already.
      const why = error instanceof PrometheusError ? error.message : messageOf(error);
      faults.raise(what, `${why}; the time missed is made up for when it works again`);
    }
  }

  /** The answer over a span; where it would be too large, in ever smaller parts, oldest first. */
  private async *answered(metric: Asked, span: Span): AsyncGenerator<{ containers: Map<string, Values>; endMs: number }> {
    let containers: Map<string, Values>;
    try {
      containers = await this.containers(metric, span);
    } catch (error) {
      const two = error instanceof PrometheusError && error.reason === 'too_large' ? halves(span, this.options.plan.stepMs) : undefined;
      if (two === undefined) throw error;
      for (const half of two) yield* this.answered(metric, half);
      return;
    }
    yield { containers, endMs: span.endMs };
  }

  private async containers(metric: Asked, span: Span): Promise<Map<string, Values>> {
    const [query, total] = metric.queries;
    if (total === undefined) return await this.ask(query, span);
    const [dropped, all] = await Promise.all([this.ask(query, span), this.ask(total, span)]);
    return lossOf(dropped, all);
  }

  private async ask(query: Query, span: Span): Promise<Map<string, Values>> {
    if (!query.shared) return await this.fetch(query, span);
    const key = JSON.stringify([query.text, query.label, span.startMs, span.endMs]);
    const known = this.shared.get(key);
    if (known !== undefined) return await known;
    const asking = this.fetch(query, span);
    this.shared.set(key, asking);
    return await asking;
  }

  private async fetch(query: Query, span: Span): Promise<Map<string, Values>> {
    const { plan, prometheus, measures, signal } = this.options;
    const { series, warnings } = await prometheus.queryRange(query.text, span, plan.stepMs, signal);
    this.series += series.length;
    measures.series.inc({}, series.length);
    measures.warnings.inc({}, warnings.length);
    for (const warning of warnings) this.warnings.add(warning);
    return byContainer(series, query.label, plan.containerPattern, span, (reason, count, example) => {
      measures.dropped.inc({ reason }, count);
      const known = this.drops.get(reason);
      if (known === undefined) this.drops.set(reason, { count, example });
      else known.count += count;
    });
  }

  /** What is odd about the answers, a line for each kind. */
  private report(): void {
    const { faults, plan } = this.options;
    if (this.missedMs === 0) faults.clear('outage');
    else
      faults.raise(
        'outage',
        `${this.missedMs / 1000} s are given up, more was missed than pods.max_catch_up (${plan.maxCatchUpMs / 1000} s)`,
      );
    if (!this.clockWentBack) faults.clear('clock');
    else faults.raise('clock', 'what was published last lies in the future, the clock was set back: publishing starts anew from now');
    for (const [reason, text] of Object.entries(DROP_REASONS) as Array<[DropReason, string]>) {
      const drop = this.drops.get(reason);
      const what = `values left out (${reason})`;
      if (drop === undefined) faults.clear(what);
      else faults.raise(what, `${text}: ${drop.count} in this round, of ${drop.example} for one`);
    }
    const [warning] = this.warnings;
    if (warning === undefined) faults.clear('warnings');
    else faults.raise('warnings', `Prometheus warns that an answer may not be complete ("${warning}"); what is there is published`);
    if (this.failed > 0) return;
    if (this.series > 0) faults.clear('no series');
    else faults.raise('no series', 'Prometheus answers, but has none of the metrics: does it scrape cAdvisor, and does pods.selector fit?');
  }
}
