/** `ndt-aggregator pods`: the publisher as a program of its own, or one round of it on standard output. */
import { type Args, type Command, textOption, VERSION } from '../../common/cli.ts';
import { type Loaded, loadConfig, pathOf } from '../../common/config.ts';
import { EXIT, NdtError } from '../../common/errors.ts';
import { closeServer, EXPOSITION_TYPE, json, listenHttp, text } from '../../common/http.ts';
import { type Logger, openLogger } from '../../common/logger.ts';
import { Metrics, processMetrics } from '../../common/metrics.ts';
import { openBus } from '../../common/open-bus.ts';
import { runCommand, type Service } from '../../common/service.ts';
import { seedEnvironment } from './environment.ts';
import { planOf } from './plan.ts';
import { Prometheus } from './prometheus.ts';
import { PodsPublisher } from './publisher.ts';

const service = runCommand({
  program: 'ndt-aggregator pods',
  summary: 'publish metrics of Kubernetes pods from Prometheus to the bus; --once prints one round instead (JSON, one message a line)',
  options: { once: { type: 'boolean', help: 'print the messages of one round, about the last minute, and end; nothing is published' } },
  check: checkPods,
  start: startPods,
});

export const podsCommand: Command = {
  ...service,
  name: 'pods',
  run: async (args) => {
    takeSeedEnvironment(loadConfig(textOption(args, 'config')));
    const onlyLooking = args.values.check === true || args.values['dump-config'] === true;
    return args.values.once === true && !onlyLooking ? await once(args) : await service.run(args);
  },
};

/**
 * Has the seed's environment variables hold: as variables of this process, so that a configuration read again later is read the same way.
 * @param loaded the configuration without them
 * @throws NdtError CONFIG naming the variable
 */
export function takeSeedEnvironment(loaded: Loaded): void {
  Object.assign(process.env, seedEnvironment(process.env, loaded.config.pods.prometheus.url));
}

/** More checks of the section `pods` than the schema's. @throws NdtError CONFIG */
export function checkPods(loaded: Loaded): void {
  planOf(loaded.config.pods);
  new Prometheus(loaded).close();
}

async function once(args: Args): Promise<number> {
  const loaded = loadConfig(textOption(args, 'config'));
  const log = await openLogger('ndt-aggregator pods', loaded.config.log);
  for (const warning of loaded.warnings) log.warn(warning);
  const publisher = new PodsPublisher({ loaded, metrics: new Metrics(), log });
  const messages = await publisher.round(Date.now());
  for (const { value } of messages) process.stdout.write(`${value.toString()}\n`);
  if (publisher.lastResult === 'failed') return EXIT.unavailable;
  return publisher.lastResult === 'partial' ? EXIT.failed : EXIT.ok;
}

/** Bus, publisher, and a listener for health and metrics. */
async function startPods(loaded: Loaded, log: Logger): Promise<Service> {
  const metrics = new Metrics();
  processMetrics(metrics, 'ndt-aggregator', VERSION);
  const { bus, troubles } = await openBus(loaded, 'ndt-aggregator', metrics, log);
  const stopping = new AbortController();
  let running: Promise<void> | undefined;
  try {
    const publisher = new PodsPublisher({ loaded, bus, metrics, log });
    const readiness = () => {
      const reasons = [...troubles(), ...publisher.troubles()];
      return { ready: reasons.length === 0, reasons };
    };
    running = publisher.run(stopping.signal);
    const { url, server } = await listenHttp(loaded, loaded.config.pods.http, 'pods.http', (path) => {
      if (path === '/healthz') return text(200, 'ok\n');
      if (path === '/readyz') return json(readiness().ready ? 200 : 503, readiness());
      return path === '/metrics' ? { status: 200, type: EXPOSITION_TYPE, body: metrics.print() } : undefined;
    });
    const { topic, prometheus, interval } = loaded.config.pods;
    log.info(
      { url, bus: loaded.config.bus, prometheus: prometheus.url, topic, interval },
      `pods publisher runs, its metrics are at ${url}/metrics`,
    );
    let current = loaded;
    return {
      reload: async (next) => {
        refuseChange(current, next);
        publisher.configure(next);
        current = next;
      },
      status: () => [`publishes pods’ metrics, answers at ${url}`, ...readiness().reasons].join('; '),
      stop: async () => {
        stopping.abort();
        await running;
        await closeServer(server);
        await bus.close();
      },
    };
  } catch (error) {
    stopping.abort();
    await running;
    await bus.close();
    throw error;
  }
}

/** What stays as it is for the life of the process. */
function refuseChange(old: Loaded, next: Loaded): void {
  const fixed: Array<[string, (loaded: Loaded) => unknown]> = [
    ['data_dir', (l) => pathOf(l, l.config.data_dir)],
    ['bus', (l) => l.config.bus],
    ['kafka', (l) => l.config.kafka],
    ['pods.http', (l) => l.config.pods.http],
  ];
  for (const [option, get] of fixed) {
    if (JSON.stringify(get(old)) !== JSON.stringify(get(next)))
      throw new NdtError('CONFIG', `${option} cannot change while the publisher runs: restart it for that`);
  }
}
