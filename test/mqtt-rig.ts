/** Agent, broker and bus put together for a test: the real ones, on a folder of the test's own. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { onTestFinished } from 'vitest';
import type { Entry, Uplink } from '../agent/uplink.ts';
import { createMqttUplink } from '../agent/uplinks/mqtt.ts';
import type { Ingestor } from '../aggregator/ingress.ts';
import { type Broker, startIngress } from '../aggregator/ingress-mqtt.ts';
import { HEADER, type Message } from '../common/bus.ts';
import { EmbeddedBus } from '../common/bus-embedded.ts';
import { type Loaded, loadConfig } from '../common/config.ts';
import { type Logger, openLogger } from '../common/logger.ts';
import { Metrics } from '../common/metrics.ts';

type Settings = { [name: string]: unknown };

/** A configuration from a real file in `dir`. */
export function loadSettings(dir: string, settings: Settings, name = 'ndt.json'): Loaded {
  writeFileSync(join(dir, name), JSON.stringify(settings));
  return loadConfig(join(dir, name), {});
}

/** A log, and the messages of its lines. */
export async function testLog(): Promise<{ log: Logger; lines: string[] }> {
  const lines: string[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      for (const line of chunk.toString().split('\n')) if (line !== '') lines.push((JSON.parse(line) as { msg: string }).msg);
      done();
    },
  });
  return { log: await openLogger('test', { level: 'info', format: 'json' }, stream), lines };
}

export interface Rig {
  bus: EmbeddedBus;
  broker: Broker;
  port: number;
  metrics: Metrics;
  /** What was logged. */
  lines: string[];
  /** The value of a metric's line, `name{labels}`. */
  metric(line: string): number | undefined;
  /** An uplink to the broker, or to another port. */
  uplink(agentId: string, mqtt?: Settings, port?: number): Uplink;
}

/**
 * Starts a bus and a broker on it; both end with the test.
 * @param mqtt settings of `aggregator.mqtt`
 * @param through puts something between broker and bus
 */
export async function startRig(dir: string, mqtt: Settings = {}, through: (bus: EmbeddedBus) => Ingestor = (bus) => bus): Promise<Rig> {
  const bus = new EmbeddedBus({ file: join(dir, 'bus.db') });
  const metrics = new Metrics();
  const { log, lines } = await testLog();
  const loaded = loadSettings(dir, { aggregator: { mqtt: { port: 0, ...mqtt } } }, 'aggregator.json');
  const broker = await startIngress({ loaded, bus: through(bus), metrics, log });
  onTestFinished(async () => {
    await broker.close();
    await bus.close();
  });
  const { protocol, port } = new URL(broker.url);
  return {
    bus,
    broker,
    port: Number(port),
    metrics,
    lines,
    metric: (line) => {
      const found = metrics
        .print()
        .split('\n')
        .find((text) => text.startsWith(`${line} `));
      return found === undefined ? undefined : Number(found.split(' ').at(-1));
    },
    uplink: (agentId, settings = {}, through = Number(port)) =>
      openUplink(dir, agentId, { url: `${protocol}//127.0.0.1:${through}`, ...settings }),
  };
}

/** An uplink with these settings of `mqtt`; ends with the test. */
export function openUplink(dir: string, agentId: string, mqtt: Settings, agent: Settings = {}): Uplink {
  const loaded = loadSettings(dir, { agent: { id: agentId, ...agent }, mqtt: { timeout: 3, ...mqtt } }, `agent-${agentId}.json`);
  const uplink = createMqttUplink({ loaded, agentId, boot: 'b1' });
  onTestFinished(() => uplink.close());
  return uplink;
}

/** Records of an agent as the outbox gives them out. */
export function entries(agent: string, from: number, to: number, router = 'r1'): Entry[] {
  return Array.from({ length: to - from + 1 }, (_, i) => entry(agent, from + i, router));
}

export function entry(agent: string, seq: number, router = 'r1'): Entry {
  return {
    seq,
    topic: `TP_${router}`,
    key: router,
    headers: { [HEADER.agent]: agent, [HEADER.boot]: 'b1', [HEADER.seq]: String(seq) },
    body: `{"node_exporter":"${router}:9100","epoch_timestamp":"${1_745_233_635 + seq}.210","n":${seq},"text":"ünïcode \\"quoted\\" ,\\"record\\": 1.0"}`,
  };
}

/** All messages of a topic, in order. */
export function messagesOn(bus: EmbeddedBus, topic: string): Message[] {
  const found = bus.log.topics().find(({ name }) => name === topic);
  return found === undefined ? [] : bus.log.read(found.id, topic, 0, 1_000_000);
}

export function seqsOn(bus: EmbeddedBus, topic: string): number[] {
  return messagesOn(bus, topic).map(({ headers }) => Number(headers[HEADER.seq]));
}

/** Never aborts. */
export const forever: AbortSignal = new AbortController().signal;
