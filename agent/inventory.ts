/**
 * When inventories are made: soon after the first poll, then once every interval of the monotonic clock, and anew when the routers that
 * are this machine have changed. A router that is read over the network is another machine: nothing is told of it.
 */
import { VERSION } from '../common/cli.ts';
import type { Loaded, Router } from '../common/config.ts';
import { messageOf } from '../common/errors.ts';
import type { Inventory, Machine } from '../common/inventory.ts';
import { Fault, type Logger } from '../common/logger.ts';
import { epochText, routerOf } from '../common/record.ts';
import { topicFor } from '../common/topics.ts';
import type { NewRecord } from './outbox.ts';
import type { Clock } from './source.ts';

export interface InventoryOptions {
  agentId: string;
  clock: Clock;
  log: Logger;
  append: (records: NewRecord[]) => void;
  /** Reads the machine that a procfs belongs to; by default in a process of its own. */
  read?: (procfsRoot: string, signal: AbortSignal) => Promise<Machine>;
}

/** The start and the first polls come first [ms]. */
const AFTER_START_MS = 2000;
/** After a failure, where the interval is longer [ms]. */
const AGAIN_MS = 3_600_000;

export class InventoryTaker {
  private readonly options: InventoryOptions;
  private readonly fault: Fault;
  private loaded: Loaded | undefined;
  private timer: NodeJS.Timeout | undefined;
  private underWay: AbortController | undefined;
  private hasPolled = false;
  /** When the next one is due, on the monotonic clock [ms]; undefined until the first poll. */
  private due: number | undefined;
  private lastMs: number | undefined;

  constructor(options: InventoryOptions) {
    this.options = options;
    this.fault = new Fault(options.log, 'inventory');
  }

  /** Goes over to a configuration. */
  configure(loaded: Loaded): void {
    const before = this.loaded;
    this.loaded = loaded;
    if (before === undefined) return;
    if (subjectsOf(before) !== subjectsOf(loaded)) this.due = this.hasPolled ? this.nowMs() + AFTER_START_MS : undefined;
    else if (this.lastMs !== undefined) this.due = this.lastMs + this.intervalMs;
    this.schedule();
  }

  /** A router was polled, well or not: the start is over. */
  polled(): void {
    if (this.hasPolled) return;
    this.hasPolled = true;
    this.due = this.nowMs() + AFTER_START_MS;
    this.schedule();
  }

  stop(): void {
    clearTimeout(this.timer);
    this.loaded = undefined;
    this.underWay?.abort();
  }

  private get intervalMs(): number {
    return (this.loaded?.config.inventory.interval ?? 0) * 1000;
  }

  private nowMs(): number {
    return Number(this.options.clock.monotonicNs() / 1_000_000n);
  }

  private schedule(): void {
    clearTimeout(this.timer);
    if (this.due === undefined || this.loaded === undefined || this.intervalMs === 0 || ownRouters(this.loaded).length === 0) return;
    this.timer = setTimeout(() => void this.take(), Math.max(0, this.due - this.nowMs()));
    this.timer.unref();
  }

  /** Never rejects. */
  private async take(): Promise<void> {
    const { loaded } = this;
    if (loaded === undefined || this.underWay !== undefined) return;
    const controller = new AbortController();
    this.underWay = controller;
    this.lastMs = this.nowMs();
    let again = this.intervalMs;
    try {
      const records: NewRecord[] = [];
      for (const [root, routers] of Map.groupBy(ownRouters(loaded), (router) => router.procfsRoot)) {
        const machine = await this.read(root, controller.signal);
        for (const router of routers) records.push(this.record(router, machine, loaded));
      }
      if (controller.signal.aborted) return;
      this.options.append(records);
      this.fault.clear();
      this.options.log.info({ routers: records.map(({ key }) => key) }, 'inventory taken');
    } catch (error) {
      if (controller.signal.aborted) return;
      again = Math.min(again, AGAIN_MS);
      // Once: where it cannot work at all, nobody wants to read that every hour.
      if (!this.fault.active)
        this.fault.raise(`the process that reads this machine failed, and the routers' records go on without it: ${messageOf(error)}`);
    } finally {
      this.underWay = undefined;
    }
    // A change that came meanwhile has set its own time.
    if (this.loaded === loaded) this.due = this.nowMs() + again;
    this.schedule();
  }

  private async read(root: string, signal: AbortSignal): Promise<Machine> {
    if (this.options.read !== undefined) return this.options.read(root, signal);
    const { askChild } = await import('./inventory/child.ts');
    return askChild(root, signal);
  }

  private record(router: Router, machine: Machine, { config }: Loaded): NewRecord {
    const inventory: Inventory = {
      type: 'inventory',
      // The name that the router's records give it.
      router: routerOf({ node_exporter: router.nodeExporter }),
      agent: this.options.agentId,
      collected_at: epochText(this.options.clock.nowMicros()),
      ...machine,
      ndt: { version: VERSION, node: process.versions.node },
    };
    return { topic: topicFor(config.topics.inventory, router.name), key: router.name, body: JSON.stringify(inventory) };
  }
}

/** Routers that are the machine the agent runs on. */
export function ownRouters({ routers }: Pick<Loaded, 'routers'>): Router[] {
  return routers.filter(({ source }) => source === 'procfs');
}

function subjectsOf(loaded: Loaded): string {
  return JSON.stringify(ownRouters(loaded).map(({ name, nodeExporter, procfsRoot }) => [name, nodeExporter, procfsRoot]));
}
