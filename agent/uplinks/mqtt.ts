/**
 * The uplink over MQTT 3.1.1: batches to the aggregator's broker or another one, or bare records for other people's subscribers.
 *
 * A batch of entries is cut into packets that are published in order, several at a time; each is confirmed by its PUBACK. The connection
 * is made when it is needed, used until it is lost, and never made well again: the next batch gets a new one. A link too slow for a
 * packet within the time-out gets smaller and fewer packets at once until something comes through.
 */
import { batchLimits, batchLine, batchTopic, packLines } from '../../common/batch.ts';
import type { Loaded } from '../../common/config.ts';
import { type MqttConnection, openMqtt } from '../../common/mqtt.ts';
import { MqttError } from '../../common/mqtt-errors.ts';
import { topicsOf } from '../../common/topics.ts';
import { type Delivery, type Entry, type Uplink, UplinkError } from '../uplink.ts';

export interface MqttUplinkOptions {
  loaded: Loaded;
  agentId: string;
  /** The identity of this start travels in the entries' headers; given to every uplink alike. */
  boot: string;
}

/** Uncompressed bytes of a packet. */
const PACKET_BYTES = { least: 4 * 1024, most: 256 * 1024 };
/** Unacknowledged packets. Bare records are small, so more of them fill the same line. */
const WINDOW = { batch: 8, plain: 64 };

/** What is published, and the entries that its acknowledgement confirms. */
interface Packet {
  topic: string;
  payload: Buffer | string;
  seqs: number[];
}

export function createMqttUplink(options: MqttUplinkOptions): Uplink {
  return new MqttUplink(options);
}

class MqttUplink implements Uplink {
  connected = false;
  private readonly options: MqttUplinkOptions;
  private connection: MqttConnection | undefined;
  private opening: Promise<MqttConnection> | undefined;
  private readonly closing = new AbortController();
  private packetBytes = PACKET_BYTES.most;
  private window: number;

  constructor(options: MqttUplinkOptions) {
    this.options = options;
    this.window = WINDOW[options.loaded.config.mqtt.format];
  }

  async send(batch: Entry[], signal: AbortSignal): Promise<Delivery> {
    const stop = AbortSignal.any([signal, this.closing.signal]);
    const { packets, delivery } = this.options.loaded.config.mqtt.format === 'plain' ? this.plain(batch) : this.batches(batch);
    if (packets.length === 0) return delivery;
    const connection = await this.connect(stop).catch((error: unknown) => {
      throw this.failed(error);
    });
    const { confirmed, failure } = await this.publishAll(connection, packets, stop);
    for (const { seqs } of confirmed) for (const seq of seqs) delivery.acked.push(seq);
    if (failure === undefined) {
      this.packetBytes = Math.min(this.packetBytes * 2, PACKET_BYTES.most);
      this.window = Math.min(this.window * 2, WINDOW[this.options.loaded.config.mqtt.format]);
      return delivery;
    }
    if (!stop.aborted) {
      this.packetBytes = Math.max(this.packetBytes / 4, PACKET_BYTES.least);
      this.window = Math.max(Math.floor(this.window / 4), 1);
    }
    const error = this.failed(failure);
    // What came through counts; the rest stays with the sender, whose next attempt meets the fault again if it lasts.
    if (confirmed.length > 0) return delivery;
    throw error;
  }

  private failed(error: unknown): unknown {
    this.connected = false;
    return error instanceof MqttError ? new UplinkError(error.reason, error.message, { cause: error.cause }) : error;
  }

  async close(): Promise<void> {
    this.closing.abort();
    await this.opening?.catch(() => {});
    await this.connection?.close();
    this.connected = false;
  }

  /** The connection in use, or a new one. */
  private async connect(signal: AbortSignal): Promise<MqttConnection> {
    if (this.connection?.alive === true) return this.connection;
    this.opening ??= this.open(signal).finally(() => {
      this.opening = undefined;
    });
    return await this.opening;
  }

  private async open(signal: AbortSignal): Promise<MqttConnection> {
    const { loaded, agentId } = this.options;
    const settings = loaded.config.mqtt;
    const connection = await openMqtt(
      {
        loaded,
        settings,
        option: 'mqtt',
        who: `agent "${agentId}"`,
        clientId: agentId,
        username: agentId,
        clean: true,
        timeoutMs: settings.timeout * 1000,
      },
      signal,
    );
    this.connection = connection;
    this.connected = true;
    void connection.lost.then(() => {
      if (this.connection === connection) this.connected = false;
    });
    return connection;
  }

  /**
   * Publishes in order, `window` at a time.
   * @returns what was acknowledged, and why not all of it was
   */
  private async publishAll(
    connection: MqttConnection,
    packets: Packet[],
    signal: AbortSignal,
  ): Promise<{ confirmed: Packet[]; failure: MqttError | undefined }> {
    const confirmed: Packet[] = [];
    const inFlight = new Set<Promise<void>>();
    let failure: MqttError | undefined;
    const abort = () => connection.fail(new MqttError('closed', 'sending was stopped'));
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    try {
      for (const packet of packets) {
        if (inFlight.size >= this.window) await Promise.race(inFlight);
        if (failure !== undefined) break;
        const settled = connection.publish(packet.topic, packet.payload).then(
          () => {
            confirmed.push(packet);
          },
          (error: unknown) => {
            failure ??= error instanceof MqttError ? error : new MqttError('closed', 'publishing failed', { cause: error });
          },
        );
        inFlight.add(settled);
        void settled.then(() => inFlight.delete(settled));
      }
      await Promise.all(inFlight);
      return { confirmed, failure };
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  private batches(batch: Entry[]): { packets: Packet[]; delivery: Delivery } {
    const { loaded, agentId } = this.options;
    const { compression } = loaded.config.mqtt;
    const maxPacket = loaded.config.aggregator.mqtt.max_packet_bytes;
    const { maxBytes } = batchLimits(maxPacket);
    const packets: Packet[] = [];
    const delivery: Delivery = { acked: [], rejected: [] };
    const topic = batchTopic(agentId);
    let lines: string[] = [];
    let seqs: number[] = [];
    let bytes = 0;
    const pack = () => {
      if (lines.length === 0) return;
      const payload = packLines(lines, compression);
      // Beside the payload: a fixed header of at most 5 bytes, the topic with its length, and the packet's number.
      const size = payload.length + Buffer.byteLength(topic) + 9;
      const [only] = seqs;
      // The broker would cut the connection for it, again and again: nothing behind it would ever arrive.
      if (lines.length === 1 && only !== undefined && (size > maxPacket || bytes > maxBytes))
        delivery.rejected.push({ seq: only, reason: 'too_large' });
      else packets.push({ topic, payload, seqs });
      lines = [];
      seqs = [];
      bytes = 0;
    };
    for (const entry of batch) {
      const line = batchLine(entry);
      const length = Buffer.byteLength(line) + 1;
      if (bytes + length > this.packetBytes) pack();
      lines.push(line);
      seqs.push(entry.seq);
      bytes += length;
    }
    pack();
    return { packets, delivery };
  }

  private plain(batch: Entry[]): { packets: Packet[]; delivery: Delivery } {
    const { agent, topics } = this.options.loaded.config;
    const inventories = topicsOf(topics.inventory);
    const delivery: Delivery = { acked: [], rejected: [] };
    const packets: Packet[] = [];
    for (const { seq, topic, key, body } of batch) {
      // Notices are between agent and aggregator; nobody else would know what to do with them.
      if (seq < 0) delivery.acked.push(seq);
      else packets.push({ topic: `ndt/${key}/${inventories.matches(topic) ? 'inventory' : agent.ship}`, payload: body, seqs: [seq] });
    }
    return { packets, delivery };
  }
}
