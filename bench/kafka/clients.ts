/** Records a second of each client as producer, as consumer, and as consumer with output in transactions; in turn, medians. */
import { until } from '../../test/until.ts';
import { type BenchTable, median, rounded } from '../table.ts';
import { bareKafkajs } from './bare-kafkajs.ts';
import { ours } from './ours.ts';
import { platformatic } from './platformatic.ts';
import { type Rival, SETTINGS } from './rival.ts';
import { processedMessages, ROUTERS, type Source } from './source.ts';

const RIVALS = [bareKafkajs, ours, platformatic];
const ROLES = ['produce', 'consume', 'consume, output in transactions'] as const;
const RECORDS = 21_000;
/** The first one warms up. */
const ROUNDS = 7;
const LEAST = 0.7;

interface Cost {
  perSecond: number;
  /** Processor time, all threads of this process [µs/record]. */
  cpu: number;
}

async function timed(work: () => Promise<void>): Promise<Cost> {
  const [started, cpu] = [performance.now(), process.cpuUsage()];
  await work();
  const { user, system } = process.cpuUsage(cpu);
  return { perSecond: RECORDS / ((performance.now() - started) / 1000), cpu: (user + system) / RECORDS };
}

async function produce(rival: Rival, bootstrap: string, source: Source): Promise<Cost> {
  const topics = await source.fresh();
  const producer = await rival.producer(bootstrap);
  const messages = processedMessages(topics, RECORDS);
  try {
    await producer.send(messages.slice(0, ROUTERS));
    return await timed(async () => {
      for (let i = 0; i < messages.length; i += SETTINGS.send) await producer.send(messages.slice(i, i + SETTINGS.send));
    });
  } finally {
    await producer.close();
  }
}

async function consume(rival: Rival, bootstrap: string, source: Source, output: boolean): Promise<Cost> {
  const topics = await source.fresh();
  const out = `${topics[0]}.out`;
  if (output) await source.topics([out]);
  const messages = processedMessages(topics, RECORDS);
  // By the first ones it shows that the group has formed; the others then appear all at once.
  await source.show(messages.slice(0, ROUTERS));
  const consumer = await rival.consumer(bootstrap, `bench.${topics[0]}`, topics, output ? out : undefined);
  try {
    await until(() => consumer.handled() >= ROUTERS, `${rival.name} to read`, 30_000);
    const reveal = await source.hide(messages);
    return await timed(async () => {
      await reveal();
      await until(() => consumer.handled() >= ROUTERS + RECORDS, `${rival.name} to read all`, 60_000);
    });
  } finally {
    await consumer.close();
  }
}

export async function clients(bootstrap: string, source: Source): Promise<Pick<BenchTable, 'rows' | 'checks'>> {
  const costs = new Map<string, Cost[]>();
  const of = (rival: Rival, role: string) => costs.get(`${rival.name} ${role}`) ?? [];
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const role of ROLES) {
      // Each is first as often as the others.
      for (const i of RIVALS.keys()) {
        const rival = RIVALS[(i + round) % RIVALS.length];
        if (rival === undefined) continue;
        const cost =
          role === 'produce' ? await produce(rival, bootstrap, source) : await consume(rival, bootstrap, source, role !== 'consume');
        if (round > 0) costs.set(`${rival.name} ${role}`, [...of(rival, role), cost]);
      }
    }
  }
  const table: Pick<BenchTable, 'rows' | 'checks'> = { rows: [], checks: [] };
  for (const role of ROLES) {
    const bare = of(bareKafkajs, role);
    for (const rival of RIVALS) {
      const its = of(rival, role);
      const share = median(its.map(({ perSecond }, i) => perSecond / (bare[i]?.perSecond ?? Number.NaN)));
      table.rows.push({
        what: `${role}: ${rival.name}`,
        'records/s': Math.round(median(its.map(({ perSecond }) => perSecond))),
        'x kafkajs': rounded(share),
        'cpu µs/record': rounded(median(its.map(({ cpu }) => cpu))),
      });
      if (rival === ours) {
        table.checks.push({ what: `${role}: times a bare kafkajs loop`, value: rounded(share), target: `>= ${LEAST}`, ok: share >= LEAST });
      }
    }
  }
  return table;
}

/** Milliseconds of writes of one record for each router, one after the other, in ascending order: the least that this broker asks for. */
export async function writeTimes(bootstrap: string, source: Source, count: number): Promise<number[]> {
  const messages = processedMessages(await source.fresh(), ROUTERS);
  const producer = await bareKafkajs.producer(bootstrap);
  const times: number[] = [];
  try {
    for (let i = 0; i < count; i += 1) {
      const started = performance.now();
      await producer.send(messages);
      times.push(performance.now() - started);
    }
  } finally {
    await producer.close();
  }
  return times.sort((a, b) => a - b);
}
