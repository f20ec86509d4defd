/** `npm run bench [-- NAME…]`: runs the benchmarks, prints their tables and writes them as JSON to .ndt/bench.json. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { type BenchTable, printTable } from './table.ts';

/** Loaded only when asked for: what one measures shall not sit in another's memory. */
const BENCHES: { [name: string]: () => Promise<{ run(): Promise<BenchTable> }> } = {
  exposition: () => import('./exposition.ts'),
  outbox: () => import('./outbox.ts'),
  pipeline: () => import('./pipeline.ts'),
  latency: () => import('./latency.ts'),
  netflow: () => import('./netflow.ts'),
  kafka: () => import('./kafka.ts'),
  footprint: () => import('./footprint.ts'),
};

const asked = process.argv.slice(2);
if (asked.some((name) => name === '--help' || name === '-h')) {
  console.log(`usage: npm run bench [-- NAME…]\nbenchmarks: ${Object.keys(BENCHES).join(', ')} (all of them without a name)`);
  process.exit(0);
}
const unknown = asked.find((name) => !Object.hasOwn(BENCHES, name));
if (unknown !== undefined) {
  console.error(`bench: there is no benchmark "${unknown}"; there are: ${Object.keys(BENCHES).join(', ')}`);
  process.exit(64);
}

console.log(`Node ${process.versions.node}, ${process.platform} ${process.arch}, ${availableParallelism()} cores\n`);
const tables: BenchTable[] = [];
for (const name of asked.length > 0 ? asked : Object.keys(BENCHES)) {
  const bench = await BENCHES[name]?.();
  if (bench === undefined) continue;
  const table = await bench.run();
  tables.push(table);
  printTable(table);
  console.log('');
}
const dir = fileURLToPath(new URL('../.ndt', import.meta.url));
mkdirSync(dir, { recursive: true });
writeFileSync(`${dir}/bench.json`, `${JSON.stringify({ node: process.versions.node, at: new Date().toISOString(), tables }, null, 2)}\n`);
