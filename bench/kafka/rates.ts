/** Raw to processed: what a record costs a core in an aggregator that does nothing else, against the stage without Kafka. */
import { RatesStage } from '../../aggregator/rates.ts';
import type { Delivered, Message } from '../../common/bus.ts';
import { loadConfig } from '../../common/config.ts';
import { Metrics } from '../../common/metrics.ts';
import { until } from '../../test/until.ts';
import { cpuSeconds } from '../latency.ts';
import { type BenchTable, rounded } from '../table.ts';
import { Processes } from './processes.ts';
import { SETTINGS } from './rival.ts';
import { ROUTERS, rawMessages, type Source } from './source.ts';

const RECORDS = 70_000;

/** Processor seconds of the stage alone, for the second half: the first one warms up. */
function alone(messages: readonly Message[]): number {
  const stage = new RatesStage(loadConfig(undefined, {}), new Metrics());
  const batches: Delivered[][] = [];
  for (let i = 0; i < messages.length; i += SETTINGS.batch) {
    batches.push(
      messages.slice(i, i + SETTINGS.batch).map((message, j) => ({ ...message, partition: 0, offset: String(i + j), timestamp: 0 })),
    );
  }
  const half = batches.length >> 1;
  for (const batch of batches.slice(0, half)) stage.handle(batch);
  const started = process.cpuUsage();
  for (const batch of batches.slice(half)) stage.handle(batch);
  const { user, system } = process.cpuUsage(started);
  return ((user + system) / 1e6 / batches.slice(half).length) * batches.length;
}

export async function rates(bootstrap: string, source: Source): Promise<BenchTable['rows']> {
  const topics = Array.from({ length: ROUTERS }, (_, i) => `bench.raw.r${i}`);
  await source.topics([...topics, ...topics.map((_, i) => `bench.rates.r${i}`)]);
  const messages = rawMessages(topics, RECORDS);
  const [first, second] = [messages.slice(0, RECORDS / 2), messages.slice(RECORDS / 2)];
  const processes = new Processes(bootstrap, {
    aggregator: { roles: ['rates'] },
    topics: { raw: 'bench.raw.{router}', processed: 'bench.rates.{router}' },
  });
  try {
    const url = await processes.start('aggregator');
    const pid = processes.running.get('aggregator')?.pid ?? 0;
    const handled = async (count: number) => {
      const text = await (await fetch(`${url}/metrics`)).text();
      return Number(/^ndt_kafka_stage_messages_total\{group="ndt-rates"\} (\d+)/m.exec(text)?.[1] ?? 0) >= count;
    };
    // The first half warms up.
    await source.show(first);
    await until(() => handled(first.length), 'the first half to be processed', 60_000);
    const reveal = await source.hide(second);
    const [cpu, started] = [cpuSeconds(pid), performance.now()];
    await reveal();
    await until(() => handled(messages.length), 'the second half to be processed', 60_000);
    const seconds = (performance.now() - started) / 1000;
    const used = cpuSeconds(pid) - cpu;
    const bare = alone(messages) / messages.length;
    return [
      {
        what: 'raw to processed, an aggregator process on Kafka',
        'records/s': Math.round(second.length / seconds),
        'records/s per core': Math.round(second.length / used),
        'cpu µs/record': rounded((used / second.length) * 1e6),
      },
      {
        what: 'raw to processed, the stage without Kafka',
        'records/s per core': Math.round(1 / bare),
        'cpu µs/record': rounded(bare * 1e6),
      },
    ];
  } finally {
    await processes.stop();
  }
}
