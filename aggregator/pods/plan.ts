/** What is asked for and how, worked out of the configuration. */
import { NdtError } from '../../common/errors.ts';
import type { Config } from '../../common/schema.ts';
import { DEFAULT_METRICS, type PodMetric } from './default-metrics.ts';
import { prometheusMs } from './duration.ts';

export interface Query {
  /** PromQL */
  text: string;
  /** The label that holds the container's id. */
  label: string;
  /** More than one metric needs its answer. */
  shared: boolean;
}

export interface Asked {
  name: string;
  type: string;
  unit: string;
  /** Its own query; for a loss, that of what was dropped and that of everything. */
  queries: readonly [Query] | readonly [dropped: Query, total: Query];
}

export interface Plan {
  metrics: Asked[];
  containerPattern: RegExp;
  stepMs: number;
  windowMs: number;
  intervalMs: number;
  delayMs: number;
  maxCatchUpMs: number;
}

/** @throws NdtError CONFIG naming the option */
export function planOf(settings: Config['pods']): Plan {
  const entries = settings.metrics ?? DEFAULT_METRICS;
  const wrong = (i: number, text: string) => new NdtError('CONFIG', `pods.metrics[${i}]: ${text}`);
  const byName = new Map<string, PodMetric>();
  const needed = new Set<string>();
  entries.forEach((entry, i) => {
    if (byName.has(entry.name)) throw wrong(i, `${entry.name} stands in the list twice: leave one of them out`);
    byName.set(entry.name, entry);
    if (entry.dropped !== undefined) needed.add(entry.dropped);
    if (entry.total !== undefined) needed.add(entry.total);
  });
  const queryOf = (entry: PodMetric): Query => {
    const label = entry.label ?? settings.container_label;
    const kind = entry.query ?? (entry.type === 'counter' ? 'rate' : 'average');
    const template = kind === 'rate' || kind === 'average' ? settings.queries[kind] : kind;
    const places: { [name: string]: string } = { metric: entry.name, selector: settings.selector, window: settings.window, label };
    const text = template.replace(/\{(metric|selector|window|label)\}/g, (_, name: string) => places[name] ?? '');
    return { text, label, shared: needed.has(entry.name) };
  };
  const metrics = entries.map((entry, i): Asked => {
    const { name, type, unit, dropped, total } = entry;
    if (dropped === undefined && total === undefined) return { name, type, unit, queries: [queryOf(entry)] };
    if (dropped === undefined || total === undefined) throw wrong(i, `${name} needs both dropped and total: set the missing one`);
    const part = (option: string, source: string): Query => {
      const found = byName.get(source);
      if (found === undefined || found.dropped !== undefined)
        throw wrong(i, `${option} of ${name} is "${source}", expected a metric of this list that is asked for: add it`);
      return queryOf(found);
    };
    if (entry.query !== undefined) throw wrong(i, `${name} has a query and dropped: it is either asked for or worked out, remove one`);
    return { name, type, unit, queries: [part('dropped', dropped), part('total', total)] };
  });
  return {
    metrics,
    containerPattern: patternOf(settings.container_pattern),
    stepMs: durationOf('step', settings.step),
    windowMs: durationOf('window', settings.window),
    intervalMs: settings.interval * 1000,
    delayMs: settings.delay * 1000,
    maxCatchUpMs: settings.max_catch_up * 1000,
  };
}

function patternOf(text: string): RegExp {
  try {
    return new RegExp(text, 'u');
  } catch {
    throw new NdtError('CONFIG', `pods.container_pattern: "${text}" is no regular expression: mend it, or remove it for the default`);
  }
}

function durationOf(option: 'step' | 'window', text: string): number {
  const ms = prometheusMs(text);
  if (ms === undefined) throw new NdtError('CONFIG', `pods.${option}: expected a duration of at least 1ms such as 20s, got "${text}"`);
  return ms;
}
