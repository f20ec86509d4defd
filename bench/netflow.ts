/**
 * How fast flows go through the filter, on one core: against `JSON.parse` and `JSON.stringify` of the same lines in the same run, which
 * is the least that a program handling JSON one line at a time can do.
 */
import { strictEqual } from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { type FilterOptions, netflowFilter } from '../aggregator/netflow/filter.ts';
import { type BenchTable, median, printTable, rounded } from './table.ts';

const FLOWS = 20_000;
const ROUNDS = 15;
const CHUNK_BYTES = 64 * 1024;
const MIN_FLOWS_PER_S = 50_000;
const MAX_TIMES_JSON = 3;
const STAGES: FilterOptions = {
  aggregate: { windowS: 60, latenessS: 30, maxFlows: 1_000_000 },
  bidirectional: { timeoutS: 30, maxFlows: 1_000_000 },
};

interface Workload {
  readonly name: string;
  readonly bytes: Buffer;
  /** Missing for protobuf. */
  readonly lines?: readonly string[];
}

function fixture(name: string): Buffer {
  return readFileSync(new URL(`../test/fixtures/netflow/${name}`, import.meta.url));
}

/** Flows of that shape, every one with ports of its own so that none can be answered from memory. */
function ndjson(name: string, cases: readonly string[]): Workload {
  const flows = cases.map((file) =>
    JSON.stringify(JSON.parse(fixture(`${file}/input.json`).toString(), keepingDigits)).replace(/"~(\d+)"/g, '$1'),
  );
  const lines = Array.from({ length: FLOWS }, (_, i) =>
    (flows[i % flows.length] ?? '').replace(/"(SrcPort|src_port)":\d+/, (_all, key: string) => `"${key}":${1024 + (i % 60_000)}`),
  );
  return { name, lines, bytes: Buffer.from(`${lines.join('\n')}\n`) };
}

/** The fixtures hold integers that a double would round. */
function keepingDigits(_key: string, value: unknown, context?: { source?: string }): unknown {
  return typeof value === 'number' && !Number.isSafeInteger(value) ? `~${context?.source}` : value;
}

function protobuf(): Workload {
  const recorded = fixture('v2-protobuf/input.bin');
  return { name: 'version 2, protobuf', bytes: Buffer.concat(Array.from({ length: Math.ceil(FLOWS / 6) }, () => recorded)) };
}

async function* chunksOf(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let from = 0; from < bytes.length; from += CHUNK_BYTES) yield bytes.subarray(from, from + CHUNK_BYTES);
}

/**
 * Processor time since then, of all threads of the process [s]: what a flow costs a core, whatever else the machine does meanwhile.
 */
function cpuSeconds(since: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1e6;
}

/** Seconds for one flow through the filter. */
async function timeFilter(bytes: Buffer, options: FilterOptions): Promise<number> {
  let length = 0;
  const start = process.cpuUsage();
  const { counters } = await netflowFilter(
    chunksOf(bytes),
    async (text) => {
      length += text.length;
    },
    options,
  );
  const seconds = cpuSeconds(start);
  strictEqual(counters.bad, 0);
  strictEqual(length > 0, true);
  return seconds / counters.in;
}

/** Seconds for one line that is parsed and written again. */
function timeJson(lines: readonly string[]): number {
  let length = 0;
  const start = process.cpuUsage();
  for (const line of lines) length += JSON.stringify(JSON.parse(line)).length;
  const seconds = cpuSeconds(start);
  strictEqual(length > 0, true);
  return seconds / lines.length;
}

export async function run(): Promise<BenchTable> {
  const seed = ndjson('seed’s GoFlow2, JSON', ['seed-example', 'seed-ipv6', 'seed-tcp-flags', 'seed-mpls']);
  const workloads: Array<Workload & { options: FilterOptions }> = [
    { ...seed, options: {} },
    { ...ndjson('version 1, JSON', ['v1-stock-udp', 'v1-stock-ipv6', 'v1-stock-mpls']), options: {} },
    { ...ndjson('version 2, JSON', ['v2-stock-udp', 'v2-stock-ipv6', 'v2-stock-mpls']), options: {} },
    { ...protobuf(), options: {} },
    { ...seed, name: `${seed.name}, to CSV`, options: { format: 'csv' } },
    { ...seed, name: `${seed.name}, summed up and merged`, options: STAGES },
  ];
  const table: BenchTable = { name: 'netflow: flows through the filter, one core', rows: [], checks: [] };
  for (const { name, bytes, lines, options } of workloads) {
    const ours: number[] = [];
    const json: number[] = [];
    // The first two rounds warm up.
    for (let round = -2; round < ROUNDS; round++) {
      const filtered = await timeFilter(bytes, options);
      const reference = lines === undefined ? Number.NaN : timeJson(lines);
      if (round < 0) continue;
      ours.push(filtered);
      json.push(reference);
    }
    const [filter, reference] = [median(ours), median(json)];
    const times = filter / reference;
    table.rows.push({
      input: name,
      'flows/s': Math.round(1 / filter),
      'µs/flow': rounded(filter * 1e6),
      'JSON.parse+stringify µs': lines === undefined ? '' : rounded(reference * 1e6),
      'x JSON': lines === undefined ? '' : rounded(times),
    });
    // The optional stages are there to be seen: holding and pairing flows is another matter than one line at a time.
    if (options.aggregate !== undefined) continue;
    table.checks.push({
      what: `${name}: flows/s`,
      value: Math.round(1 / filter),
      target: `>= ${MIN_FLOWS_PER_S}`,
      ok: 1 / filter >= MIN_FLOWS_PER_S,
    });
    if (lines === undefined) continue;
    table.checks.push({
      what: `${name}: times JSON.parse and JSON.stringify`,
      value: rounded(times),
      target: `<= ${MAX_TIMES_JSON}`,
      ok: times <= MAX_TIMES_JSON,
    });
  }
  return table;
}

if (import.meta.main) printTable(await run());
