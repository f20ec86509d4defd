/** The bus of the configuration: the embedded log, or Apache Kafka, whose client is loaded only then. */
import type { Bus, Stage } from './bus.ts';
import { EmbeddedBus } from './bus-embedded.ts';
import { type Loaded, pathOf } from './config.ts';
import { Fault, type Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import { Progress } from './progress.ts';

export interface OpenedBus {
  bus: Bus;
  /** The log itself, where it is embedded: it deduplicates what is taken in. */
  embedded: EmbeddedBus | undefined;
  /** Why records cannot go through at the moment; empty when they can. */
  troubles(): string[];
  /** Stages that have had a batch in hand for too long. */
  stuck(): string[];
}

/** The longest that a stage may take for a batch, with room to spare: disks under load wait for seconds, never for minutes. */
const LONGEST_BATCH_MS = 120_000;

/** @param program `ndt-aggregator`, `ndt-ml`: the name that brokers see */
export async function openBus(loaded: Loaded, program: string, metrics: Metrics, log: Logger): Promise<OpenedBus> {
  const opened = loaded.config.bus === 'kafka' ? await openKafka(loaded, program, metrics, log) : openEmbedded(loaded, metrics, log);
  const progress = new Progress();
  return { ...opened, bus: watched(opened.bus, progress), stuck: () => progress.stuck() };
}

/** The same bus, with an eye on its stages. */
export function watched(bus: Bus, progress: Progress, withinMs = LONGEST_BATCH_MS): Bus {
  return {
    append: (messages) => bus.append(messages),
    consume: (group, topics, stage, signal) => bus.consume(group, topics, watchedStage(group, stage, progress, withinMs), signal),
    close: () => bus.close(),
  };
}

function watchedStage(group: string, stage: Stage, progress: Progress, withinMs: number): Stage {
  return {
    restore: (state) => stage.restore?.(state),
    handle: async (batch) => {
      const part = progress.begin(`stage ${group}`, withinMs);
      try {
        return await stage.handle(batch);
      } finally {
        part.end();
      }
    },
  };
}

function openEmbedded(loaded: Loaded, metrics: Metrics, log: Logger): Omit<OpenedBus, 'stuck'> {
  const { config } = loaded;
  const faults = metrics.counter('ndt_stage_faults_total', 'Batches that a stage failed on and takes again');
  const fault = new Fault(log, 'bus');
  const bus = new EmbeddedBus({
    file: `${pathOf(loaded, config.data_dir)}/aggregator/bus.db`,
    retention: { maxBytes: config.aggregator.bus.max_bytes, maxAgeMs: config.aggregator.bus.max_age * 1000 },
    onFault: (message) => {
      faults.inc();
      fault.raise(message);
    },
  });
  const lag = metrics.gauge('ndt_bus_lag_messages', 'Messages that a group has still to handle');
  metrics.onCollect(() => {
    lag.clear();
    const byGroup = new Map<string, number>();
    for (const { group, lag: n } of bus.lag()) byGroup.set(group, (byGroup.get(group) ?? 0) + n);
    for (const [group, n] of byGroup) lag.set(n, { group });
  });
  return { bus, embedded: bus, troubles: () => [] };
}

async function openKafka(loaded: Loaded, program: string, metrics: Metrics, log: Logger): Promise<Omit<OpenedBus, 'stuck'>> {
  const [{ KafkaBus }, { kafkaOptions }] = await Promise.all([import('./bus-kafka.ts'), import('./kafka/settings.ts')]);
  const bus = new KafkaBus({
    kafka: kafkaOptions(loaded, loaded.config.kafka.client_id ?? program),
    log,
    deadLetterTopic: loaded.config.topics.dead_letters,
    onFault: (message) => log.warn(`kafka: ${message}`),
  });
  const lag = metrics.gauge('ndt_bus_lag_messages', 'Messages that wait for this process, by group');
  const connected = metrics.gauge('ndt_kafka_connected', '1 while a broker is connected');
  const appended = metrics.counter('ndt_kafka_appended_total', 'Messages appended outside a stage');
  const appendSeconds = metrics.counter('ndt_kafka_append_seconds_total', 'Seconds waited for those appends');
  const retries = metrics.counter('ndt_kafka_retries_total', 'Times that something had to be tried again');
  const messages = metrics.counter('ndt_kafka_stage_messages_total', 'Messages handled and committed, by group');
  const seconds = metrics.counter('ndt_kafka_stage_seconds_total', 'Seconds of handling and committing, by group');
  metrics.onCollect(() => {
    const stats = bus.stats();
    const raise = (counter: typeof appended, to: number, labels = {}) => counter.inc(labels, to - counter.get(labels));
    connected.set(stats.connected ? 1 : 0);
    raise(appended, stats.appended);
    raise(appendSeconds, stats.appendSeconds);
    raise(retries, stats.faults);
    lag.clear();
    for (const group of stats.groups) {
      raise(messages, group.messages, { group: group.group });
      raise(seconds, group.seconds, { group: group.group });
      lag.set(
        [...group.lag.values()].reduce((sum, n) => sum + n, 0),
        { group: group.group },
      );
    }
  });
  return {
    bus,
    embedded: undefined,
    troubles: () => (bus.stats().connected ? [] : [`no broker of ${loaded.config.kafka.brokers.join(', ')} answers`]),
  };
}
