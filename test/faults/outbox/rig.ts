/** An aggregator that stays up, a tap in front of it, and an agent that is started again and again, each time in whatever surroundings. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { expect, onTestFinished } from 'vitest';
import { Pair } from '../../programs.ts';
import { tempDir } from '../../tempdir.ts';
import { until } from '../../until.ts';
import { type Books, compare, type Gap, readBooks, sum } from './books.ts';
import type { Figures } from './report.ts';
import { startTap, type Tap } from './tap.ts';

const AGENT = fileURLToPath(new URL('../../../agent/main.ts', import.meta.url));
/** How long a condition may take to come true on a machine with other work to do. */
const PATIENCE_MS = 120_000;
const ENV = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('NDT_')));

/** Commands that the agent is started through, such as `strace …`. */
export interface Surroundings {
  through?: string[];
  env?: NodeJS.ProcessEnv;
}

/** The agent, with what it was started through. */
export class Agent {
  readonly child: ChildProcess;
  log = '';
  readonly exited: Promise<number | NodeJS.Signals | null>;
  ended = false;

  constructor(config: string, { through = [], env = {} }: Surroundings) {
    const [command = '', ...args] = [...through, process.execPath, AGENT, 'run', '--config', config];
    // A group of its own, so that a kill reaches what is behind a wrapper as well.
    this.child = spawn(command, args, { env: { ...ENV, ...env }, stdio: ['ignore', 'ignore', 'pipe'], detached: true });
    this.child.stderr?.on('data', (chunk: Buffer) => {
      this.log += chunk.toString();
    });
    this.exited = new Promise((resolve) =>
      this.child.once('close', (code, signal) => {
        this.ended = true;
        resolve(signal ?? code);
      }),
    );
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  async runs(timeoutMs = 60_000): Promise<void> {
    await until(
      () => this.ended || /agent \S+ runs/.test(this.log),
      () => `the agent to run; it says:\n${this.log.slice(-2000)}`,
      timeoutMs,
    );
    if (!/agent \S+ runs/.test(this.log)) throw new Error(`the agent ended before it ran:\n${this.log.slice(-3000)}`);
  }

  signal(signal: NodeJS.Signals): void {
    if (this.ended) return;
    try {
      process.kill(-this.pid, signal);
    } catch {
      // It ended just now.
    }
  }

  async kill9(): Promise<void> {
    this.signal('SIGKILL');
    await this.exited;
  }

  /** SIGTERM; the agent sends what it can and ends. */
  async stop(): Promise<void> {
    if (this.ended) return;
    this.signal('SIGTERM');
    expect(await this.exited, this.log.slice(-3000)).toBe(0);
  }
}

export interface RigSettings {
  routers?: Array<{ [name: string]: object }> | undefined;
  buffer?: object;
  mqtt?: object;
  /** Address that the tap listens on. */
  host?: string;
}

/** Routers that are all this machine's loopback. */
export function loopback(count: number, seconds: number): Array<{ [name: string]: object }> {
  return Array.from({ length: count }, (_, i) => ({ [`r${i}`]: { interfaces: ['lo'], polling_interval: seconds } }));
}

export class Rig {
  readonly pair: Pair;
  readonly tap: Tap;
  rounds = 0;
  private readonly agents: Agent[] = [];
  private understated = 0;

  private constructor(pair: Pair, tap: Tap) {
    this.pair = pair;
    this.tap = tap;
  }

  /** Ends with the test. */
  static async make({ routers = loopback(4, 0.1), buffer = {}, mqtt = {}, host = '127.0.0.1' }: RigSettings = {}): Promise<Rig> {
    const dir = tempDir();
    // The tap has to know where the broker will be, and the agent where the tap is.
    const late = { port: 0 };
    const probe = await Pair.make(dir, {});
    late.port = probe.mqttPort;
    const tap = await startTap(late.port, host);
    const settings = {
      data_dir: 'data',
      log: { format: 'json' },
      mqtt: { url: `mqtt://${host}:${tap.port}`, timeout: 1, ...mqtt },
      routers,
      // Thousands of starts, and every number of the agent is looked for among the processed records.
      inventory: { interval: 0 },
      agent: { id: 'edge', http: { port: Number(new URL(probe.agentUrl).port) }, buffer: { max_bytes: 4 * 2 ** 20, ...buffer } },
      aggregator: { http: { port: Number(new URL(probe.url).port) }, mqtt: { port: probe.mqttPort } },
    };
    probe.configure(settings);
    const rig = new Rig(probe, tap);
    onTestFinished(async () => {
      for (const agent of rig.agents) await agent.kill9();
      await probe.stop();
      await tap.close();
    });
    await probe.aggregator();
    return rig;
  }

  get folder(): string {
    return join(this.pair.dir, 'data/agent');
  }
  get file(): string {
    return join(this.folder, 'outbox.db');
  }

  /** Starts the agent without waiting for it. */
  launch(surroundings: Surroundings = {}): Agent {
    const agent = new Agent(this.pair.config, surroundings);
    this.agents.push(agent);
    return agent;
  }

  async agent(surroundings: Surroundings = {}): Promise<Agent> {
    const agent = this.launch(surroundings);
    await agent.runs();
    return agent;
  }

  /** What the agent says of its buffer: where records are kept now. */
  async where(): Promise<string> {
    const response = await fetch(`${this.pair.agentUrl}/readyz`);
    return ((await response.json()) as { buffer: { where: string } }).buffer.where;
  }

  /** A counter or gauge of the agent; 0 where it has none such. */
  async metric(line: string): Promise<number> {
    const text = await (await fetch(`${this.pair.agentUrl}/metrics`)).text();
    const found = text.split('\n').find((each) => each.startsWith(`${line} `));
    return found === undefined ? 0 : Number(found.slice(line.length));
  }

  /** Waits until so many more numbers have been given out: the file says so, or they were seen on the line. */
  async grows(by: number): Promise<void> {
    const highest = () => Math.max(this.books().last, this.tap.highest);
    const before = highest();
    await until(() => highest() >= before + by, `${by} more records`, PATIENCE_MS);
  }

  books(): Books {
    return readBooks(this.file);
  }

  /** The numbers in the store, in order. */
  arrived(): number[] {
    return this.pair.stored('processed').map(({ seq }) => seq);
  }

  async told(): Promise<{ duplicates: number; gaps: Gap[] }> {
    const { agents } = await this.pair.get<{
      agents: Array<{ received: { duplicates: number }; gaps: Array<{ from: number; to: number; count: number; reason: string }> }>;
    }>('/api/v1/ledger');
    return {
      duplicates: agents[0]?.received.duplicates ?? 0,
      gaps: gapsOf(join(this.pair.dir, 'data/aggregator/store.db')),
    };
  }

  /**
   * Compares the books of both sides now, the agent running or not: every record is at the aggregator once, waits, or was named.
   * @param exact whether nothing may have been dropped
   */
  async expectAgreement(what: string, exact: boolean): Promise<void> {
    this.rounds += 1;
    const books = this.books();
    const look = async () => compare(books, this.arrived(), (await this.told()).gaps);
    // What the broker has taken is in the store a moment later.
    let found = await look();
    for (const end = performance.now() + PATIENCE_MS; found.silent.length > 0 && performance.now() < end; ) {
      await sleep(50);
      found = await look();
    }
    const { missing, ...faults } = found;
    expect(faults, `${what}: ${JSON.stringify({ ...books, waits: books.waits.length })}`).toEqual({
      unbalanced: 0,
      miscounted: 0,
      twice: [],
      silent: [],
      understated: 0,
    });
    expect(this.tap.reused, `${what}: numbers used twice`).toEqual([]);
    if (exact) {
      expect({ missing, dropped: books.dropped, rejected: books.rejected }, what).toEqual({ missing: 0, dropped: {}, rejected: {} });
    }
    // A gap may own up to more than is missing, where the agent could not know better; never to less.
    expect(sum(books.dropped), what).toBeGreaterThanOrEqual(missing);
    this.understated += found.understated;
  }

  /** Lets everything out, stops the agent, compares, and returns what came of it all. */
  async finish(what: string, exact: boolean, surroundings: Surroundings = {}): Promise<Figures> {
    this.tap.turn('pass');
    for (let i = 0; i < 5; i += 1) {
      const agent = await this.agent(surroundings);
      const before = this.tap.distinct;
      await until(() => this.books().pending < 50 && this.tap.distinct > before, `${what}: the backlog to go out`, PATIENCE_MS);
      await agent.stop();
      if (this.books().pending === 0 && this.books().gaps.length === 0) break;
    }
    await this.expectAgreement(`${what}, at the end`, exact);
    this.rounds -= 1;
    const { produced, delivered, pending, dropped, rejected, gaps } = this.books();
    expect({ pending, gaps }, what).toEqual({ pending: 0, gaps: [] });
    const { duplicates, gaps: announced } = await this.told();
    // What the account has as dropped is what the gaps say, reason by reason.
    const byReason: { [reason: string]: number } = {};
    for (const { reason, count } of announced) if (count > 0) byReason[reason] = (byReason[reason] ?? 0) + count;
    expect(byReason, `${what}: gaps announced against drops in the account`).toEqual(dropped);
    expect(sum(rejected), what).toBe(0);
    return {
      rounds: this.rounds,
      produced,
      delivered,
      dropped,
      arrived: this.arrived().length,
      duplicates,
      lostSilently: this.understated,
    };
  }
}

/** Every gap notice in the store; the interface lists the last ones only. */
function gapsOf(file: string): Gap[] {
  const db = new Database(file, { readonly: true });
  try {
    return db.prepare<[], Gap>('SELECT first, last, count, reason FROM gaps').all();
  } finally {
    db.close();
  }
}
