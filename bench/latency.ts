/**
 * Counter to inference with real processes: `npm start`'s two programs, one router polled five times a second, and the agent's memory
 * after a minute. The reference is the least that the same path costs on this disk: four commits, one after the other.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { Child } from '../scripts/start/child.ts';
import { freePort } from '../test/ports.ts';
import { type BenchTable, median, printTable, rounded } from './table.ts';

const SECONDS = Number(process.env.NDT_TEST_BENCH_SECONDS ?? 60);
const root = fileURLToPath(new URL('..', import.meta.url));

/** Milliseconds of one small commit on this disk. */
function commitMs(): number {
  const dir = mkdtempSync(join(tmpdir(), 'ndt-bench-'));
  const db = new Database(join(dir, 'commit.db'));
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  db.exec('CREATE TABLE t (body TEXT)');
  const insert = db.prepare('INSERT INTO t VALUES (?)');
  const times = Array.from({ length: 200 }, () => {
    const started = performance.now();
    insert.run('x'.repeat(1000));
    return performance.now() - started;
  });
  db.close();
  rmSync(dir, { recursive: true });
  return median(times);
}

/** Anonymous memory of a process [MB]. */
export function anonymousMb(pid: number): number {
  const line = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(line?.[1] ?? Number.NaN) / 1024;
}

/** User and system time of a process [s]. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

export async function run(): Promise<BenchTable> {
  const commit = commitMs();
  const dir = mkdtempSync(join(tmpdir(), 'ndt-bench-'));
  const config = join(dir, 'ndt.json');
  const ports = { http: await freePort(), mqtt: await freePort(), agent: await freePort() };
  writeFileSync(
    config,
    JSON.stringify({
      data_dir: '.',
      polling_interval: 1,
      routers: [{ fast: { interfaces: ['*', 'lo'], polling_interval: 0.2 } }],
      agent: { id: 'bench', http: { port: ports.agent } },
      aggregator: { http: { port: ports.http }, mqtt: { port: ports.mqtt } },
      mqtt: { url: `mqtt://127.0.0.1:${ports.mqtt}` },
    }),
  );
  const url = `http://127.0.0.1:${ports.http}`;
  const aggregator = new Child('aggregator', `${root}aggregator/main.ts`, config, process.env, dir);
  let agent: Child | undefined;
  try {
    await aggregator.ready(`${url}/readyz`);
    // Once for Node's compile cache, which a second start finds filled.
    agent = new Child('agent', `${root}agent/main.ts`, config, process.env, dir);
    await agent.ready(`http://127.0.0.1:${ports.agent}/readyz`);
    await agent.stop();
    agent = new Child('agent', `${root}agent/main.ts`, config, process.env, dir);
    await agent.ready(`http://127.0.0.1:${ports.agent}/readyz`);
    await sleep(2000);
    const before = cpuSeconds(agent.pid);
    const started = performance.now();
    await sleep(SECONDS * 1000);
    const cpu = ((cpuSeconds(agent.pid) - before) / ((performance.now() - started) / 1000)) * 100;
    const memory = anonymousMb(agent.pid);
    const since = Math.floor(Date.now() / 1000) - SECONDS;
    const answer = (await (await fetch(`${url}/api/v1/records?router=fast&stage=inferred&limit=1000&from=${since}`)).json()) as {
      records: Array<{ record: { epoch_timestamp: string; debug_params: { process_timestamp: string; ml_timestamp: string } } }>;
    };
    const toInference = answer.records
      .map(({ record }) => (Number(record.debug_params.ml_timestamp) - Number(record.epoch_timestamp)) * 1000)
      .sort((a, b) => a - b);
    const toProcessed = answer.records.map(
      ({ record }) => Number(record.debug_params.process_timestamp) - Number(record.epoch_timestamp) * 1000,
    );
    const at = (share: number) => rounded(toInference[Math.floor(toInference.length * share)] ?? Number.NaN);
    return {
      name: `latency: counter to inference over MQTT, two processes, ${toInference.length} records; the agent after ${SECONDS} s`,
      rows: [
        { what: 'four commits on this disk, p50', ms: rounded(4 * commit) },
        { what: 'counter to processed, p50', ms: rounded(median(toProcessed)) },
        { what: 'counter to inference, p50', ms: at(0.5) },
        { what: 'counter to inference, p99', ms: at(0.99) },
        { what: 'agent: anonymous memory', MB: rounded(memory) },
        { what: 'agent: share of a core at 5 polls a second', '%': rounded(cpu) },
      ],
      checks: [
        { what: 'counter to inference p50 [ms]', value: at(0.5), target: '< 15', ok: at(0.5) < 15 },
        { what: 'agent’s anonymous memory [MB]', value: rounded(memory), target: '< 25', ok: memory < 25 },
      ],
    };
  } finally {
    await agent?.stop();
    await aggregator.stop();
    rmSync(dir, { recursive: true });
  }
}

if (import.meta.main) printTable(await run());
