/** Counter to inference over Kafka with an agent, an aggregator and an ML process, as the records themselves tell it; their memory. */
import { setTimeout as sleep } from 'node:timers/promises';
import { topicFor, topicsOf } from '../../common/topics.ts';
import { busOn } from '../../test/kafka-bus.ts';
import { until } from '../../test/until.ts';
import { anonymousMb, cpuSeconds } from '../latency.ts';
import { type BenchTable, rounded } from '../table.ts';
import { Processes, type Program } from './processes.ts';
import type { Source } from './source.ts';

export interface Load {
  what: string;
  /** Begins the names of its topics. */
  prefix: string;
  routers: number;
  intervalS: number;
  ship: 'processed' | 'raw';
  seconds: number;
  /** p50 and p99 that it shall stay below [ms]. */
  targets?: { p50: number; p99: number };
}

const SETTLE_MS = 12_000;

interface Stamped {
  node_exporter: string;
  epoch_timestamp: string;
  debug_params: { process_timestamp: string; ml_timestamp: string };
}

/** Latencies [ms] of the records polled in a time window [s]; from the topics, afterwards, so that reading does not disturb. */
async function latencies(bootstrap: string, load: Load, inferred: string, from: number, to: number): Promise<number[]> {
  const found: number[] = [];
  const complete = new Set<string>();
  const bus = busOn(bootstrap);
  const stop = new AbortController();
  const reading = bus.consume(
    `bench-${load.prefix}`,
    topicsOf(inferred),
    {
      handle: (batch) => {
        for (const { value } of batch) {
          const { node_exporter, epoch_timestamp, debug_params } = JSON.parse(value.toString()) as Stamped;
          const at = Number(epoch_timestamp);
          if (at >= to) complete.add(node_exporter);
          else if (at >= from) found.push((Number(debug_params.ml_timestamp) - at) * 1000);
        }
        return undefined;
      },
    },
    stop.signal,
  );
  try {
    await until(
      () => complete.size === load.routers,
      `the inferred records of ${load.routers} routers (${complete.size} are there)`,
      40_000,
    );
  } finally {
    stop.abort();
    await reading;
    await bus.close();
  }
  return found.sort((a, b) => a - b);
}

export async function latency(bootstrap: string, source: Source, load: Load): Promise<Pick<BenchTable, 'rows' | 'checks'>> {
  const names = Array.from({ length: load.routers }, (_, i) => `r${i}`);
  const topics = { raw: `${load.prefix}.TD_{router}`, processed: `${load.prefix}.TP_{router}`, inferred: `${load.prefix}.ML_{router}` };
  await source.topics(Object.values(topics).flatMap((template) => names.map((router) => topicFor(template, router))));
  const processes = new Processes(bootstrap, {
    routers: names.map((name) => ({ [name]: { interfaces: ['lo'], polling_interval: load.intervalS } })),
    topics,
    agent: { id: `bench-${load.prefix}`, uplink: 'kafka', ship: load.ship },
    aggregator: { roles: ['rates', 'store', 'api'] },
  });
  const usage: Array<{ program: Program; cpu: number; memory: number }> = [];
  let [from, to] = [0, 0];
  try {
    for (const program of ['aggregator', 'ml', 'agent'] as const) await processes.start(program);
    await sleep(SETTLE_MS);
    const before = new Map([...processes.running].map(([program, { pid }]) => [program, cpuSeconds(pid)]));
    from = Date.now() / 1000;
    await sleep(load.seconds * 1000);
    to = Date.now() / 1000;
    for (const [program, { pid }] of processes.running) {
      usage.push({
        program,
        cpu: ((cpuSeconds(pid) - (before.get(program) ?? 0)) / load.seconds) * 100,
        memory: anonymousMb(pid),
      });
    }
    // So that a record of every router from behind the window ends the reading.
    await sleep(load.intervalS * 1000 + 500);
  } finally {
    await processes.running.get('agent')?.stop();
  }
  try {
    const sorted = await latencies(bootstrap, load, topics.inferred, from, to);
    const at = (share: number) => rounded(sorted[Math.floor(sorted.length * share)] ?? Number.NaN);
    const rows: BenchTable['rows'] = [
      {
        what: `${load.what}: counter to inference`,
        'records/s': rounded(sorted.length / load.seconds),
        'p50 ms': at(0.5),
        'p99 ms': at(0.99),
      },
      ...usage.map(({ program, cpu, memory }) => ({
        what: `${load.what}: ${program}`,
        '% of a core': rounded(cpu),
        'anonymous MB': rounded(memory),
      })),
    ];
    const checks = Object.entries(load.targets ?? {}).map(([name, target]) => {
      const value = at(name === 'p50' ? 0.5 : 0.99);
      return { what: `${load.what}: ${name} [ms]`, value, target: `<= ${target}`, ok: value <= target };
    });
    return { rows, checks };
  } finally {
    await processes.stop();
  }
}
