/** The agent put together: sources to outbox, outbox to uplink, and an HTTP listener that tells how it goes. */
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { VERSION } from '../common/cli.ts';
import { agentIdOf, type Loaded, pathOf, type Router } from '../common/config.ts';
import { codeOf, messageOf, NdtError } from '../common/errors.ts';
import { closeServer, EXPOSITION_TYPE, health, json, listenHttp, type Reply, text } from '../common/http.ts';
import { Fault, type Logger } from '../common/logger.ts';
import { type Part, Progress } from '../common/progress.ts';
import type { Baseline } from '../common/rates.ts';
import type { Service } from '../common/service.ts';
import { lockDir } from '../common/sqlite.ts';
import { collectRouter } from './collector.ts';
import { drain, LONGEST_ROUND_MS } from './drain.ts';
import { enrich } from './enrich.ts';
import { InventoryTaker } from './inventory.ts';
import { type AgentMetrics, agentMetrics } from './metrics.ts';
import { kernelBootId, type LaneName, type NewRecord, Outbox, type OutboxEvent } from './outbox.ts';
import { pollRouter } from './poller.ts';
import { type Clock, type CounterSample, type Source, SourceError, systemClock } from './source.ts';
import { createSource } from './sources.ts';
import type { Uplink } from './uplink.ts';
import { sinceBootMicros, WallClock } from './wall-clock.ts';

const UPKEEP_MS = 1000;
/** What a poll may take beside its time-out: the commit, with room to spare. */
const BESIDE_TIMEOUT_MS = 60_000;
/** A reload waits so long for polls under way before it ends them: the other routers' polls wait with it. */
const LAST_POLLS_MS = 200;

/** What a configuration sets up and a reload takes down again. */
interface Running {
  loaded: Loaded;
  sources: Map<string, Source>;
  uplink: Uplink;
  /** Ends the polling; each poll under way has so long to end by itself [ms]. */
  stopPolling(lastMs: number): Promise<void>;
  /** Undefined while a reload still ends the one before. */
  stopSending: (() => Promise<void>) | undefined;
}

interface Waiting {
  record: NewRecord | undefined;
  resolve: () => void;
  reject: (error: unknown) => void;
}

export class Agent implements Service {
  readonly outbox: Outbox;
  url = '';
  private readonly id: string;
  private readonly boot = newIdentity();
  private readonly kernelBoot = kernelBootId();
  private readonly log: Logger;
  private readonly clock: Clock;
  private readonly metrics: AgentMetrics;
  private readonly baselines: Map<string, Baseline>;
  private readonly changedBaselines = new Map<string, Baseline>();
  private readonly faults = new Map<string, Fault>();
  private readonly polled = new Set<string>();
  /** By router: what was last said of it. */
  private readonly capacities = new Map<string, string>();
  private readonly progress = new Progress();
  /** What each router's polling and each lane has to get on with. */
  private readonly parts = new Map<string, { part: Part; withinMs: number }>();
  private unlock: (() => void) | undefined;
  private readonly wallClock: WallClock;
  private readonly upkeep: NodeJS.Timeout;
  private readonly inventory: InventoryTaker;
  private waiting: Waiting[] = [];
  private running: Running | undefined;
  private server: Server | undefined;

  private constructor(loaded: Loaded, log: Logger, clock: Clock) {
    const { config } = loaded;
    this.log = log;
    this.clock = clock;
    this.id = agentIdOf(config);
    const dir = `${pathOf(loaded, config.data_dir)}/agent`;
    try {
      this.unlock = lockDir(dir, 'agent');
    } catch (error) {
      const fault = diskFault(dir);
      if (fault === undefined || (error instanceof NdtError && error.code === 'UNAVAILABLE')) throw error;
      this.log.warn({ code: fault }, `${dir} cannot be written to (${fault}): the agent begins without it, and uses it as soon as it can`);
    }
    this.wallClock = new WallClock({
      boot: this.kernelBoot,
      nowMicros: () => clock.nowMicros(),
      sinceBootMicros: sinceBootMicros(() => Number(clock.monotonicNs() / 1000n)),
      onStep: (step, trust) => this.clockStepped(step, trust),
    });
    this.outbox = new Outbox({
      file: `${dir}/outbox.db`,
      agentId: this.id,
      boot: this.boot,
      kernelBoot: this.kernelBoot,
      wallClock: this.wallClock,
      report: ({ level, message, fields }: OutboxEvent) => this.log[level](fields, message),
      prepare: () => {
        this.unlock ??= lockDir(dir, 'agent');
      },
      ...bounds(loaded),
    });
    this.metrics = agentMetrics(VERSION, this.outbox);
    this.baselines = this.outbox.baselines();
    this.inventory = new InventoryTaker({ agentId: this.id, clock, log, append: (records) => void this.outbox.append(records) });
    this.upkeep = setInterval(() => this.outbox.maintain(), UPKEEP_MS);
    this.upkeep.unref();
  }

  static async start(loaded: Loaded, log: Logger, clock: Clock = systemClock): Promise<Agent> {
    const agent = new Agent(loaded, log, clock);
    try {
      const sources = makeSources(loaded);
      agent.start(loaded, sources, await makeUplink(loaded, agent.id, agent.boot, log));
      const { url, server } = await listenHttp(loaded, loaded.config.agent.http, 'agent.http', (path) => agent.answer(path));
      agent.server = server;
      agent.url = url;
    } catch (error) {
      await agent.stop();
      throw error;
    }
    const { pending, last } = agent.outbox.ledger();
    log.info(
      { url: agent.url, agent: agent.id, routers: loaded.routers.map((r) => r.name), pending, last_seq: last },
      `agent ${agent.id} runs`,
    );
    return agent;
  }

  async reload(loaded: Loaded): Promise<void> {
    const old = this.running;
    if (old === undefined) return;
    refuseChange(old.loaded, loaded);
    // The new side is made before the old one ends: when that fails, the old one has not been touched.
    const sources = makeSources(loaded);
    const uplink = await makeUplink(loaded, this.id, this.boot, this.log);
    await old.stopPolling(LAST_POLLS_MS);
    this.forgetAllBut(loaded);
    this.outbox.configure(bounds(loaded));
    // Polls go on while the old uplink is still waited for.
    const running = this.startPolling(loaded, sources, uplink);
    await old.stopSending?.();
    running.stopSending = this.startSending(loaded, uplink);
  }

  async stop(): Promise<void> {
    this.inventory.stop();
    await this.running?.stopPolling(0);
    await this.running?.stopSending?.();
    if (this.server !== undefined) await closeServer(this.server);
    clearInterval(this.upkeep);
    this.outbox.close();
    this.unlock?.();
  }

  status(): string {
    const { pending, delivered } = this.outbox.ledger();
    const { cause } = this.outbox.whereabouts();
    const routers = this.running?.loaded.routers.length ?? 0;
    return [
      `watches ${routers} router${routers === 1 ? '' : 's'}`,
      `${delivered} records delivered, ${pending} ${pending === 1 ? 'waits' : 'wait'}`,
      ...(this.running?.uplink.connected === true ? [] : ['the uplink is not connected']),
      ...(cause === undefined ? [] : [`the buffer is in memory (${cause})`]),
    ].join('; ');
  }

  stuck(): string[] {
    return this.progress.stuck();
  }

  /** A part got on: it has again so long for its next round. */
  private gotOn(what: string): void {
    const found = this.parts.get(what);
    found?.part.again(found.withinMs);
  }

  private expect(what: string, withinMs: number): void {
    this.parts.set(what, { part: this.progress.begin(what, withinMs), withinMs });
  }

  private start(loaded: Loaded, sources: Map<string, Source>, uplink: Uplink): void {
    this.startPolling(loaded, sources, uplink).stopSending = this.startSending(loaded, uplink);
  }

  private startPolling(loaded: Loaded, sources: Map<string, Source>, uplink: Uplink): Running {
    this.inventory.configure(loaded);
    const polling = new AbortController();
    const kill = new AbortController();
    const polls = loaded.routers.map((router) => {
      const source = sources.get(router.name);
      if (source === undefined) throw new Error(`router ${router.name} has no source`);
      this.expect(pollingOf(router), (router.pollingIntervalS + loaded.config.agent.timeout) * 1000 + BESIDE_TIMEOUT_MS);
      return pollRouter(router, source, (sample) => this.take(sample, loaded), this.pollEvents, this.clock, polling.signal, kill.signal);
    });
    this.running = {
      loaded,
      sources,
      uplink,
      stopPolling: async (lastMs) => {
        polling.abort();
        const late = lastMs === 0 ? undefined : setTimeout(() => kill.abort(), lastMs);
        if (late === undefined) kill.abort();
        await Promise.all(polls);
        clearTimeout(late);
        for (const source of sources.values()) source.close();
        for (const router of loaded.routers) this.endPart(pollingOf(router));
      },
      stopSending: undefined,
    };
    return this.running;
  }

  private startSending(loaded: Loaded, uplink: Uplink): () => Promise<void> {
    const sending = new AbortController();
    const draining = drain(
      {
        outbox: this.outbox,
        uplink,
        batch: loaded.config.mqtt.batch_records,
        agentId: this.id,
        boot: this.boot,
        log: this.log,
        events: this.sendEvents,
        replay: loaded.config.agent.buffer.replay,
      },
      sending.signal,
    );
    return async () => {
      sending.abort();
      await draining;
      await uplink.close();
      for (const what of [...this.parts.keys()].filter((name) => name.startsWith('sending ('))) this.endPart(what);
    };
  }

  private endPart(what: string): void {
    this.parts.get(what)?.part.end();
    this.parts.delete(what);
  }

  /** What was told of routers that are not watched any more. */
  private forgetAllBut({ routers }: Loaded): void {
    const kept = new Set(routers.flatMap(({ name }) => [name, `interfaces of ${name}`]));
    for (const key of [...this.faults.keys()]) if (!kept.has(key)) this.faults.delete(key);
    for (const name of [...this.polled]) if (!kept.has(name)) this.polled.delete(name);
  }

  /** Takes a sample in; what comes in one turn of the event loop is one commit. */
  private take(sample: CounterSample, loaded: Loaded): Promise<void> {
    const { name } = sample.router;
    const interfaces = `interfaces of ${name}`;
    // The others' figures are the router's meanwhile.
    if (sample.missing.length > 0)
      this.faultOf(interfaces, interfaces).raise(`there is no ${sample.missing.join(', ')}; the others are counted`);
    else this.faults.get(interfaces)?.clear();
    this.tellCapacity(sample);
    const { record, noRate, events, baseline } = enrich(
      sample,
      this.baselines.get(name),
      loaded.config,
      this.clock.nowMicros(),
      this.kernelBoot,
    );
    if (noRate !== undefined) this.metrics.noRate.inc({ router: name, reason: noRate });
    if (events.wrap > 0) this.metrics.wraps.inc({ router: name }, events.wrap);
    for (const [event, n] of Object.entries({ ...events, reboot: noRate === 'reboot' ? 1 : 0 })) {
      if (n > 0) this.metrics.counterEvents.inc({ router: name, event }, n);
    }
    if (baseline !== undefined) {
      this.baselines.set(name, baseline);
      this.changedBaselines.set(name, baseline);
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.waiting.push({ record, resolve, reject });
    if (this.waiting.length === 1) setImmediate(() => this.flush());
    return promise;
  }

  /** Says which capacity stands for the one that is not configured, and again when it is another. */
  private tellCapacity({ router, linkSpeed }: CounterSample): void {
    const { name, maxThroughputMbps: mbps } = router;
    const told = linkSpeed === undefined ? undefined : `${mbps} ${linkSpeed?.device ?? ''}`;
    if (this.capacities.get(name) === told) return;
    if (told === undefined) this.capacities.delete(name);
    else this.capacities.set(name, told);
    if (linkSpeed === undefined) return;
    const from = linkSpeed === null ? 'no monitored interface tells its speed' : `the speed of ${linkSpeed.device}`;
    this.log.info(
      { router: name, max_throughput_mbps: mbps, interface: linkSpeed?.device },
      `router ${name}: 100 % occupation is ${mbps} Mbit/s (${from}, and max_throughput_mbps is not configured)`,
    );
  }

  private flush(): void {
    const waiting = this.waiting;
    this.waiting = [];
    try {
      this.outbox.append(
        waiting.flatMap(({ record }) => (record === undefined ? [] : [record])),
        this.changedBaselines,
      );
      this.changedBaselines.clear();
      for (const { resolve } of waiting) resolve();
    } catch (error) {
      for (const { reject } of waiting) reject(error);
    }
  }

  private faultOf(key: string, what: string): Fault {
    let fault = this.faults.get(key);
    if (fault === undefined) {
      fault = new Fault(this.log, what);
      this.faults.set(key, fault);
    }
    return fault;
  }

  private clockStepped(stepMicros: number, trust: string): void {
    // The clock is looked at before there are metrics.
    this.metrics?.clockSteps.inc({ direction: stepMicros > 0 ? 'forward' : 'back' });
    const by = `${stepMicros > 0 ? 'forward' : 'back'} by ${(Math.abs(stepMicros) / 1e6).toFixed(1)} s`;
    this.log.warn(
      { step_seconds: stepMicros / 1e6, trust },
      `the wall clock was set ${by}${trust === 'wrong' ? ' and is wrong now' : ''}: durations are not touched by it`,
    );
  }

  private readonly pollEvents = {
    ok: (router: Router, seconds: number) => {
      this.metrics.polls.inc({ router: router.name, result: 'ok' });
      this.metrics.pollSeconds.observe(seconds, { router: router.name });
      this.polled.add(router.name);
      this.gotOn(pollingOf(router));
      this.inventory.polled();
      this.faults.get(router.name)?.clear();
    },
    failed: (router: Router, error: unknown) => {
      // A router that does not answer is no reason to start the agent anew.
      this.gotOn(pollingOf(router));
      this.inventory.polled();
      this.metrics.polls.inc({ router: router.name, result: error instanceof SourceError ? error.reason : 'error' });
      this.faultOf(router.name, 'poll').raise(messageOf(error));
    },
    skipped: (router: Router, ticks: number) => this.metrics.skipped.inc({ router: router.name }, ticks),
  };

  private readonly sendEvents = {
    sent: (lane: LaneName, records: number, seconds: number) => {
      this.metrics.sendSeconds.observe(seconds);
      this.metrics.sent.inc({ lane }, records);
    },
    failed: (reason: string) => this.metrics.sendErrors.inc({ reason }),
    turned: (lane: LaneName) => {
      const what = `sending (${lane})`;
      if (this.parts.has(what)) this.gotOn(what);
      else this.expect(what, LONGEST_ROUND_MS);
    },
  };

  private async answer(path: string): Promise<Reply | undefined> {
    const running = this.running;
    const { where, cause } = this.outbox.whereabouts();
    const stuck = this.stuck();
    if (path === '/healthz' && stuck.length > 0) return health(stuck);
    if (path === '/healthz') return text(200, cause === undefined ? 'ok\n' : `ok\nbuffer: in memory (${cause})\n`);
    if (path === '/readyz') {
      const ready = this.polled.size > 0;
      const faults = [...this.faults].filter(([, fault]) => fault.active).map(([name]) => name);
      return json(ready ? 200 : 503, {
        ready,
        reasons: ready ? [] : ['no router has been read yet'],
        routers_failing: faults,
        uplink_connected: running?.uplink.connected ?? false,
        pending: this.outbox.ledger().pending,
        buffer: { where, ...(cause === undefined ? {} : { cause }) },
      });
    }
    if (path === '/metrics') {
      this.metrics.connected.set(running?.uplink.connected === true ? 1 : 0);
      return { status: 200, type: EXPOSITION_TYPE, body: this.metrics.all.print() };
    }
    if (running === undefined || !path.startsWith('/metrics/')) return undefined;
    return await collectRouter(path, running.loaded, running.sources, this.clock);
  }
}

/** A random UUID; the kernel's own where there is one, because Node's cryptography takes a megabyte. */
function newIdentity(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/uuid', 'latin1').trim();
  } catch {
    return randomUUID();
  }
}

function pollingOf(router: Router): string {
  return `polling ${router.name}`;
}

function bounds({ config }: Loaded) {
  const { buffer } = config.agent;
  return {
    maxBytes: buffer.max_bytes,
    maxAgeMs: buffer.max_age * 1000,
    policy: buffer.policy,
    durability: buffer.durability,
    memoryMs: buffer.memory_seconds * 1000,
    memoryBytes: buffer.memory_bytes,
    noticeTopic: config.topics.notices,
  };
}

/** Why a folder cannot be written to, where that is the disk's fault and may pass: the agent then goes on without it. */
function diskFault(dir: string): string | undefined {
  const probe = `${dir}/.probe-${process.pid}`;
  try {
    mkdirSync(dir, { recursive: true, mode: 0o750 });
    writeFileSync(probe, 'x'.repeat(4096), { flush: true });
    return undefined;
  } catch (error) {
    const code = codeOf(error);
    return code !== undefined && PASSING.has(code) ? code : undefined;
  } finally {
    try {
      rmSync(probe, { force: true });
    } catch {
      // Where it could not be made, it cannot be deleted.
    }
  }
}

/** Read-only, full, failing. */
const PASSING = new Set(['EROFS', 'ENOSPC', 'EDQUOT', 'EIO']);

function makeSources(loaded: Loaded): Map<string, Source> {
  const sources = new Map<string, Source>();
  for (const router of loaded.routers) sources.set(router.name, createSource(router, loaded));
  return sources;
}

/** Loads only the client of the uplink in use. */
async function makeUplink(loaded: Loaded, agentId: string, boot: string, log: Logger): Promise<Uplink> {
  if (loaded.config.agent.uplink === 'kafka') {
    const { createKafkaUplink } = await import('./uplinks/kafka.ts');
    return createKafkaUplink({ loaded, agentId, log });
  }
  const { createMqttUplink } = await import('./uplinks/mqtt.ts');
  return createMqttUplink({ loaded, agentId, boot });
}

/** What stays as it is for the life of the process. */
function refuseChange(old: Loaded, next: Loaded): void {
  const fixed: Array<[string, (loaded: Loaded) => unknown]> = [
    ['data_dir', (l) => pathOf(l, l.config.data_dir)],
    ['agent.id', (l) => agentIdOf(l.config)],
    ['agent.http', (l) => l.config.agent.http],
  ];
  for (const [option, get] of fixed) {
    if (JSON.stringify(get(old)) !== JSON.stringify(get(next)))
      throw new NdtError('CONFIG', `${option} cannot change while the agent runs: restart it for that`);
  }
}
