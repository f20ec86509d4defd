/** The three programs as real processes, with a configuration and ports of the test's own. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { freePort } from './ports.ts';
import { until } from './until.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

export type ProgramName = 'agent' | 'aggregator' | 'ml';

/** Nothing of the surrounding environment decides what a program does. */
const ENV = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('NDT_')));

/** Where a program comes from: the command line that stands before its own arguments, and what of the environment it sees. */
export interface Origin {
  command: string[];
  env: NodeJS.ProcessEnv;
}

/** The sources, on the Node that runs the tests. */
export function fromSources(name: ProgramName): Origin {
  return { command: [process.execPath, join(root, name, 'main.ts')], env: ENV };
}

/** A program that runs. */
export class Running {
  readonly child: ChildProcess;
  /** What it logged, as it came. */
  log = '';
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;

  constructor(program: ProgramName | Origin, args: string[], env: NodeJS.ProcessEnv = {}) {
    const { command, env: own } = typeof program === 'string' ? fromSources(program) : program;
    const [file = '', ...before] = command;
    this.child = spawn(file, [...before, ...args], {
      env: { ...own, ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.child.stderr?.on('data', (chunk: Buffer) => {
      this.log += chunk.toString();
    });
    this.exited = new Promise((resolve) => this.child.once('close', (code, signal) => resolve({ code, signal })));
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  async says(text: string | RegExp, timeoutMs?: number): Promise<void> {
    const there = () => (typeof text === 'string' ? this.log.includes(text) : text.test(this.log));
    const gone = this.exited.then(({ code, signal }) => {
      if (!there()) throw new Error(`the program ended (${code ?? signal}) before it said ${text}:\n${this.log}`);
    });
    const waiting = until(there, `the log to say ${text}`, timeoutMs).catch((error: unknown) => {
      throw new Error(`${String(error)}; it says:\n${this.log.slice(-2000)}`);
    });
    await Promise.race([waiting, gone]);
  }

  async kill9(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
  }

  /** SIGTERM; returns how it ended. */
  async stop(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGTERM');
    return await this.exited;
  }
}

/** Runs a program to its end. */
export function runOnce(name: ProgramName, args: string[], options: { input?: string; env?: NodeJS.ProcessEnv; cwd?: string } = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, name, 'main.ts'), ...args], {
    input: options.input ?? '',
    encoding: 'utf8',
    env: { ...ENV, ...options.env },
    cwd: options.cwd ?? root,
    timeout: 30_000,
    maxBuffer: 64 * 1024 * 1024,
  });
  return { status, stdout, stderr };
}

/** An aggregator and an agent on one configuration in a folder. */
export class Pair {
  readonly dir: string;
  readonly config: string;
  readonly url: string;
  readonly agentUrl: string;
  readonly mqttPort: number;
  /** Where the programs come from; the sources unless set otherwise. */
  readonly origin: { aggregator: ProgramName | Origin; agent: ProgramName | Origin } = { aggregator: 'aggregator', agent: 'agent' };
  /** Under which path the programs see the configuration, where that is another than ours. */
  seenConfig: string;
  private readonly started: Running[] = [];

  private constructor(dir: string, ports: { http: number; mqtt: number; agent: number }) {
    this.dir = dir;
    this.seenConfig = join(dir, 'ndt.json');
    this.config = join(dir, 'ndt.json');
    this.url = `http://127.0.0.1:${ports.http}`;
    this.agentUrl = `http://127.0.0.1:${ports.agent}`;
    this.mqttPort = ports.mqtt;
  }

  static async make(dir: string, settings: { [option: string]: unknown }): Promise<Pair> {
    const ports = { http: await freePort(), mqtt: await freePort(), agent: await freePort() };
    const pair = new Pair(dir, ports);
    const { agent, aggregator, mqtt, ...rest } = settings as { [section: string]: { mqtt?: object } };
    pair.configure({
      data_dir: 'data',
      log: { format: 'json' },
      mqtt: { url: `mqtt://127.0.0.1:${ports.mqtt}`, timeout: 2, ...mqtt },
      agent: { id: 'edge', http: { port: ports.agent }, ...agent },
      aggregator: { http: { port: ports.http }, ...aggregator, mqtt: { port: ports.mqtt, ...aggregator?.mqtt } },
      ...rest,
    });
    return pair;
  }

  configure(settings: object): void {
    writeFileSync(this.config, JSON.stringify(settings, null, 2));
  }

  async aggregator(): Promise<Running> {
    const running = new Running(this.origin.aggregator, ['run', '--config', this.seenConfig]);
    this.started.push(running);
    await running.says('aggregator runs');
    return running;
  }

  async agent(): Promise<Running> {
    const running = new Running(this.origin.agent, ['run', '--config', this.seenConfig]);
    this.started.push(running);
    await running.says(/agent \S+ runs/);
    return running;
  }

  async get<T>(path: string): Promise<T> {
    const response = await fetch(`${this.url}${path}`);
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as T;
  }

  /** The agent's ledger as its file has it: works whether or not the agent runs. */
  ledger(): { first: number; last: number; pending: number } {
    const db = new Database(join(this.dir, 'data/agent/outbox.db'), { readonly: true });
    try {
      const meta = (name: string) => (db.prepare('SELECT value FROM meta WHERE name = ?').get(name) as { value: number }).value;
      return {
        first: meta('first_seq'),
        last: meta('last_seq'),
        pending: (db.prepare('SELECT count(*) AS n FROM records').get() as { n: number }).n,
      };
    } finally {
      db.close();
    }
  }

  /** What the store has of a stage: each record's router, sequence number and event time [µs], in the order of the numbers. */
  stored(stage: 'processed' | 'inferred'): Array<{ router: string; seq: number; at: number; body: string }> {
    const db = new Database(join(this.dir, 'data/aggregator/store.db'), { readonly: true });
    try {
      return db.prepare(STORED).all(stage === 'processed' ? 1 : 2) as Array<{ router: string; seq: number; at: number; body: string }>;
    } finally {
      db.close();
    }
  }

  /** The inventories that the aggregator's bus took in, in the order of their numbers. */
  inventories(): Array<{ router: string; seq: number }> {
    const db = new Database(join(this.dir, 'data/aggregator/bus.db'), { readonly: true });
    try {
      const rows = db.prepare(INVENTORIES).all() as Array<{ router: string; headers: string }>;
      return rows
        .map(({ router, headers }) => ({ router, seq: Number((JSON.parse(headers) as { [name: string]: string })['ndt-seq']) }))
        .sort((a, b) => a.seq - b.seq);
    } finally {
      db.close();
    }
  }

  async stop(): Promise<void> {
    for (const running of this.started.splice(0).reverse()) await running.stop();
  }
}

const STORED =
  'SELECT ro.name AS router, re.seq AS seq, f.at AS at, re.body AS body FROM records re JOIN figures f ON f.id = re.id JOIN routers ro ON ro.id = f.router WHERE re.stage = ? ORDER BY re.seq, re.id';
const INVENTORIES = "SELECT l.key AS router, l.headers FROM log l JOIN topics t ON t.id = l.topic WHERE t.name = 'ndt.inventory'";
