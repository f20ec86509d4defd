/**
 * The NetFlow normaliser on the bus: `flows` in, `netflow-output` out, what cannot be read to `netflow-errors` with the reason.
 *
 * What the optional stages hold is held apart for each partition, as state that is committed with output and position: whoever of a
 * group takes a partition over takes over what is held of it, and nothing else, so that no record is written by two of them. A partition
 * has an event time of its own as well: one that has fallen behind is not late because others have not.
 */
import type { Delivered, Message, Outcome, Stage } from '../../common/bus.ts';
import { HEADER } from '../../common/bus.ts';
import type { Metrics } from '../../common/metrics.ts';
import type { Config } from '../../common/schema.ts';
import { AGGREGATE_DEFAULTS } from './aggregate.ts';
import { BIDIRECTIONAL_DEFAULTS } from './bidirectional.ts';
import { newCounters } from './counters.ts';
import { at } from './leaves.ts';
import type { Flow } from './normalise.ts';
import { type NetflowOptions, NetflowPipeline } from './pipeline.ts';

export const NETFLOW_GROUP = 'ndt-netflow';

/** After that long without a flow, a partition goes by the time of the others: its exporters have fallen silent. */
const IDLE_MS = 30_000;
const SAMPLER = at('sampler-address');
const SAMPLER_IPV6 = at('sampler-address-ipv6');

/** The configuration's section as the pipeline's options. */
export function netflowOptions({
  rfc7951,
  switched_unit,
  aggregate,
  lateness,
  bidirectional,
  pair_timeout,
}: Config['netflow']): NetflowOptions {
  return {
    rfc7951,
    ...(switched_unit === 'input' ? {} : { switchedUnit: switched_unit }),
    ...(aggregate > 0 ? { aggregate: { ...AGGREGATE_DEFAULTS, windowS: aggregate, latenessS: lateness } } : {}),
    ...(bidirectional ? { bidirectional: { ...BIDIRECTIONAL_DEFAULTS, timeoutS: pair_timeout } } : {}),
    trackChanges: true,
  };
}

/** What is held of a partition. */
interface Part {
  /** `flows/0`: its keys of the state begin with it. */
  readonly name: string;
  readonly pipeline: NetflowPipeline;
  /** When it last had a flow, as the clock has it [ms]. */
  seenMs: number;
}

export class NetflowStage implements Stage {
  private readonly settings: Config['netflow'];
  private readonly options: NetflowOptions;
  private readonly clock: () => number;
  private readonly counters = newCounters();
  private readonly seconds;
  private readonly parts = new Map<string, Part>();
  /** State of partitions of which nothing has come yet, if they are ours at all. */
  private committed = new Map<string, Map<string, Buffer>>();

  /** @param clock monotonic time [ms] */
  constructor(settings: Config['netflow'], metrics: Metrics, clock = () => performance.now()) {
    this.settings = settings;
    this.options = netflowOptions(settings);
    this.clock = clock;
    this.seconds = metrics.histogram('ndt_netflow_batch_duration_seconds', 'Time to normalise a batch of flows');
    const flows = metrics.counter('ndt_netflow_flows_total', 'Flows read, by what became of them');
    const shapes = metrics.counter('ndt_netflow_shapes_total', 'Flows normalised, by the form they came in');
    const records = metrics.counter('ndt_netflow_records_total', 'Records written');
    const leftOut = metrics.counter('ndt_netflow_values_left_out_total', 'Values that a leaf cannot have and that were left out, by leaf');
    const late = metrics.counter('ndt_netflow_late_flows_total', 'Flows that came after their window was written');
    const early = metrics.counter('ndt_netflow_early_windows_total', 'Windows written before their end because too many flows were held');
    const merged = metrics.counter('ndt_netflow_merged_total', 'Pairs of flows put into one record');
    const held = metrics.gauge('ndt_netflow_held_flows', 'Flows held for their window to end or for their other direction');
    const raise = (counter: typeof flows, to: number, labels = {}) => counter.inc(labels, to - counter.get(labels));
    metrics.onCollect(() => {
      const { counters } = this;
      raise(flows, counters.normalised, { result: 'normalised' });
      raise(flows, counters.bad, { result: 'bad' });
      raise(records, counters.out);
      raise(late, counters.late);
      raise(early, counters.early);
      raise(merged, counters.merged);
      for (const [shape, n] of Object.entries(counters.shapes)) if (n > 0) raise(shapes, n, { shape });
      for (const [leaf, n] of Object.entries(counters.leftOut)) raise(leftOut, n, { leaf });
      held.set([...this.parts.values()].reduce((sum, { pipeline }) => sum + pipeline.held, 0));
    });
  }

  restore(state: Map<string, Buffer>): void {
    this.parts.clear();
    this.committed = new Map();
    for (const [key, value] of state) {
      const end = key.indexOf(' ');
      const name = key.slice(0, end);
      const ofPart = this.committed.get(name) ?? new Map<string, Buffer>();
      this.committed.set(name, ofPart.set(key.slice(end + 1), value));
    }
  }

  handle(batch: Delivered[]): Outcome {
    const started = performance.now();
    const now = this.clock();
    const append: Message[] = [];
    const state = new Map<string, Buffer | null>();
    const put = ({ pipeline }: Part, record: Flow, key: string | null) =>
      append.push({ topic: this.settings.output, key, headers: {}, value: Buffer.from(pipeline.write(record)) });
    /** The latest append to each partition, and to all [Unix ms]. */
    const newest = new Map<Part, number>();

    for (const message of batch) {
      const part = this.part(message, (p, record) => put(p, record, exporterOf(record)));
      part.seenMs = now;
      newest.set(part, Math.max(newest.get(part) ?? 0, message.timestamp));
      const taken = part.pipeline.take(message.value, message.timestamp);
      if ('error' in taken) {
        const headers = { ...message.headers, [HEADER.reason]: taken.error, [HEADER.origin]: message.topic };
        append.push({ topic: this.settings.errors, key: message.key, headers, value: message.value });
      } else for (const record of taken.records) put(part, record, this.holds ? exporterOf(record) : keyFor(message, record));
    }
    // Windows of exporters that fell silent end with the time at which others still send.
    const latest = Math.max(...newest.values());
    for (const part of this.parts.values()) {
      const reached = newest.get(part) ?? (now - part.seenMs >= IDLE_MS ? latest : undefined);
      if (reached !== undefined)
        for (const record of part.pipeline.advance(reached - this.settings.lateness * 1000)) put(part, record, exporterOf(record));
      for (const [key, value] of part.pipeline.takeChanges()) state.set(`${part.name} ${key}`, value);
    }
    this.seconds.observe((performance.now() - started) / 1000);
    return { append, state };
  }

  private get holds(): boolean {
    return (this.options.aggregate ?? this.options.bidirectional) !== undefined;
  }

  /** The partition that a message is of. @param letGo given what other settings held, when it is met for the first time */
  private part({ topic, partition }: Delivered, letGo: (part: Part, record: Flow) => void): Part {
    const name = `${topic}/${partition}`;
    const known = this.parts.get(name);
    if (known !== undefined) return known;
    const part = { name, pipeline: new NetflowPipeline(this.options, this.counters), seenMs: 0 };
    this.parts.set(name, part);
    for (const record of part.pipeline.restore(this.committed.get(name) ?? new Map())) letGo(part, record);
    this.committed.delete(name);
    return part;
  }
}

/** A record of flows that were held is keyed by its exporter: which message let it go says nothing about it. */
function exporterOf({ values }: Flow): string | null {
  const address = values[SAMPLER] ?? values[SAMPLER_IPV6];
  return address === undefined ? null : String(address);
}

/** A record of one flow keeps the flow's key, unless that is no text (GoFlow2's hashes are four bytes). */
function keyFor({ key }: Message, record: Flow): string | null {
  return key?.includes('\ufffd') ? exporterOf(record) : key;
}
