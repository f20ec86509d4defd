/** Reading a request's parameters, and the answer when one is wrong: RFC 9457 problem details that name it and say what is expected. */
import { STATUS_CODES } from 'node:http';
import { METRIC_NAMES, METRICS, type Metric, metricOf, type StoredStage } from './figures.ts';
import type { Cursor } from './history.ts';

export class Problem extends Error {
  readonly status: number;
  readonly parameter: string | undefined;

  constructor(status: number, detail: string, parameter?: string) {
    super(detail);
    this.name = 'Problem';
    this.status = status;
    this.parameter = parameter;
  }

  toJSON(): ProblemDetails {
    return {
      type: 'about:blank',
      title: STATUS_CODES[this.status] ?? 'Error',
      status: this.status,
      detail: this.message,
      ...(this.parameter === undefined ? {} : { parameter: this.parameter }),
    };
  }
}

export interface ProblemDetails {
  type: 'about:blank';
  title: string;
  status: number;
  detail: string;
  parameter?: string;
}

const SECONDS = /^\d{1,10}(?:\.\d{1,9})?$/;
const ISO = /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2})?)(?:[.,](\d{1,9}))?(Z|[+ -]\d{2}:?\d{2}))?$/i;
const CURSOR = /^(\d{1,16})-(\d{1,16})$/;
const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|min|h|d)?$/;
const UNIT_MICROS: { readonly [unit: string]: number } = { ms: 1e3, s: 1e6, m: 6e7, min: 6e7, h: 3.6e9, d: 8.64e10 };

/** Unix seconds (fraction allowed) or ISO 8601 with its zone, to Unix µs; undefined when it is neither. */
export function parseTime(text: string): number | undefined {
  if (SECONDS.test(text)) return Math.round(Number(text) * 1e6);
  const match = ISO.exec(text);
  if (match === null) return undefined;
  const [, date = '', time = '00:00', fraction = '', zone = 'Z'] = match;
  // JavaScript takes 30 February for 2 March.
  const day = Date.parse(`${date}T00:00Z`);
  if (Number.isNaN(day) || new Date(day).toISOString().slice(0, 10) !== date) return undefined;
  // A plus sign that nobody escaped arrives as a space.
  const seconds = Date.parse(`${date}T${time}${zone.toUpperCase().replace(' ', '+')}`);
  return Number.isNaN(seconds) ? undefined : seconds * 1000 + Number(fraction.slice(0, 6).padEnd(6, '0'));
}

/** The query of one request. Every method throws a `Problem` that names the parameter. */
export class Query {
  private readonly values: ReadonlyMap<string, string>;

  /** @throws Problem 400 for a parameter that the route does not have, or that is given twice */
  constructor(query: unknown, known: readonly string[]) {
    const values = new Map<string, string>();
    for (const [name, value] of Object.entries(query as { [name: string]: unknown })) {
      if (!known.includes(name)) {
        const has = known.length === 0 ? 'there are no parameters here' : `the parameters here are ${known.join(', ')}`;
        throw new Problem(400, `there is no parameter "${name}": ${has}`, name);
      }
      if (typeof value !== 'string') throw new Problem(400, `${name} is given more than once`, name);
      values.set(name, value);
    }
    this.values = values;
  }

  get(name: string): string | undefined {
    return this.values.get(name);
  }

  required(name: string, expected: string): string {
    const value = this.values.get(name);
    if (value === undefined || value === '') throw new Problem(400, `${name} is missing: expected ${expected}`, name);
    return value;
  }

  metric(): Metric {
    const expected = `one of ${METRIC_NAMES.join(', ')} (or ${METRIC_NAMES.map((m) => METRICS[m].name).join(', ')})`;
    const value = this.required('metric', expected);
    const metric = metricOf(value);
    if (metric === undefined) throw new Problem(400, `metric: expected ${expected}, got "${value}"`, 'metric');
    return metric;
  }

  stage(fallback: StoredStage): StoredStage {
    const value = this.values.get('stage') ?? fallback;
    if (value === 'processed' || value === 'inferred') return value;
    throw new Problem(400, `stage: expected processed or inferred, got "${value}"`, 'stage');
  }

  /** Unix µs. */
  time(name: string): number | undefined {
    const value = this.values.get(name);
    if (value === undefined) return undefined;
    const time = parseTime(value);
    if (time === undefined) {
      throw new Problem(
        400,
        `${name}: expected Unix seconds (1745233635.21) or ISO 8601 with its zone (2025-04-21T11:07:15.21Z), got "${value}"`,
        name,
      );
    }
    return time;
  }

  /** Both ends of [from, to), which must be in order where both are given. */
  range(): { from?: number; to?: number } {
    const from = this.time('from');
    const to = this.time('to');
    if (from !== undefined && to !== undefined) this.ordered(from, to);
    return { ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) };
  }

  ordered(from: number, to: number): void {
    if (to <= from)
      throw new Problem(
        400,
        `to: expected a time after from (${new Date(from / 1000).toISOString()}), got ${new Date(to / 1000).toISOString()}`,
        'to',
      );
  }

  whole(name: string, fallback: number, least: number, most: number): number {
    const value = this.values.get(name);
    if (value === undefined) return fallback;
    const number = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
    if (!(number >= least && number <= most))
      throw new Problem(400, `${name}: expected a whole number from ${least} to ${most}, got "${value}"`, name);
    return number;
  }

  /** Seconds, or a number with a unit (500ms, 10s, 5m, 1h, 1d), to µs. */
  duration(name: string, least: number): number | undefined {
    const value = this.values.get(name);
    if (value === undefined) return undefined;
    const match = DURATION.exec(value);
    const micros = match === null ? Number.NaN : Math.round(Number(match[1]) * (UNIT_MICROS[match[2] ?? 's'] ?? Number.NaN));
    if (!(micros >= least && micros <= 366 * 8.64e10)) {
      throw new Problem(
        400,
        `${name}: expected seconds, or a duration such as 10s, 5m or 1h, from ${least / 1e6} s to 366 d, got "${value}"`,
        name,
      );
    }
    return micros;
  }

  cursor(name: 'before' | 'after'): Cursor | undefined {
    const value = this.values.get(name);
    if (value === undefined) return undefined;
    const match = CURSOR.exec(value);
    if (match === null)
      throw new Problem(400, `${name}: expected a cursor of an earlier answer (or 0-0, the beginning), got "${value}"`, name);
    return { at: Number(match[1]), id: Number(match[2]) };
  }
}
