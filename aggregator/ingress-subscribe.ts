/**
 * Batches from somebody else's broker (Mosquitto, say): a persistent session on all agents' topics. A batch is acknowledged when it is
 * durable on the bus, one at a time; the broker keeps what comes while we are away and brings again what was not acknowledged.
 *
 * Who an agent is, is told by its topic here: the broker's access list has to see to it that each agent can publish to its own only.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { withoutPassword } from '../common/address.ts';
import type { Loaded } from '../common/config.ts';
import { messageOf } from '../common/errors.ts';
import { Fault, type Logger } from '../common/logger.ts';
import { type BrokerSettings, type MqttConnection, openMqtt } from '../common/mqtt.ts';
import { MqttError } from '../common/mqtt-errors.ts';
import { type IngressOptions, isAgentId, type Lane, Receiver } from './ingress.ts';

export interface Subscriber {
  /** Whether the broker's messages reach us now. */
  readonly connected: boolean;
  /** Goes over to new topics; the broker's address and credentials need a restart. */
  reload(loaded: Loaded): void;
  close(): Promise<void>;
}

const OPTION = 'aggregator.mqtt.subscribe';
const FILTER = 'ndt/1/+/records';
const RETRY_MS = { first: 250, most: 30_000 };
const TIMEOUT_MS = 10_000;

/** Starts at once and never gives up: a broker that cannot be reached is tried again, and said in the log. */
export async function startSubscriber(options: IngressOptions): Promise<Subscriber> {
  const settings = options.loaded.config.aggregator.mqtt.subscribe;
  if (settings === undefined) throw new Error(`${OPTION} is not configured`);
  return new BrokerSubscriber(options, settings);
}

class BrokerSubscriber implements Subscriber {
  connected = false;
  private readonly options: IngressOptions;
  private readonly settings: BrokerSettings & { client_id: string };
  private readonly receiver: Receiver;
  private readonly log: Logger;
  private readonly stopping = new AbortController();
  private readonly running: Promise<void>;
  private readonly fault: Fault;
  /** The bus refused a message: only one that it takes shows that it is well again, not a new connection. */
  private busFailed = false;
  private told = false;

  constructor(options: IngressOptions, settings: BrokerSettings & { client_id: string }) {
    this.options = options;
    this.settings = settings;
    this.log = options.log;
    this.receiver = new Receiver(options, 'subscription');
    this.fault = new Fault(options.log, 'subscription');
    this.running = this.run();
  }

  reload(loaded: Loaded): void {
    this.receiver.configure(loaded);
  }

  async close(): Promise<void> {
    this.stopping.abort();
    await this.running;
    await this.receiver.idle();
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    let pause = RETRY_MS.first;
    while (!signal.aborted) {
      const since = performance.now();
      try {
        throw await this.read(signal);
      } catch (error) {
        this.connected = false;
        if (signal.aborted) return;
        this.fault.raise(messageOf(error), error instanceof MqttError ? { reason: error.reason } : {});
      }
      // A connection that lasted was no sign of trouble; one that ended at once is.
      if (performance.now() - since > RETRY_MS.most) pause = RETRY_MS.first;
      await sleep(pause / 2 + Math.random() * pause, undefined, { signal }).catch(() => {});
      pause = Math.min(pause * 2, RETRY_MS.most);
    }
  }

  /** One connection, from its beginning to its end. @returns why it ended */
  private async read(signal: AbortSignal): Promise<MqttError> {
    const connection = await this.open(signal);
    const leave = () => void this.leave(connection);
    signal.addEventListener('abort', leave, { once: true });
    try {
      if (signal.aborted) leave();
      await connection.subscribe(FILTER);
      this.connected = true;
      if (!this.busFailed) this.fault.clear();
      if (!this.told) this.log.info(`reading agents’ batches (${FILTER}) from ${withoutPassword(this.settings.url)}`);
      this.told = true;
      return await connection.lost;
    } finally {
      signal.removeEventListener('abort', leave);
      await connection.close();
    }
  }

  /** What is in hand is acknowledged before we go; the rest waits at the broker. */
  private async leave(connection: MqttConnection): Promise<void> {
    await this.receiver.idle();
    await new Promise((resolve) => setImmediate(resolve));
    await connection.close();
  }

  private open(signal: AbortSignal): Promise<MqttConnection> {
    const lane = this.receiver.lane();
    return openMqtt(
      {
        loaded: this.options.loaded,
        settings: this.settings,
        option: OPTION,
        who: 'the aggregator',
        clientId: this.settings.client_id,
        clean: false,
        timeoutMs: TIMEOUT_MS,
        onMessage: (topic, payload) => this.take(lane, topic, payload),
      },
      signal,
    );
  }

  private async take(lane: Lane, topic: string, payload: Buffer): Promise<void> {
    const agent = /^ndt\/1\/([^/]+)\/records$/.exec(topic)?.[1];
    try {
      if (agent !== undefined && isAgentId(agent)) await this.receiver.receive(lane, agent, payload);
      // An older subscription of this session, or a name that no agent can have.
      else await this.receiver.receiveUnknown(lane, topic, payload, `the topic ${JSON.stringify(topic.slice(0, 80))} names no agent`);
    } catch (error) {
      this.busFailed = true;
      throw error;
    }
    if (this.busFailed) this.fault.clear();
    this.busFailed = false;
  }
}
