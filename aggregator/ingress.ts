/**
 * What happens to an agent's batch, whichever broker it came over: taken apart, each line checked, then all of it onto the bus in one
 * durable write. What cannot be used goes to the dead letters with the reason, in the same write: sending it again would not make it any
 * better, so it is acknowledged like the rest.
 */
import { type BatchLine, batchLimits, batchTopic, decodeBatch } from '../common/batch.ts';
import { HEADER, type Headers, type Message } from '../common/bus.ts';
import type { Loaded } from '../common/config.ts';
import { Fault, type Logger } from '../common/logger.ts';
import type { Counter, Gauge, Histogram, Metrics } from '../common/metrics.ts';
import { type TopicSet, topicsOf } from '../common/topics.ts';
import { rawTopics } from './rates.ts';

/** The bus that remembers what it has: resolves when durable, with the messages that were new. */
export interface Ingestor {
  ingest(messages: Message[]): Promise<Message[]>;
}

export interface IngressOptions {
  loaded: Loaded;
  bus: Ingestor;
  metrics: Metrics;
  log: Logger;
}

interface IngressMetrics {
  batches: Counter;
  bytes: Counter;
  records: Counter;
  duplicates: Counter;
  deadLetters: Counter;
  failures: Counter;
  refused: Counter;
  connections: Gauge;
  seconds: Histogram;
}

const declared = new WeakMap<Metrics, IngressMetrics>();

/** The ingress' instruments, one set for all ways in. */
export function ingressMetrics(metrics: Metrics): IngressMetrics {
  let instruments = declared.get(metrics);
  if (instruments === undefined) {
    instruments = {
      batches: metrics.counter('ndt_ingress_batches_total', 'Batches that arrived, by way'),
      bytes: metrics.counter('ndt_ingress_bytes_total', 'Bytes of batches as they arrived (compressed), by way'),
      records: metrics.counter('ndt_ingress_records_total', 'Records and notices taken in, each once, by way'),
      duplicates: metrics.counter('ndt_ingress_duplicates_total', 'Records that had arrived before, by way'),
      deadLetters: metrics.counter('ndt_ingress_dead_letters_total', 'Lines and batches that could not be used, by way and reason'),
      failures: metrics.counter('ndt_ingress_failures_total', 'Batches that the bus could not take, to be sent again, by way'),
      refused: metrics.counter('ndt_ingress_refused_total', 'Connections that the broker refused or ended, by reason'),
      connections: metrics.gauge('ndt_ingress_connections', 'Agents connected to the broker'),
      seconds: metrics.histogram('ndt_ingress_duration_seconds', 'Time from a batch in hand to its records durable on the bus, by way'),
    };
    declared.set(metrics, instruments);
  }
  return instruments;
}

/** The identities that agents can have: the configuration's pattern for `agent.id`. */
export function isAgentId(id: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(id);
}

const COMPLAINTS_KEPT = 1000;

/** Complaints about clients: each kind from each of them is logged once, then at most once a minute with its count. */
export class Complaints {
  private readonly log: Logger;
  private readonly faults = new Map<string, Fault>();

  constructor(log: Logger) {
    this.log = log;
  }

  raise(kind: string, whom: string, message: string): void {
    // Whoever is not known yet can take any name: those must not fill the memory.
    const key = this.faults.size < COMPLAINTS_KEPT || this.faults.has(`${kind} ${whom}`) ? `${kind} ${whom}` : kind;
    let fault = this.faults.get(key);
    if (fault === undefined) {
      fault = new Fault(this.log, 'ingress');
      this.faults.set(key, fault);
    }
    fault.raise(message, { kind, whom });
  }
}

/**
 * The batches of one connection, in the order they came: none gets onto the bus when one before it could not, or the order of a router's
 * records would be lost. What comes while a write is under way is written together.
 */
export class Lane {
  private readonly writeAll: (messages: Message[]) => Promise<void>;
  private waiting: Array<{ messages: Message[]; settle: PromiseWithResolvers<void> }> = [];
  private busy = false;
  private broken: { error: unknown } | undefined;

  constructor(writeAll: (messages: Message[]) => Promise<void>) {
    this.writeAll = writeAll;
  }

  write(messages: Message[]): Promise<void> {
    if (this.broken !== undefined) return Promise.reject(this.broken.error);
    const settle = Promise.withResolvers<void>();
    this.waiting.push({ messages, settle });
    if (!this.busy) void this.run();
    return settle.promise;
  }

  /** Never rejects. */
  private async run(): Promise<void> {
    this.busy = true;
    while (this.waiting.length > 0) {
      const now = this.waiting;
      this.waiting = [];
      try {
        await this.writeAll(now.flatMap(({ messages }) => messages));
        for (const { settle } of now) settle.resolve();
      } catch (error) {
        this.broken = { error };
        for (const { settle } of [...now, ...this.waiting]) settle.reject(error);
        this.waiting = [];
      }
    }
    this.busy = false;
  }
}

type DeadReason = 'unreadable' | 'line' | 'agent' | 'seq' | 'topic';

const SEQ = /^[1-9][0-9]{0,15}$/;
const TOPIC = /^[^\s\p{C}]{1,249}$/u;

export class Receiver {
  private readonly via: string;
  private readonly bus: Ingestor;
  private readonly counted: IngressMetrics;
  private readonly complaints: Complaints;
  private readonly inHand = new Set<Promise<unknown>>();
  private loaded: Loaded;
  private allowed: TopicSet;
  private forbidden: TopicSet;

  /** @param via the way in, for metrics: `broker` or `subscription` */
  constructor({ loaded, bus, metrics, log }: IngressOptions, via: string) {
    this.via = via;
    this.bus = bus;
    this.counted = ingressMetrics(metrics);
    this.complaints = new Complaints(log);
    this.loaded = loaded;
    ({ allowed: this.allowed, forbidden: this.forbidden } = topicSets(loaded));
  }

  configure(loaded: Loaded): void {
    this.loaded = loaded;
    ({ allowed: this.allowed, forbidden: this.forbidden } = topicSets(loaded));
  }

  /** A way in for one connection. */
  lane(): Lane {
    return new Lane((messages) => this.write(messages));
  }

  /**
   * Takes a batch in; resolves when all of it is durable.
   * @param agent who sent it, as the broker knows for certain
   * @throws when the bus cannot take it now: it has to be sent again
   */
  async receive(lane: Lane, agent: string, payload: Buffer): Promise<void> {
    const started = performance.now();
    const by = { via: this.via };
    this.counted.batches.inc(by);
    this.counted.bytes.inc(by, payload.length);
    await lane.write(this.unpack(agent, payload));
    this.counted.seconds.observe((performance.now() - started) / 1000, by);
  }

  /**
   * Keeps a payload that cannot be put down to any agent.
   * @param origin the MQTT topic it came to
   */
  async receiveUnknown(lane: Lane, origin: string, payload: Buffer, reason: string): Promise<void> {
    this.counted.deadLetters.inc({ via: this.via, reason: 'agent' });
    this.complaints.raise('agent', 'unknown', `${reason}; kept in the dead letters`);
    const headers = { [HEADER.reason]: reason, [HEADER.origin]: origin };
    await lane.write([{ topic: this.loaded.config.topics.dead_letters, key: null, headers, value: payload }]);
  }

  /** Resolves when nothing is on its way to the bus. */
  async idle(): Promise<void> {
    while (this.inHand.size > 0) await Promise.allSettled(this.inHand);
  }

  private async write(messages: Message[]): Promise<void> {
    if (messages.length === 0) return;
    const by = { via: this.via };
    const written = this.bus.ingest(messages);
    this.inHand.add(written);
    try {
      const fresh = await written;
      const { dead_letters } = this.loaded.config.topics;
      this.counted.records.inc(by, fresh.filter(({ topic }) => topic !== dead_letters).length);
      this.counted.duplicates.inc(by, messages.length - fresh.length);
    } catch (error) {
      this.counted.failures.inc(by);
      throw error;
    } finally {
      this.inHand.delete(written);
    }
  }

  private unpack(agent: string, payload: Buffer): Message[] {
    const { max_packet_bytes } = this.loaded.config.aggregator.mqtt;
    if (payload.length > max_packet_bytes) {
      const why = `the batch has ${payload.length} bytes, more than aggregator.mqtt.max_packet_bytes (${max_packet_bytes}); these are the first of them`;
      return [this.bury(agent, 'unreadable', why, { raw: payload.subarray(0, max_packet_bytes) })];
    }
    return decodeBatch(payload, batchLimits(max_packet_bytes)).map((line) => this.judge(agent, line));
  }

  /** The line's message, or the dead letter that it makes. */
  private judge(agent: string, line: BatchLine): Message {
    if (!line.ok) {
      const kind = line.line === 0 ? 'unreadable' : 'line';
      return this.bury(agent, kind, line.line === 0 ? line.reason : `line ${line.line}: ${line.reason}`, { raw: line.raw });
    }
    const { message } = line;
    const { topic, headers } = message;
    const claimed = headers[HEADER.agent];
    if (claimed !== agent)
      return this.bury(agent, 'agent', `the line is of agent ${quoted(claimed)}, but agent "${agent}" sent it`, { message });
    const { notices, inventory, raw, processed } = this.loaded.config.topics;
    const seq = headers[HEADER.seq];
    if (topic === notices) {
      if (seq !== undefined) return this.bury(agent, 'seq', `a notice has no ${HEADER.seq}`, { message });
      const about = agentIn(message.value);
      if (about !== agent)
        return this.bury(agent, 'agent', `the notice is about agent ${quoted(about)}, but agent "${agent}" sent it`, { message });
      return message;
    }
    if (seq === undefined || !SEQ.test(seq) || !Number.isSafeInteger(Number(seq))) {
      return this.bury(agent, 'seq', `expected a whole number from 1 in ${HEADER.seq}, got ${quoted(seq)}`, { message });
    }
    if (!TOPIC.test(topic) || !this.allowed.matches(topic) || this.forbidden.matches(topic)) {
      const why = `agents may not write to topic ${quoted(topic)}: expected ${raw}, ${processed}, ${inventory}, ${notices}, or a topic that routers[] names in this configuration`;
      return this.bury(agent, 'topic', why, { message, seq });
    }
    return message;
  }

  /** A number that is right is kept: the dead letter then is where the record went, and a repetition is known as one. */
  private bury(agent: string, kind: DeadReason, reason: string, what: { raw: Buffer } | { message: Message; seq?: string }): Message {
    this.counted.deadLetters.inc({ via: this.via, reason: kind });
    this.complaints.raise(kind, agent, `agent "${agent}": ${reason}; kept in the dead letters`);
    const headers: Headers = { [HEADER.agent]: agent, [HEADER.reason]: reason };
    const topic = this.loaded.config.topics.dead_letters;
    if ('raw' in what) return { topic, key: agent, headers: { ...headers, [HEADER.origin]: batchTopic(agent) }, value: what.raw };
    const boot = what.message.headers[HEADER.boot];
    if (what.seq !== undefined) headers[HEADER.seq] = what.seq;
    if (what.seq !== undefined && boot !== undefined) headers[HEADER.boot] = boot;
    return { topic, key: what.message.key, headers: { ...headers, [HEADER.origin]: what.message.topic }, value: what.message.value };
  }
}

function topicSets(loaded: Loaded): { allowed: TopicSet; forbidden: TopicSet } {
  const { processed, inventory, inferred, dead_letters } = loaded.config.topics;
  const raw = rawTopics(loaded);
  const own = topicsOf(processed, inventory);
  return {
    allowed: { label: `${raw.label}, ${own.label}`, matches: (topic) => own.matches(topic) || raw.matches(topic) },
    forbidden: topicsOf(inferred, dead_letters),
  };
}

/** Who a notice is about. */
function agentIn(notice: Buffer): string | undefined {
  const value: unknown = JSON.parse(notice.toString());
  return typeof value === 'object' && value !== null && 'agent' in value && typeof value.agent === 'string' ? value.agent : undefined;
}

function quoted(text: string | undefined): string {
  return text === undefined ? 'none' : JSON.stringify(text.slice(0, 80));
}
