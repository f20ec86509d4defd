/**
 * On a real Apache Kafka broker of its own: our bus as producer and consumer against a bare kafkajs loop, and @platformatic/kafka, with
 * the same settings; raw to processed per core; counter to inference and memory with the programs as processes.
 */
import { canStartKafka, startKafka } from '../test/real/kafka.ts';
import { clients, writeTimes } from './kafka/clients.ts';
import { type Load, latency } from './kafka/latency.ts';
import { rates } from './kafka/rates.ts';
import { Source } from './kafka/source.ts';
import { type BenchTable, printTable, rounded } from './table.ts';

const LOADS: Load[] = [
  { what: '7 routers at 1 s', prefix: 'seven', routers: 7, intervalS: 1, ship: 'processed', seconds: 20, targets: { p50: 10, p99: 30 } },
  { what: '7 routers at 1 s, raw', prefix: 'raw', routers: 7, intervalS: 1, ship: 'raw', seconds: 10 },
  { what: '50 routers at 40/s', prefix: 'many', routers: 50, intervalS: 0.025, ship: 'processed', seconds: 12 },
];

const WRITES = 200;

/** The others shall still run where there is no Java. */
const SKIPPED =
  'kafka: skipped, nothing was measured: a real broker needs Java 17 and Maven (Debian: apt install openjdk-17-jre-headless maven)';

export async function run(): Promise<BenchTable> {
  if (!canStartKafka) return { name: SKIPPED, rows: [], checks: [] };
  const kafka = await startKafka();
  const table: BenchTable = {
    name: 'kafka: one broker on this machine, 1 KB records of 7 routers, zstd, acks all, idempotent; medians, x kafkajs of the same rounds',
    rows: [],
    checks: [],
  };
  const add = ({ rows, checks }: Pick<BenchTable, 'rows' | 'checks'>) => {
    table.rows.push(...rows);
    table.checks.push(...checks);
  };
  try {
    const source = await Source.open(kafka.bootstrap);
    try {
      add(await clients(kafka.bootstrap, source));
      add({ rows: await rates(kafka.bootstrap, source), checks: [] });
      const times = await writeTimes(kafka.bootstrap, source, WRITES);
      const at = (share: number) => rounded(times[Math.floor(times.length * share)] ?? Number.NaN);
      const what = 'one idempotent write by kafkajs, a record for each of 7 routers';
      add({ rows: [{ what, 'p50 ms': at(0.5), 'p99 ms': at(0.99) }], checks: [] });
      for (const load of LOADS) add(await latency(kafka.bootstrap, source, load));
    } finally {
      await source.close();
    }
  } finally {
    await kafka.stop();
  }
  return table;
}

if (import.meta.main) printTable(await run());
