/** From Prometheus' series to contract 5's messages. */
import type { Series } from './answer.ts';
import type { Asked } from './plan.ts';
import type { Span } from './spans.ts';

/** Contract 5: one message per container and metric. */
export interface PodMessage {
  container_id: string;
  metric_type: string;
  data: Array<{ type: string; name: string; timestamp: string; unit: string; value: string }>;
}

/** Values of one container, oldest first: Unix ms to Prometheus' text. */
export type Values = Map<number, string>;

export const DROP_REASONS = {
  nan: 'the value is NaN',
  infinite: 'the value is infinite',
  unreadable: 'the value is no number',
  histogram: 'the value is a native histogram, of which a message can hold none',
  no_container: 'the series has no container id in its label',
  duplicate: 'there is another series of this container: the query has to join them (sum by)',
  out_of_range: 'the value is of a time that was not asked for',
} as const;

export type DropReason = keyof typeof DROP_REASONS;

/** @param drop told of values that no message takes */
export function byContainer(
  series: readonly Series[],
  label: string,
  pattern: RegExp,
  { startMs, endMs }: Span,
  drop: (reason: DropReason, count: number, example: string) => void,
): Map<string, Values> {
  const containers = new Map<string, Values>();
  for (const { labels, values, histograms } of series) {
    const text = labels[label];
    const match = text === undefined ? null : pattern.exec(text);
    const container = match?.[1] ?? match?.[0] ?? '';
    const example = JSON.stringify(labels);
    if (histograms > 0) drop('histogram', histograms, example);
    if (container === '') drop('no_container', values.length, example);
    else if (containers.has(container)) drop('duplicate', values.length, example);
    else {
      const kept: Values = new Map();
      for (const { atMs, value } of values) {
        const reason = atMs < startMs || atMs > endMs ? 'out_of_range' : flawOf(value);
        if (reason === undefined) kept.set(atMs, value);
        else drop(reason, 1, example);
      }
      if (kept.size > 0) containers.set(container, kept);
    }
  }
  return containers;
}

function flawOf(value: string): DropReason | undefined {
  if (value === 'NaN') return 'nan';
  if (/^[+-]?Inf$/.test(value)) return 'infinite';
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value) ? undefined : 'unreadable';
}

/** dropped x 100 / total, 0 when total is 0, where both are known. */
export function lossOf(dropped: Map<string, Values>, total: Map<string, Values>): Map<string, Values> {
  const losses = new Map<string, Values>();
  for (const [container, part] of dropped) {
    const whole = total.get(container);
    const loss: Values = new Map();
    for (const [atMs, value] of part) {
      const of = whole?.get(atMs);
      if (of === undefined) continue;
      const percentage = Number(of) === 0 ? 0 : (Number(value) * 100) / Number(of);
      // Rates of nearly nothing may still overflow.
      if (Number.isFinite(percentage)) loss.set(atMs, plain(percentage));
    }
    if (loss.size > 0) losses.set(container, loss);
  }
  return losses;
}

/** A number as Prometheus writes it: as many digits as it needs, never an exponent. */
export function plain(value: number): string {
  const [mantissa = '', exponent] = String(value).split('e');
  if (exponent === undefined) return mantissa;
  const sign = mantissa.startsWith('-') ? '-' : '';
  const [whole = '', fraction = ''] = mantissa.replace('-', '').split('.');
  const shift = Number(exponent);
  if (shift < 0) return `${sign}0.${'0'.repeat(-shift - whole.length)}${whole}${fraction}`;
  return `${sign}${whole}${fraction.padEnd(shift, '0')}`;
}

export function podMessages({ name, type, unit }: Pick<Asked, 'name' | 'type' | 'unit'>, containers: Map<string, Values>): PodMessage[] {
  return [...containers].map(([container, values]) => ({
    container_id: container,
    metric_type: name,
    data: [...values].map(([atMs, value]) => ({ type, name, timestamp: timestampText(atMs), unit, value })),
  }));
}

/** `2019-02-13T10:14:32.897000Z`: UTC with microseconds. */
export function timestampText(atMs: number): string {
  return new Date(atMs).toISOString().replace('Z', '000Z');
}
