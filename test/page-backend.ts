/** What the page talks to: a real store and API, without the bus. What comes in is handed to `stage` as the bus would deliver it. */
import { join } from 'node:path';
import { startApi } from '../aggregator/api.ts';
import { Live } from '../aggregator/live.ts';
import { Store } from '../aggregator/store.ts';
import { StoreStage } from '../aggregator/store-stage.ts';
import { loadConfig } from '../common/config.ts';
import { SeqSets } from '../common/dedupe.ts';
import { Metrics } from '../common/metrics.ts';
import { openDb } from '../common/sqlite.ts';
import { TOPICS } from './telemetry.ts';

export class PageBackend {
  url = '';
  readonly stage: StoreStage;
  /** Numbers of agents that have arrived. */
  readonly seen: SeqSets;
  private readonly store: Store;
  private readonly live = new Live();
  private readonly metrics = new Metrics();
  private readonly seenDb;
  private readonly env: { [name: string]: string };
  private api: { close: () => Promise<void> } | undefined;

  /**
   * @param dir of its databases
   * @param env configuration
   */
  constructor(dir: string, env: { [name: string]: string } = {}) {
    this.env = env;
    this.store = new Store(join(dir, 'store.db'), TOPICS);
    this.stage = new StoreStage(this.store, this.live, this.metrics);
    this.seenDb = openDb(join(dir, 'seen.db'));
    this.seen = new SeqSets(this.seenDb);
  }

  /** Listens. @param port 0 takes a free one */
  async start(port = 0): Promise<void> {
    const loaded = loadConfig(undefined, { ...this.env, NDT_AGGREGATOR_HTTP_PORT: String(port) });
    const { store, live, metrics } = this;
    const ledger = () => this.seen.agents();
    const api = await startApi({ loaded, store, live, metrics, ledger, readiness: () => ({ ready: true, reasons: [] }) });
    this.api = api;
    this.url = api.url;
  }

  /** Listens no more; what came stays, for another `start`. */
  async stop(): Promise<void> {
    await this.api?.close();
    this.api = undefined;
  }

  async close(): Promise<void> {
    await this.stop();
    this.live.close();
    this.store.close();
    this.seenDb.close();
  }
}
