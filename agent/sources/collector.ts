/** A collector's JSON over HTTP: one router's whole exposition as a raw record, as the seed system's collectors answer it. */
import { addressRemedy, httpUrl, withoutPassword } from '../../common/address.ts';
import type { Router } from '../../common/config.ts';
import { messageOf, NdtError } from '../../common/errors.ts';
import { checkRecord, epochMicros, type MetricFamily, RecordError } from '../../common/record.ts';
import { keepAll, keepMonitored, type Monitored } from '../families.ts';
import { deadlineIn, Fetcher, type FetchOptions } from '../fetch.ts';
import { clean, urlText } from '../fetch-errors.ts';
import { InterfaceFilter } from '../interfaces.ts';
import { type CounterSample, type Source, SourceError, type SourceOptions } from '../source.ts';

export class CollectorSource implements Source {
  readonly name: string;
  private readonly router: Router;
  private readonly options: SourceOptions;
  private readonly filter: InterfaceFilter;
  private readonly fetcher: Fetcher;
  private readonly url: URL;

  /** @throws NdtError CONFIG when the router's address is none */
  constructor(router: Router, options: SourceOptions, tls?: FetchOptions['tls']) {
    const url = httpUrl(router.url);
    if (url === undefined) {
      const given = router.url ?? '';
      const remedy = addressRemedy(given, 'write http://host:port/metrics/r1_9100.json');
      throw new NdtError('CONFIG', `router ${router.name}: "collector_url" ("${withoutPassword(given)}") is not an address: ${remedy}`);
    }
    this.name = router.name;
    this.router = router;
    this.options = options;
    this.filter = new InterfaceFilter(router.interfaces, options.excludeInterfaces);
    this.url = url;
    this.fetcher = new Fetcher({
      name: router.name,
      peer: 'collector',
      accept: 'application/json',
      maxBytes: options.maxResponseBytes,
      clock: options.clock,
      ...(tls === undefined ? {} : { tls }),
    });
  }

  async poll(signal: AbortSignal): Promise<CounterSample> {
    const { families } = this.options;
    return await this.read(signal, families, (found) => keepMonitored(found, families, this.filter, `${this.name}: ${urlText(this.url)}`));
  }

  async collect(signal: AbortSignal): Promise<CounterSample> {
    return await this.read(signal, undefined, (found) => keepAll(found, this.filter));
  }

  close(): void {
    this.fetcher.close();
  }

  private async read(
    signal: AbortSignal,
    want: ReadonlySet<string> | undefined,
    keep: (families: MetricFamily[]) => Monitored,
  ): Promise<CounterSample> {
    const { text, monotonicNs } = await this.fetcher.get(this.url, deadlineIn(this.options.timeoutMs), signal);
    const { families, readAtMicros } = this.parse(text, want);
    return { router: this.router, readAtMicros, monotonicNs, ...keep(families), testMetrics: false };
  }

  private parse(text: string, want: ReadonlySet<string> | undefined): { families: MetricFamily[]; readAtMicros: number } {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw this.notRecord(whatInstead(text) ?? `broken JSON (${clean(messageOf(error), 120)})`);
    }
    try {
      return readCollected(value, want);
    } catch (error) {
      if (!(error instanceof RecordError)) throw error;
      throw this.notRecord(`JSON that is no raw record (${error.message})`);
    }
  }

  private notRecord(what: string): SourceError {
    const remedy =
      'is collector_url the address of a collector (http://collector:9100/metrics/r1_9100.json), or is that an exporter, which "url" is for?';
    return new SourceError('not_metrics', `${this.name}: ${urlText(this.url)} answers ${what}: ${remedy}`);
  }
}

function whatInstead(text: string): string | undefined {
  const start = text.trimStart();
  if (start === '') return 'nothing at all';
  if (start.startsWith('<')) return 'HTML instead of JSON';
  return /^# (HELP|TYPE) /.test(start) ? 'metrics as text instead of JSON' : undefined;
}

/**
 * The families and the time of a collector's record. Collectors leave out what only later stages add, so only what a reading needs has to be
 * there: `epoch_timestamp`, and `metrics` with the wanted families.
 * @throws RecordError with the path of the wrong field
 */
export function readCollected(value: unknown, want?: ReadonlySet<string>): { families: MetricFamily[]; readAtMicros: number } {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new RecordError('', 'expected an object');
  const { epoch_timestamp: epoch, metrics }: { epoch_timestamp?: unknown; metrics?: unknown } = value;
  // Unwanted families are left unchecked; something stands in for them so that an error's path still counts right.
  const unwanted = { name: '', values: [] };
  const checked: unknown = {
    node_exporter: 'collector:0',
    experiment_id: '',
    interfaces: [],
    flag_debug_params: false,
    epoch_timestamp: typeof epoch === 'number' && epoch > 0 ? epoch.toFixed(6) : epoch,
    metrics:
      want === undefined || !Array.isArray(metrics) ? metrics : metrics.map((family: unknown) => (isOf(want, family) ? family : unwanted)),
  };
  checkRecord(checked, 'raw');
  const families = (checked.metrics ?? []).filter((family) => family.name !== '').map(complete);
  return { families, readAtMicros: epochMicros(checked.epoch_timestamp) };
}

function isOf(want: ReadonlySet<string>, family: unknown): boolean {
  return typeof family === 'object' && family !== null && 'name' in family && typeof family.name === 'string' && want.has(family.name);
}

/** Description and type are worth having, but not worth refusing counters for. */
function complete({ name, description, type, values }: MetricFamily): MetricFamily {
  return {
    name,
    description: typeof description === 'string' ? description : '',
    type: typeof type === 'string' ? type : 'untyped',
    values,
  };
}
