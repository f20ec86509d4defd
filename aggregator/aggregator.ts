/** The aggregator put together: ingress, bus, stages, store and API, as many of them as this process has roles. */
import { VERSION } from '../common/cli.ts';
import { type Loaded, pathOf } from '../common/config.ts';
import { SeqSets } from '../common/dedupe.ts';
import { messageOf, NdtError } from '../common/errors.ts';
import { closeServer, EXPOSITION_TYPE, health, json, listenHttp, type Readiness } from '../common/http.ts';
import type { Logger } from '../common/logger.ts';
import { Metrics, processMetrics } from '../common/metrics.ts';
import { openBus } from '../common/open-bus.ts';
import type { Config } from '../common/schema.ts';
import type { Service } from '../common/service.ts';
import { lockDir, openDb } from '../common/sqlite.ts';
import { topicsOf } from '../common/topics.ts';
import { loadModels, ML_GROUP, MlStage } from '../ml/worker.ts';
import { startApi } from './api.ts';
import { KafkaIngestor } from './ingress-kafka.ts';
import { startIngress } from './ingress-mqtt.ts';
import { startSubscriber } from './ingress-subscribe.ts';
import { Live } from './live.ts';
import { NETFLOW_GROUP, NetflowStage } from './netflow/stage.ts';
import { checkPods } from './pods/command.ts';
import { PodsPublisher } from './pods/publisher.ts';
import { RATES_GROUP, RatesStage, rawTopics } from './rates.ts';
import { Store } from './store.ts';
import { retention, STORE_GROUP, StoreStage, storeTopics } from './store-stage.ts';

type Role = Config['aggregator']['roles'][number];

/** Something to end, last started first. */
type End = () => Promise<void> | void;

export interface Aggregator extends Service {
  url: string;
  mqttUrl: string | undefined;
}

export async function startAggregator(loaded: Loaded, log: Logger): Promise<Aggregator> {
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

/** Whether this process does something. Inference has a switch of its own besides. */
export function hasRole({ config }: Loaded, role: Role): boolean {
  return config.aggregator.roles.includes(role) && (role !== 'ml' || config.ml.enabled);
}

async function assemble(loaded: Loaded, log: Logger, ends: End[]): Promise<Omit<Aggregator, 'stop'>> {
  const { config } = loaded;
  const has = (role: Role) => hasRole(loaded, role);
  const models = has('ml') ? await loadModels(loaded) : undefined;
  const dir = `${pathOf(loaded, config.data_dir)}/aggregator`;
  ends.push(lockDir(dir, 'aggregator'));

  const metrics = new Metrics();
  processMetrics(metrics, 'ndt-aggregator', VERSION);
  const { bus, embedded, troubles, stuck } = await openBus(loaded, 'ndt-aggregator', metrics, log);
  ends.push(() => bus.close());
  const readiness = (): Readiness => {
    const reasons = [...troubles(), ...(pods?.troubles() ?? [])];
    return { ready: reasons.length === 0, reasons };
  };

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
  if (has('rates')) {
    // Raw topics can be named by routers, so the set is asked for anew: a reload may bring new ones.
    const raw = { label: rawTopics(loaded).label, matches: (topic: string) => rawTopics(current).matches(topic) };
    running.push(bus.consume(RATES_GROUP, raw, rates, consuming.signal));
  }
  if (ml !== undefined) running.push(bus.consume(ML_GROUP, topicsOf(config.topics.processed), ml, consuming.signal));
  if (has('netflow'))
    running.push(bus.consume(NETFLOW_GROUP, topicsOf(config.netflow.input), new NetflowStage(config.netflow, metrics), consuming.signal));
  const pods = has('pods') ? new PodsPublisher({ loaded, bus, metrics, log }) : undefined;
  if (pods !== undefined) running.push(pods.run(consuming.signal));

  const api = await (has('store') || has('api') ? serveHistory() : serveHealth());

  /** The store, the stage that fills it, and the API over it. */
  async function serveHistory(): Promise<{ url: string }> {
    const store = new Store(`${dir}/store.db`, config.topics);
    ends.push(() => store.close());
    const live = new Live();
    ends.push(() => live.close());
    let arrivals = embedded?.log.seen;
    if (arrivals === undefined) {
      // Agents write to Kafka themselves: what has arrived is what the store was given.
      const db = openDb(`${dir}/arrivals.db`, 'normal');
      ends.push(() => void db.close());
      arrivals = new SeqSets(db);
    }
    const seen = arrivals;
    if (has('store')) {
      const stage = new StoreStage(
        store,
        live,
        metrics,
        embedded === undefined ? { numbers: seen, topics: topicsOf(config.topics.processed, config.topics.inventory) } : undefined,
      );
      const stored = new AbortController();
      const storing = [
        bus.consume(STORE_GROUP, storeTopics(config.topics), stage, stored.signal),
        retention(
          store,
          () => current.config.aggregator.store.max_age,
          stored.signal,
          (error) => log.error(`store: ${messageOf(error)}`),
        ),
      ];
      ends.push(async () => {
        stored.abort();
        await Promise.all(storing);
      });
    }
    const served = await startApi({
      loaded,
      store,
      live,
      ledger: () => seen.agents(),
      metrics,
      readiness,
      stuck,
      onFault: (message) => log.error(message),
    });
    ends.push(() => served.close());
    return served;
  }

  /** A process without history has health and metrics alone. */
  async function serveHealth(): Promise<{ url: string }> {
    const { url, server } = await listenHttp(loaded, config.aggregator.http, 'aggregator.http', (path) => {
      if (path === '/healthz') return health(stuck());
      if (path === '/readyz') return json(readiness().ready ? 200 : 503, readiness());
      return path === '/metrics' ? { status: 200, type: EXPOSITION_TYPE, body: metrics.print() } : undefined;
    });
    ends.push(() => closeServer(server));
    return { url };
  }

  function ontoKafka(): KafkaIngestor {
    const db = openDb(`${dir}/ingress.db`, 'normal');
    ends.push(() => void db.close());
    return new KafkaIngestor(bus, new SeqSets(db), config.topics.dead_letters);
  }

  const { mqtt } = config.aggregator;
  const ingest = has('ingress') ? { loaded, bus: embedded ?? ontoKafka(), metrics, log } : undefined;
  const broker = ingest !== undefined && mqtt.enabled ? await startIngress(ingest) : undefined;
  if (broker !== undefined) ends.push(() => broker.close());
  const subscriber = ingest !== undefined && mqtt.subscribe !== undefined ? await startSubscriber(ingest) : undefined;
  if (subscriber !== undefined) ends.push(() => subscriber.close());
  log.info(
    {
      url: api.url,
      mqtt: broker?.url,
      bus: config.bus,
      roles: config.aggregator.roles,
      data: dir,
      models: models === undefined ? [] : [...models.keys()],
    },
    `aggregator runs, its page is ${api.url}/`,
  );

  const reload = async (next: Loaded) => {
    refuseChange(current, next);
    const newModels = ml === undefined ? undefined : await loadModels(next);
    // First what may refuse it: until then everything is as it was.
    if (pods !== undefined) checkPods(next);
    broker?.reload(next);
    pods?.configure(next);
    rates.configure(next);
    if (ml !== undefined && newModels !== undefined) ml.configure(next, newModels);
    subscriber?.reload(next);
    current = next;
  };
  const status = () => {
    const doing = [...(broker === undefined ? [] : [`takes records in at ${broker.url}`]), `answers at ${api.url}`];
    return [`${config.aggregator.roles.join(', ')}: ${doing.join(', ')}`, ...troubles()].join('; ');
  };
  return { url: api.url, mqttUrl: broker?.url, reload, status, stuck };
}

/** What stays as it is for the life of the process. */
function refuseChange(old: Loaded, next: Loaded): void {
  const fixed: Array<[string, (loaded: Loaded) => unknown]> = [
    ['data_dir', (l) => pathOf(l, l.config.data_dir)],
    ['topics', (l) => l.config.topics],
    ['bus', (l) => l.config.bus],
    ['kafka', (l) => l.config.kafka],
    ['netflow', (l) => l.config.netflow],
    ['aggregator.roles', (l) => l.config.aggregator.roles],
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
