/** Reading an answer of `/api/v1/query_range`. */
import { clean, PrometheusError } from './prometheus-error.ts';

export interface Series {
  labels: { [name: string]: string };
  /** Unix ms, and Prometheus' text of the value. */
  values: Array<{ atMs: number; value: string }>;
  /** Native histograms among the values. */
  histograms: number;
}

export interface Answer {
  series: Series[];
  /** Of a partial answer, say: what Prometheus, or what it asks in turn, could not tell. */
  warnings: string[];
}

type Fields = { [name: string]: unknown };
const isObject = (value: unknown): value is Fields => typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * @param base the address, for messages
 * @throws PrometheusError where it is no range of values
 */
export function parseAnswer(base: string, body: string): Answer {
  const foreign = (what: string) =>
    new PrometheusError('not_prometheus', `${base} answers ${what}: is it Prometheus, and pods.prometheus.url right?`);
  let answer: unknown;
  try {
    answer = JSON.parse(body);
  } catch {
    const page = /^\s*</.test(body);
    throw foreign(page ? 'with a page of HTML instead of JSON' : `with something that is no JSON ("${clean(body, 60)}")`);
  }
  if (!isObject(answer) || (answer.status !== 'success' && answer.status !== 'error')) throw foreign('with JSON that is not of its API');
  if (answer.status === 'error') {
    const what = typeof answer.error === 'string' ? clean(answer.error) : 'an error without a reason';
    throw new PrometheusError('query', `${base} answers ("${what}"): mend the query in pods.queries or pods.metrics`);
  }
  const { data } = answer;
  if (!isObject(data) || typeof data.resultType !== 'string') throw foreign('without a result');
  if (data.resultType !== 'matrix') {
    throw new PrometheusError(
      'result_type',
      `${base} answers with a ${clean(data.resultType, 40)} where a matrix was asked for: is something between us and Prometheus that answers itself?`,
    );
  }
  if (!Array.isArray(data.result)) throw foreign('with a result that is no list');
  const series = data.result.map((one: unknown) => {
    const read = isObject(one) ? seriesOf(one) : undefined;
    if (read === undefined) throw foreign(`with a series that cannot be read (${clean(JSON.stringify(one), 100)})`);
    return read;
  });
  const warnings = Array.isArray(answer.warnings) ? answer.warnings.map((text: unknown) => clean(String(text))) : [];
  return { series, warnings };
}

function seriesOf({ metric, values = [], histograms = [] }: Fields): Series | undefined {
  if (!isObject(metric) || !Array.isArray(values) || !Array.isArray(histograms)) return undefined;
  const labels: Series['labels'] = {};
  for (const [name, value] of Object.entries(metric)) {
    if (typeof value !== 'string') return undefined;
    labels[name] = value;
  }
  const read: Series['values'] = [];
  for (const entry of values as unknown[]) {
    if (!Array.isArray(entry)) return undefined;
    const [at, value]: unknown[] = entry;
    const atMs = typeof at === 'number' ? Math.round(at * 1000) : Number.NaN;
    // Further than dates go (ECMA-262 21.4.1.1) there is nothing to write down.
    if (typeof value !== 'string' || !(Math.abs(atMs) <= 8.64e15)) return undefined;
    read.push({ atMs, value });
  }
  return { labels, values: read, histograms: histograms.length };
}
