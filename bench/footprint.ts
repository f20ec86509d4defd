/**
 * What the released binaries need of a machine: size, start, and memory and processor time at one poll a second. docs/footprint.md has
 * the table. Node alone, doing nothing, takes 7.8 MB of anonymous memory.
 */
import { execFileSync, type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { PACKAGED, type ProgramName } from '../scripts/package/programs.ts';
import { findProgram } from '../scripts/programs.ts';
import { freePort } from '../test/ports.ts';
import { canStartKafka, startKafka } from '../test/real/kafka.ts';
import { anonymousMb } from './latency.ts';
import { type BenchTable, median, printTable, rounded } from './table.ts';

const SECONDS = Number(process.env.NDT_TEST_BENCH_SECONDS ?? 60);
const root = fileURLToPath(new URL('..', import.meta.url));

type Row = BenchTable['rows'][number];

export async function run(): Promise<BenchTable> {
  const dir = mkdtempSync(join(tmpdir(), 'ndt-bench-'));
  try {
    const built = spawnSync(process.execPath, ['scripts/ndt.mjs', 'package', '--output', dir], { cwd: root, encoding: 'utf8' });
    if (built.status !== 0) throw new Error(`the package could not be made: ${built.stdout}${built.stderr}`);
    const sizes = ['linux-x64', 'linux-arm64'].flatMap((platform) =>
      ['ndt-agent', 'ndt-aggregator'].map((name) => sizeOf(join(dir, platform, name), `${name} for ${platform}`)),
    );
    const start = startOf(dir, ownBinary(dir, 'ndt-agent'));
    const loads = await measureAll(dir);
    const agents = loads.filter(({ what }) => String(what).startsWith('ndt-agent'));
    return {
      name: `footprint: the binaries; memory and processor time over ${SECONDS} s at one poll a second`,
      rows: [...sizes, ...start.rows, ...loads],
      checks: [
        ...sizes.flatMap(({ what, 'MB xz': xz }) =>
          typeof xz === 'number' && String(what).startsWith('ndt-agent')
            ? [{ what: `${what} [MB xz]`, value: xz, target: '<= 30', ok: xz <= 30 }]
            : [],
        ),
        { what: 'start to first record [ms]', value: start.firstRecordMs, target: '< 1000', ok: start.firstRecordMs < 1000 },
        ...agents.flatMap(({ what, 'MB anonymous': memory, '% of a core': share }) => [
          { what: `${what}: anonymous memory [MB]`, value: Number(memory), target: '<= 14', ok: Number(memory) <= 14 },
          { what: `${what}: share of a core [%]`, value: Number(share), target: '<= 0.5', ok: Number(share) <= 0.5 },
        ]),
      ],
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** The one that runs on this machine. */
function ownBinary(dir: string, name: ProgramName): string {
  return join(dir, `linux-${process.arch}`, name);
}

/** As it is, and as a download. */
function sizeOf(file: string, what: string): Row {
  const xz = findProgram('xz');
  const packed =
    xz === undefined
      ? {}
      : { 'MB xz': megabytes(Number(execFileSync('sh', ['-c', '"$0" -6 -T0 -c "$1" | wc -c', xz, file], { encoding: 'utf8' }))) };
  return { what, MB: megabytes(statSync(file).size), ...packed };
}

const megabytes = (bytes: number) => rounded(bytes / 1e6);

/** Of five starts each the median: to the version, and to a record of this machine's interfaces. */
function startOf(dir: string, agent: string): { rows: Row[]; firstRecordMs: number } {
  const config = join(dir, 'once.json');
  writeFileSync(config, JSON.stringify({ routers: [{ r1: { interfaces: ['*', 'lo'] } }] }));
  const time = (args: string[]) => {
    const times = Array.from({ length: 5 }, () => {
      const began = performance.now();
      const ended: SpawnSyncReturns<string> = spawnSync(agent, args, { env: {}, encoding: 'utf8' });
      if (ended.status !== 0) throw new Error(`${agent} ${args.join(' ')}: ${ended.stderr}`);
      return performance.now() - began;
    });
    return rounded(median(times));
  };
  const firstRecordMs = time(['once', '--config', config]);
  return {
    rows: [
      { what: 'ndt-agent: start to its version', ms: time(['--version']) },
      { what: 'ndt-agent: start to first record', ms: firstRecordMs },
    ],
    firstRecordMs,
  };
}

/**
 * Memory and processor time of the binaries in this folder, as `npm run package` lays them out, at one poll a second; one after the other,
 * so that none waits for another.
 */
export async function measureAll(dir: string): Promise<Row[]> {
  const ports = { http: await freePort(), mqtt: await freePort(), agent: await freePort(), kafkaAgent: await freePort() };
  const settings = { polling_interval: 1, routers: [{ r1: { interfaces: ['*', 'lo'] } }], log: { format: 'json' } };
  const aggregator = await Watched.start(dir, 'ndt-aggregator', ports.http, {
    ...settings,
    aggregator: { http: { port: ports.http }, mqtt: { port: ports.mqtt } },
  });
  const rows: Row[] = [];
  try {
    const agent = await Watched.start(dir, 'ndt-agent', ports.agent, {
      ...settings,
      agent: { id: 'mqtt', http: { port: ports.agent } },
      mqtt: { url: `mqtt://127.0.0.1:${ports.mqtt}` },
    });
    try {
      const [own, aggregators] = await Promise.all([
        agent.measure('ndt-agent over MQTT'),
        aggregator.measure('ndt-aggregator with one agent'),
      ]);
      rows.push(own, aggregators);
    } finally {
      await agent.stop();
    }
  } finally {
    await aggregator.stop();
  }
  if (!canStartKafka) return rows;
  const kafka = await startKafka();
  try {
    const agent = await Watched.start(dir, 'ndt-agent', ports.kafkaAgent, {
      ...settings,
      agent: { id: 'kafka', uplink: 'kafka', http: { port: ports.kafkaAgent } },
      kafka: { brokers: [kafka.bootstrap] },
    });
    try {
      rows.splice(1, 0, await agent.measure('ndt-agent over Kafka'));
    } finally {
      await agent.stop();
    }
  } finally {
    await kafka.stop();
  }
  return rows;
}

/** A binary that runs, in the surroundings of an installed one. */
class Watched {
  private readonly child: ReturnType<typeof spawn>;

  private constructor(child: ReturnType<typeof spawn>) {
    this.child = child;
  }

  static async start(dir: string, name: ProgramName, port: number, config: object): Promise<Watched> {
    const own = join(dir, `run-${port}`);
    mkdirSync(own);
    writeFileSync(join(own, 'ndt.json'), JSON.stringify({ data_dir: 'data', ...config }));
    const child = spawn(ownBinary(dir, name), ['run', '--config', join(own, 'ndt.json')], {
      env: PACKAGED[name].environment,
      stdio: 'ignore',
    });
    const end = performance.now() + 30_000;
    while (performance.now() < end && child.exitCode === null) {
      const ready = await fetch(`http://127.0.0.1:${port}/readyz`).then(
        ({ ok }) => ok,
        () => false,
      );
      if (ready) return new Watched(child);
      await sleep(20);
    }
    child.kill('SIGKILL');
    throw new Error(`${name} is not ready after 30 s`);
  }

  /** Memory at the end of the time; processor time without the first ten seconds, which are the start's. */
  async measure(what: string): Promise<Row> {
    const pid = this.child.pid ?? 0;
    const settle = Math.min(10, SECONDS / 2);
    await sleep(settle * 1000);
    const [before, began] = [cpuNs(pid), performance.now()];
    await sleep((SECONDS - settle) * 1000);
    const share = ((cpuNs(pid) - before) / 1e6 / (performance.now() - began)) * 100;
    return { what, 'MB anonymous': rounded(anonymousMb(pid)), '% of a core': rounded(share) };
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once('close', resolve));
    this.child.kill('SIGTERM');
    await ended;
  }
}

/** Time on a processor, all threads [ns]: the kernel's ticks are too coarse for a process that wakes up with them. */
function cpuNs(pid: number): number {
  return readdirSync(`/proc/${pid}/task`).reduce(
    (sum, task) => sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]),
    0,
  );
}

if (import.meta.main) printTable(await run());
