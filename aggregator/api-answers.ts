/** From what the store knows to what the API answers: names and units as in the OpenAPI document. */

import type { SeqRange } from '../common/dedupe.ts';
import type { Inventory } from '../common/inventory.ts';
import { epochMicros } from '../common/record.ts';
import type { LedgerBody, RouterDetailBody, RoutersBody, SeriesBody } from './api-schemas.ts';
import { type Figures, type Latencies, METRICS, type Metric, type StoredStage } from './figures.ts';
import type { Bucket, Quantiles, RouterState, StoredRecord } from './history.ts';
import { type Account, size } from './ledger.ts';
import { merge } from './live.ts';

type RouterBody = RoutersBody['routers'][number];

const LISTED = 100;

export function routerBody({ router, processed, inferred }: RouterState): RouterBody {
  const latest = merge(processed, inferred);
  if (latest === undefined) throw new Error(`router ${router} has no record`);
  return { router, latest, processed: stageBody(processed), inferred: stageBody(inferred) };
}

function stageBody(figures: Figures | undefined): RouterBody['processed'] {
  if (figures === undefined) return null;
  const { at, rate, length, occupation, power, latency, replayed } = figures;
  return {
    at: at / 1e6,
    rate,
    length,
    occupation,
    power,
    latency: { collected_ms: latency.collected, processed_ms: latency.processed, inferred_ms: latency.inferred },
    replayed,
  };
}

export function latenciesBody(
  windowS: number,
  latencies: { [stage in keyof Latencies]: Quantiles | undefined },
): RouterDetailBody['latencies'] {
  const of = (quantiles: Quantiles | undefined) =>
    quantiles === undefined ? null : { count: quantiles.count, p50_ms: quantiles.p50, p99_ms: quantiles.p99 };
  return { window_s: windowS, collected: of(latencies.collected), processed: of(latencies.processed), inferred: of(latencies.inferred) };
}

/** As the agent told it, with its time as the other answers have theirs. */
export function inventoryBody(inventory: Inventory | undefined): RouterDetailBody['inventory'] {
  if (inventory === undefined) return null;
  const { agent, collected_at, system, os, cpu, memory, interfaces, interfaces_left_out, ndt } = inventory;
  return { at: epochMicros(collected_at) / 1e6, agent, system, os, cpu, memory, interfaces, interfaces_left_out, ndt };
}

export function seriesBody(
  router: string,
  metric: Metric,
  range: { from: number; to: number; step: number },
  buckets: Bucket[],
): SeriesBody {
  const { name, unit } = METRICS[metric];
  return {
    router,
    metric,
    name,
    unit,
    from: range.from / 1e6,
    to: range.to / 1e6,
    step: range.step / 1e6,
    points: buckets.map(({ at, average, least, most, count }) => ({ at: at / 1e6, average, min: least, max: most, count })),
  };
}

/** The answer as text: the records' own JSON goes into it as it is. */
export function recordsText(router: string, stage: StoredStage, records: readonly StoredRecord[]): string {
  const cursors = records.map(({ at, id }) => `${at}-${id}`);
  const [top, bottom] = [records[0], records.at(-1)];
  // Of one time the order of arrival tells.
  const newestFirst = top !== undefined && bottom !== undefined && (top.at - bottom.at || top.id - bottom.id) > 0;
  const [first = null, last = null] = [cursors[0], cursors.at(-1)];
  const [before, after] = newestFirst ? [last, first] : [first, last];
  const entries = records.map(
    ({ at, agent, seq, body }, i) =>
      `{"at":${at / 1e6},"agent":${JSON.stringify(agent)},"seq":${seq},"cursor":${JSON.stringify(cursors[i])},"record":${body}}`,
  );
  const head = `"router":${JSON.stringify(router)},"stage":"${stage}"`;
  return `{${head},"records":[${entries.join(',')}],"before":${JSON.stringify(before)},"after":${JSON.stringify(after)}}`;
}

export function ledgerBody(accounts: readonly Account[]): LedgerBody {
  return {
    agents: accounts.map(({ agent, state, difference, ledger, seen, missing, unexplained, gaps }) => ({
      agent,
      state,
      difference: difference ?? null,
      ledger: ledger === undefined ? null : withoutAgent(ledger),
      received: { records: seen?.received ?? 0, duplicates: seen?.duplicates ?? 0, highest: seen === undefined ? null : seen.highest },
      missing: rangesBody(missing),
      unexplained: rangesBody(unexplained),
      gaps: gaps.slice(-LISTED).map(({ first, last, count, reason, at }) => ({ from: first, to: last, count, reason, at: at / 1000 })),
    })),
  };
}

function withoutAgent({ at, boot, first, last, produced, delivered, pending, dropped, rejected }: NonNullable<Account['ledger']>) {
  return { at: at / 1000, boot, first, last, produced, delivered, pending, dropped, rejected };
}

function rangesBody(ranges: readonly SeqRange[]) {
  return { count: size(ranges), ranges: ranges.slice(0, LISTED).map(({ first, last }) => ({ from: first, to: last })) };
}
