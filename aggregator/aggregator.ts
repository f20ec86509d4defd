/** The aggregator put together: ingress, bus, stages, store and API in one process. */

import { EmbeddedBus } from '../common/bus-embedded.ts';
import { VERSION } from '../common/cli.ts';
import { type Loaded, pathOf } from '../common/config.ts';
import { messageOf, NdtError } from '../common/errors.ts';
import { Fault, type Logger } from '../common/logger.ts';
import { Metrics, processMetrics } from '../common/metrics.ts';
import type { Service } from '../common/service.ts';
import { lockDir } from '../common/sqlite.ts';
import { topicsOf } from '../common/topics.ts';
import { loadModels, ML_GROUP, MlStage } from '../ml/worker.ts';
import { startApi } from './api.ts';
import { startIngress } from './ingress-mqtt.ts';
import { startSubscriber } from './ingress-subscribe.ts';
import { Live } from './live.ts';
import { RATES_GROUP, RatesStage, rawTopics } from './rates.ts';
import { Store } from './store.ts';
import { retention, STORE_GROUP, StoreStage, storeTopics } from './store-stage.ts';

/** Something to end, last started first. */
type End = () => Promise<void> | void;

export async function startAggregator(loaded: Loaded, log: Logger): Promise<Service & { url: string; mqttUrl: string | undefined }> {
  const ends: End[] = [];
  const stop = async () => {
    for (const end of ends.splice(0).reverse()) await end();
  };
  try {
    return { ...(await assemble(loaded, log, ends)), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function assemble(loaded: Loaded, log: Logger, ends: End[]) {
  const { config } = loaded;
  const models = config.ml.enabled ? await loadModels(loaded) : undefined;
  const dir = `${pathOf(loaded, config.data_dir)}/aggregator`;
  ends.push(lockDir(dir, 'aggregator'));

  const metrics = new Metrics();
  processMetrics(metrics, 'ndt-aggregator', VERSION);
  const faults = metrics.counter('ndt_stage_faults_total', 'Batches that a stage failed on and takes again');
  const fault = new Fault(log, 'bus');
  const bus = new EmbeddedBus({
    file: `${dir}/bus.db`,
    retention: { maxBytes: config.aggregator.bus.max_bytes, maxAgeMs: config.aggregator.bus.max_age * 1000 },
    onFault: (message) => {
      faults.inc();
      fault.raise(message);
    },
  });
  ends.push(() => bus.close());
  const store = new Store(`${dir}/store.db`, config.topics);
  ends.push(() => store.close());
  const live = new Live();
  ends.push(() => live.close());

  // The stages, each until it is told to end; what they have in hand is committed first.
  const consuming = new AbortController();
  const running: Array<Promise<void>> = [];
  ends.push(async () => {
    consuming.abort();
    await Promise.all(running);
  });
  let current = loaded;
  const rates = new RatesStage(loaded, metrics);
  const ml = models === undefined ? undefined : new MlStage(loaded, models, metrics);
  // Raw topics can be named by routers, so the set is asked for anew: a reload may bring new ones.
  const raw = { label: 'raw topics', matches: (topic: string) => rawTopics(current).matches(topic) };
  running.push(bus.consume(RATES_GROUP, raw, rates, consuming.signal));
  if (ml !== undefined) running.push(bus.consume(ML_GROUP, topicsOf(config.topics.processed), ml, consuming.signal));
  running.push(bus.consume(STORE_GROUP, storeTopics(config.topics), new StoreStage(store, live, metrics), consuming.signal));
  running.push(
    retention(
      store,
      () => current.config.aggregator.store.max_age,
      consuming.signal,
      (error) => log.error(`store: ${messageOf(error)}`),
    ),
  );
  const lag = metrics.gauge('ndt_bus_lag_messages', 'Messages that a group has still to handle');
  metrics.onCollect(() => {
    lag.clear();
    const byGroup = new Map<string, number>();
    for (const { group, lag: n } of bus.log.lag()) byGroup.set(group, (byGroup.get(group) ?? 0) + n);
    for (const [group, n] of byGroup) lag.set(n, { group });
  });

  const ingest = { loaded, bus, metrics, log };
  const broker = config.aggregator.mqtt.enabled ? await startIngress(ingest) : undefined;
  if (broker !== undefined) ends.push(() => broker.close());
  const subscriber = config.aggregator.mqtt.subscribe === undefined ? undefined : await startSubscriber(ingest);
  if (subscriber !== undefined) ends.push(() => subscriber.close());
  const api = await startApi({
    loaded,
    store,
    live,
    ledger: () => bus.log.seen.agents(),
    metrics,
    readiness: () => ({ ready: true, reasons: [] }),
    onFault: (message) => log.error(message),
  });
  ends.push(() => api.close());
  log.info(
    { url: api.url, mqtt: broker?.url, data: dir, models: models === undefined ? [] : [...models.keys()] },
    `aggregator runs, its page is ${api.url}/`,
  );

  const reload = async (next: Loaded) => {
    refuseChange(current, next);
    const newModels = ml === undefined ? undefined : await loadModels(next);
    rates.configure(next);
    if (ml !== undefined && newModels !== undefined) ml.configure(next, newModels);
    broker?.reload(next);
    subscriber?.reload(next);
    current = next;
  };
  return { url: api.url, mqttUrl: broker?.url, reload };
}

/** What stays as it is for the life of the process. */
function refuseChange(old: Loaded, next: Loaded): void {
  const fixed: Array<[string, (loaded: Loaded) => unknown]> = [
    ['data_dir', (l) => pathOf(l, l.config.data_dir)],
    ['topics', (l) => l.config.topics],
    ['aggregator.http', (l) => l.config.aggregator.http],
    ['aggregator.mqtt', (l) => ({ ...l.config.aggregator.mqtt, users: undefined })],
    ['aggregator.bus', (l) => l.config.aggregator.bus],
    ['ml.enabled', (l) => l.config.ml.enabled],
  ];
  for (const [option, get] of fixed) {
    if (JSON.stringify(get(old)) !== JSON.stringify(get(next)))
      throw new NdtError('CONFIG', `${option} cannot change while the aggregator runs: restart it for that`);
  }
}
