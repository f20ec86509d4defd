/** The collector's side of the agent: a router's whole exposition as one raw record, `GET /metrics/{host}_{port}.json`. */
import { addressRemedy, httpUrl, withoutPassword } from '../common/address.ts';
import { DEFAULT_THROUGHPUT_MBPS, type Loaded, loadConfig, type Router } from '../common/config.ts';
import { NdtError } from '../common/errors.ts';
import { type Reply, text } from '../common/http.ts';
import { printRecord } from '../common/record.ts';
import { rawRecord } from './enrich.ts';
import { type Clock, type Source, SourceError, systemClock } from './source.ts';
import { createSource } from './sources.ts';

/** Readings under way: whoever asks meanwhile gets the same, so that many askers are one request to the router. */
const underWay = new WeakMap<Source, Promise<string>>();

/**
 * The answer to a request of the collector.
 * @param path `/metrics/{host}_{port}.json`; the host may have `_` in it
 * @param sources by router name
 * @returns undefined where the path is no configured router's
 */
export async function collectRouter(
  path: string,
  loaded: Pick<Loaded, 'config' | 'routers'>,
  sources: ReadonlyMap<string, Source>,
  clock: Clock = systemClock,
): Promise<Reply | undefined> {
  const router = loaded.routers.find((candidate) => pathFor(candidate) === decoded(path));
  const source = router === undefined ? undefined : sources.get(router.name);
  if (source === undefined) return undefined;
  try {
    let reading = underWay.get(source);
    if (reading === undefined) {
      reading = collect(source, loaded, clock).finally(() => underWay.delete(source));
      underWay.set(source, reading);
    }
    return { status: 200, type: 'application/json; charset=utf-8', body: await reading };
  } catch (error) {
    if (!(error instanceof SourceError)) throw error;
    return text(error.reason === 'timeout' ? 504 : 502, `${error.message}\n`);
  }
}

function pathFor({ nodeExporter }: Router): string {
  const colon = nodeExporter.lastIndexOf(':');
  return `/metrics/${nodeExporter.slice(0, colon)}_${nodeExporter.slice(colon + 1)}.json`;
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

async function collect(
  source: Source,
  { config }: Pick<Loaded, 'config'>,
  clock: Clock,
  signal = new AbortController().signal,
): Promise<string> {
  return printRecord(rawRecord(await source.collect(signal), config, clock.nowMicros()));
}

/**
 * The collector's JSON for one exporter, which needs no configuration.
 * @param address `http://r1:9100/metrics`; scheme and path may be left out
 * @throws NdtError USAGE when it is no address, UNAVAILABLE when the exporter gives no metrics
 */
export async function collectUrl(
  address: string,
  { loaded = loadConfig(undefined), clock = systemClock, signal = new AbortController().signal } = {},
): Promise<string> {
  const given = /^[a-z]+:\/\//i.test(address) ? address : `http://${address}`;
  const url = httpUrl(given);
  if (url === undefined) {
    const remedy = addressRemedy(given, 'write it as http://r1:9100/metrics');
    throw new NdtError('USAGE', `collect: "${withoutPassword(address)}" is not the address of an exporter: ${remedy}`);
  }
  if (url.pathname === '/' && url.search === '') url.pathname = '/metrics';
  const { config } = loaded;
  const router: Router = {
    name: url.hostname,
    nodeExporter: `${url.hostname}:${url.port || (url.protocol === 'https:' ? 443 : 80)}`,
    source: 'node-exporter',
    url: url.href,
    procfsRoot: '/proc',
    testMetricsFile: '',
    interfaces: ['*'],
    rawTopic: '',
    type: undefined,
    maxThroughputMbps: config.max_throughput_mbps ?? DEFAULT_THROUGHPUT_MBPS,
    throughputConfigured: true,
    multiplier: config.multiplier,
    pollingIntervalS: config.polling_interval,
  };
  const source = createSource(router, loaded, clock);
  try {
    return await collect(source, loaded, clock, signal);
  } catch (error) {
    if (error instanceof SourceError) throw new NdtError('UNAVAILABLE', error.message);
    throw error;
  } finally {
    source.close();
  }
}
