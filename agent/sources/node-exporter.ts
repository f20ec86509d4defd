/**
 * A router's node exporter (or another Prometheus exporter) over HTTP.
 *
 * node_exporter runs only the collectors that a request names, which spares the router most of the work and of the bytes: a poll asks for
 * those that the wanted families come from. Exporters that do not know the parameter ignore it. One that refuses it, or has nothing of what is
 * wanted under it, is asked without it, for an hour: it may be another version by then.
 */
import { addressRemedy, httpUrl, withoutPassword } from '../../common/address.ts';
import type { Router } from '../../common/config.ts';
import { NdtError } from '../../common/errors.ts';
import type { MetricFamily, MetricValue } from '../../common/record.ts';
import { type ExposedFamily, ExpositionError, isOpenMetrics, parseExposition } from '../exposition.ts';
import { keepAll, keepMonitored, type Monitored } from '../families.ts';
import { type Deadline, deadlineIn, Fetcher, type FetchOptions, type Page } from '../fetch.ts';
import { StatusError, urlText } from '../fetch-errors.ts';
import { InterfaceFilter } from '../interfaces.ts';
import { type CounterSample, type Source, SourceError, type SourceOptions } from '../source.ts';

const ACCEPT = 'text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1';

/** How long an exporter that refused the filter is asked without it [ns]. */
const PLAIN_NS = 3_600_000_000_000n;

/** A refusal with one of these has nothing to do with the filter. */
const NOT_ABOUT_FILTER = new Set([401, 429, 503]);

export class NodeExporterSource implements Source {
  readonly name: string;
  private readonly router: Router;
  private readonly options: SourceOptions;
  private readonly filter: InterfaceFilter;
  private readonly fetcher: Fetcher;
  private readonly plain: URL;
  private readonly filtered: URL | undefined;
  /** Names to look for: in OpenMetrics, a counter's family is named without `_total`. */
  private readonly names: ReadonlySet<string>;
  private plainUntilNs = 0n;

  /** @throws NdtError CONFIG when the router's address is none */
  constructor(router: Router, options: SourceOptions, tls?: FetchOptions['tls']) {
    const url = httpUrl(router.url);
    if (url === undefined) {
      const given = router.url ?? '';
      const remedy = addressRemedy(given, 'write http://host:9100/metrics');
      throw new NdtError('CONFIG', `router ${router.name}: "url" ("${withoutPassword(given)}") is not an address: ${remedy}`);
    }
    this.name = router.name;
    this.router = router;
    this.options = options;
    this.filter = new InterfaceFilter(router.interfaces, options.excludeInterfaces);
    this.plain = url;
    this.filtered = withCollectors(this.plain, options.families);
    this.names = new Set([...options.families].flatMap((name) => [name, name.replace(/_total$/, '')]));
    this.fetcher = new Fetcher({
      name: router.name,
      peer: 'exporter',
      accept: ACCEPT,
      maxBytes: options.maxResponseBytes,
      clock: options.clock,
      ...(tls === undefined ? {} : { tls }),
    });
  }

  async poll(signal: AbortSignal): Promise<CounterSample> {
    const { families } = this.options;
    const { page, found } = await this.read(signal);
    return this.sample(page, keepMonitored(found, families, this.filter, `${this.name}: ${urlText(this.plain)}`));
  }

  async collect(signal: AbortSignal): Promise<CounterSample> {
    const page = await this.fetcher.get(this.plain, deadlineIn(this.options.timeoutMs), signal);
    return this.sample(page, keepAll(this.parse(page, this.plain), this.filter));
  }

  close(): void {
    this.fetcher.close();
  }

  private sample(page: Page, kept: Monitored): CounterSample {
    const { readAtMicros, monotonicNs } = page;
    return { router: this.router, readAtMicros, monotonicNs, ...kept, testMetrics: false };
  }

  /** The wanted families, filtered by the exporter if it does that. */
  private async read(signal: AbortSignal): Promise<{ page: Page; found: MetricFamily[] }> {
    const deadline = deadlineIn(this.options.timeoutMs);
    const { monotonicNs } = this.options.clock;
    if (this.filtered === undefined || monotonicNs() < this.plainUntilNs) return await this.get(this.plain, deadline, signal);
    const answer = await this.get(this.filtered, deadline, signal).catch((error: unknown) => {
      if (error instanceof StatusError ? error.status >= 400 && !NOT_ABOUT_FILTER.has(error.status) : isNotMetrics(error)) return undefined;
      throw error;
    });
    if (answer?.found.some((family) => this.options.families.has(family.name))) return answer;
    const whole = await this.get(this.plain, deadline, signal);
    this.plainUntilNs = monotonicNs() + PLAIN_NS;
    return whole;
  }

  private async get(url: URL, deadline: Deadline, signal: AbortSignal): Promise<{ page: Page; found: MetricFamily[] }> {
    const page = await this.fetcher.get(url, deadline, signal);
    return { page, found: this.parse(page, url, this.names) };
  }

  private parse(page: Page, url: URL, want?: ReadonlySet<string>): MetricFamily[] {
    const { text } = page;
    // Of a value that is cut short, the rest still looks like a number.
    if (!page.framed && text !== '' && !text.endsWith('\n')) {
      throw new SourceError(
        'unreadable',
        `${this.name}: the answer of ${urlText(url)} ends in the middle of a line: look into the exporter's log`,
      );
    }
    try {
      const openMetrics = isOpenMetrics(text);
      return parseExposition(text, want).map((family) => plainFamily(family, openMetrics));
    } catch (error) {
      if (!(error instanceof ExpositionError)) throw error;
      throw new SourceError('not_metrics', `${this.name}: ${urlText(url)} answers no metrics: ${error.message}`);
    }
  }
}

function isNotMetrics(error: unknown): boolean {
  return error instanceof SourceError && error.reason === 'not_metrics';
}

/** A family as records have it: no timestamps and exemplars; OpenMetrics' counters as they are in the text format. */
function plainFamily(exposed: ExposedFamily, openMetrics: boolean): MetricFamily {
  const { description, type } = exposed;
  const counter = openMetrics && type === 'counter';
  const name = counter && !exposed.name.endsWith('_total') ? `${exposed.name}_total` : exposed.name;
  const values: MetricValue[] = [];
  for (const { name: own = name, labels, value } of exposed.values) {
    if (own === name) values.push({ labels, value });
    // When a counter began is no value of it.
    else if (!counter || !own.endsWith('_created')) values.push({ name: own, labels, value });
  }
  return { name, description, type, values };
}

/**
 * The address that asks node_exporter only for the collectors behind the families; undefined where these come from others as well, or where
 * the address chooses collectors itself.
 */
export function withCollectors(url: URL, families: Iterable<string>): URL | undefined {
  if (/[?&](collect|exclude)(\[\]|%5b%5d)=/i.test(url.search)) return undefined;
  const collectors = new Set<string>();
  for (const family of families) {
    if (/^node_network_(receive|transmit)_\w+_total$/.test(family)) collectors.add('netdev');
    else if (family.startsWith('node_network_')) collectors.add('netclass');
    else return undefined;
  }
  if (collectors.size === 0) return undefined;
  const filtered = new URL(url);
  const asked = [...collectors].map((collector) => `collect%5B%5D=${collector}`).join('&');
  filtered.search = url.search.length > 1 ? `${url.search}&${asked}` : asked;
  return filtered;
}
