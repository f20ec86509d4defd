/**
 * The NetFlow stage as a whole: a message of topic `flows` in, records for topic `netflow-output` out.
 *
 * Without the optional stages it keeps nothing: one flow gives one record at once. With them it holds flows; `takeChanges` and
 * `restore` carry those over a restart. They belong into one commit with the records and the position in the topic: what was read up to
 * there is then either written or held, and never both.
 */
import { type AggregateOptions, FlowAggregator } from './aggregate.ts';
import { type BidirectionalOptions, FlowMerger, pairsOf } from './bidirectional.ts';
import { countLeftOut, type NetflowCounters, newCounters } from './counters.ts';
import { type Decoded, decodeMessage, namingOf } from './flow.ts';
import { Changes } from './held-state.ts';
import type { LeafPath } from './leaves.ts';
import { type Flow, type NormaliseOptions, normalise } from './normalise.ts';
import { arrivedBy } from './window-clock.ts';
import { writeFlow } from './write.ts';

export interface NetflowOptions extends NormaliseOptions {
  /** 64-bit integers and decimals as strings (RFC 7951, section 6.1); numbers when false, the default. */
  rfc7951?: boolean;
  /** Sums flows up over windows. Off when missing. */
  aggregate?: AggregateOptions;
  /** Puts both directions into one record. Off when missing. */
  bidirectional?: BidirectionalOptions;
  /** Keeps account of what changed for `takeChanges`; it has to be taken regularly then. False by default. */
  trackChanges?: boolean;
}

/** Records that are ready, or why there is none. An error is permanent: the message belongs to `netflow-errors`, with it as the reason. */
export type Taken = { records: Flow[] } | { error: string };
/** The same, written. */
export type MessageResult = { output: Buffer[] } | { error: string };

/** With which stages the state was written; state of others cannot be gone on with. */
const STAGES_KEY = 'stages';

export class NetflowPipeline {
  readonly counters: NetflowCounters;
  private readonly options: NetflowOptions;
  private readonly changes: Changes | undefined;
  private readonly aggregator: FlowAggregator | undefined;
  private readonly merger: FlowMerger | undefined;

  constructor(options: NetflowOptions = {}, counters: NetflowCounters = newCounters()) {
    const { aggregate, bidirectional, trackChanges } = options;
    this.options = options;
    this.counters = counters;
    this.changes = trackChanges ? new Changes() : undefined;
    this.aggregator = aggregate && new FlowAggregator(aggregate, counters, this.changes);
    // Both directions of a window are written together, so that none has to wait for the other.
    this.merger = bidirectional && aggregate === undefined ? new FlowMerger(bidirectional, counters, this.changes) : undefined;
    this.putStages();
  }

  /** One message of the bus: the records that are ready now, written. */
  message(value: Buffer): MessageResult {
    const taken = this.take(value);
    return 'error' in taken ? taken : { output: taken.records.map((record) => Buffer.from(this.write(record))) };
  }

  /**
   * One message of the bus: the records that are ready now.
   * @param busMs when the bus got it [Unix ms]: no flow is later than that
   */
  take(value: Buffer, busMs = Number.POSITIVE_INFINITY): Taken {
    const decoded = decodeMessage(value);
    const flows = typeof decoded === 'string' ? decoded : this.normalised(decoded);
    if (typeof flows === 'string') {
      if (typeof decoded === 'string') this.refuse();
      return { error: flows };
    }
    return { records: flows.flatMap((flow) => this.push(arrivedBy(flow, busMs))) };
  }

  /** The flows of one message, or why one of them is none: then the message counts as one bad flow, and nothing of it goes out. */
  normalised(decoded: readonly Decoded[]): Flow[] | string {
    const leftOut: LeafPath[] = [];
    const note = (leaf: LeafPath) => leftOut.push(leaf);
    const flows: Flow[] = [];
    for (const { fields, shape } of decoded) {
      const flow = normalise(fields, namingOf(shape), this.options, note);
      if (typeof flow === 'string') {
        this.refuse();
        return flow;
      }
      flows.push(flow);
    }
    for (const { shape } of decoded) this.counters.shapes[shape]++;
    for (const leaf of leftOut) countLeftOut(this.counters, leaf);
    this.counters.in += flows.length;
    this.counters.normalised += flows.length;
    return flows;
  }

  /** Counts what could not be read. */
  refuse(): void {
    this.counters.in++;
    this.counters.bad++;
  }

  /** Takes a flow through the optional stages. @returns the records that are ready */
  push(flow: Flow): Flow[] {
    if (this.aggregator !== undefined) return this.emit(this.paired(this.aggregator.add(flow)));
    return this.emit(this.merger === undefined ? [flow] : this.merger.add(flow));
  }

  /**
   * Lets go what is due at that event time [Unix ms], also of exporters that send nothing any more. A running stage calls it now and
   * then with the wall clock minus the time that flows may need to arrive.
   */
  advance(ms: number): Flow[] {
    if (this.aggregator !== undefined) return this.emit(this.paired(this.aggregator.advance(ms)));
    return this.emit(this.merger?.advance(ms) ?? []);
  }

  /** Lets go everything: the end of a file. */
  flush(): Flow[] {
    return this.emit([...this.paired(this.aggregator?.flush() ?? []), ...(this.merger?.flush() ?? [])]);
  }

  /** How many flows are held for later. */
  get held(): number {
    return (this.aggregator ?? this.merger)?.size.flows ?? 0;
  }

  write(record: Flow): string {
    return writeFlow(record.values, this.options.rfc7951 ?? false);
  }

  /** What changed of what is held since the last time, by key; null for what is gone. Empty without `trackChanges`. */
  takeChanges(): Map<string, Buffer | null> {
    return this.changes?.take() ?? new Map();
  }

  /**
   * Takes over everything that `takeChanges` gave, instead of what is held now.
   * Changes that were not taken are those of a batch that came to nothing, and are forgotten.
   * @returns records of what another setting of the stages held, which cannot go on here: their keys are among the next changes
   */
  restore(state: ReadonlyMap<string, Buffer>): Flow[] {
    this.changes?.take();
    // Until it is committed it has to be told anew.
    if (!state.has(STAGES_KEY)) this.putStages();
    const stages = state.get(STAGES_KEY)?.toString();
    const values = [...state].filter(([key]) => key !== STAGES_KEY).map(([, value]) => value.toString());
    if (stages === undefined || stages === this.stages()) {
      this.aggregator?.restore(values);
      this.merger?.restore(values);
      return [];
    }
    const { aggregate, bidirectional } = JSON.parse(stages) as Pick<NetflowOptions, 'aggregate' | 'bidirectional'>;
    const before = new NetflowPipeline({ ...(aggregate && { aggregate }), ...(bidirectional && { bidirectional }) }, this.counters);
    before.restore(state);
    for (const key of state.keys()) this.changes?.drop(key);
    this.putStages();
    return before.flush();
  }

  private putStages(): void {
    if (this.aggregator ?? this.merger) this.changes?.put(STAGES_KEY, () => this.stages());
  }

  private stages(): string {
    const { aggregate, bidirectional } = this.options;
    return JSON.stringify({ aggregate, bidirectional });
  }

  private paired(records: Flow[]): Flow[] {
    return this.options.bidirectional === undefined ? records : pairsOf(records, this.counters);
  }

  private emit(records: Flow[]): Flow[] {
    this.counters.out += records.length;
    return records;
  }
}

/**
 * One message, without any stage that holds flows.
 * @returns the records as JSON, one for each flow of the message, or why there is none
 */
export function normaliseMessage(
  value: Buffer,
  options: Omit<NetflowOptions, 'aggregate' | 'bidirectional' | 'trackChanges'> & { counters?: NetflowCounters } = {},
): MessageResult {
  const { counters, ...rest } = options;
  return new NetflowPipeline(rest, counters).message(value);
}
