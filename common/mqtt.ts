/**
 * A connection to an MQTT 3.1.1 broker, made once: mqtt.js' own reconnecting and resending is slow and cannot be held back, so whoever
 * uses this makes a new connection when the old one is lost, and sends again what was not acknowledged.
 */
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { checkServerIdentity, connect as connectTls } from 'node:tls';
import type { IClientOptions, IPublishPacket, MqttClient } from 'mqtt';
import { withoutPassword } from './address.ts';
import { type Loaded, secretOf } from './config.ts';
import { messageOf } from './errors.ts';
import { explain, explainClose, explainTimeout, type MqttAttempt, MqttError } from './mqtt-errors.ts';
import type { TlsSettings } from './schema.ts';
import { type PemFiles, readPemFiles } from './tls.ts';

/** How a broker is reached, as it stands in the configuration. */
export interface BrokerSettings {
  url: string;
  username?: string;
  password?: string;
  password_file?: string;
  tls?: TlsSettings;
}

export interface MqttOptions {
  loaded: Pick<Loaded, 'dir'>;
  settings: BrokerSettings;
  /** The configuration's section, for messages: `mqtt`. */
  option: string;
  /** Who connects, for messages: `agent "r1"`. */
  who: string;
  clientId: string;
  /** User name where the settings have none. */
  username?: string;
  /** A clean session forgets; the other kind is kept by the broker under the client id, and waits for us. */
  clean: boolean;
  /** For the connection, and for each acknowledgement after the one before. */
  timeoutMs: number;
  /** Takes a message in; it is acknowledged when this resolves, and the connection ends when it rejects. */
  onMessage?: (topic: string, payload: Buffer) => Promise<void>;
}

const KEEPALIVE_S = 30;
const CLOSE_MS = 1000;

export class MqttConnection {
  /** Resolves, and never rejects, when the connection is gone. */
  readonly lost: Promise<MqttError>;
  private readonly client: MqttClient;
  private readonly attempt: MqttAttempt;
  private readonly pending = new Set<(error: MqttError) => void>();
  private readonly end = Promise.withResolvers<MqttError>();
  private timer: NodeJS.Timeout | undefined;
  private gone = false;

  constructor(client: MqttClient, attempt: MqttAttempt) {
    this.client = client;
    this.attempt = attempt;
    this.lost = this.end.promise;
    client.on('error', (error) => this.fail(error));
    client.on('close', () => this.fail(explainClose(attempt)));
  }

  get alive(): boolean {
    return !this.gone;
  }

  /** Publishes with QoS 1; resolves on PUBACK. @throws MqttError when the connection is lost before that, or too slow */
  publish(topic: string, payload: Buffer | string): Promise<void> {
    return this.asked((done) => this.client.publish(topic, payload, { qos: 1 }, (error) => done(error ?? undefined)));
  }

  /** Subscribes with QoS 1. @throws MqttError also where the broker does not allow it */
  subscribe(filter: string): Promise<void> {
    const { url, who } = this.attempt;
    return this.asked((done) =>
      this.client.subscribe(filter, { qos: 1 }, (error, _subscriptions, packet) => {
        const denied = packet?.granted.includes(128) === true;
        const message = `the broker at ${url} does not let ${who} read ${filter}: allow it in the broker’s access list`;
        done(denied ? new MqttError('refused', message) : (error ?? undefined));
      }),
    );
  }

  /** Ends the connection at once; whatever waits for an acknowledgement rejects with the reason. */
  fail(reason: unknown): void {
    if (this.gone) return;
    this.gone = true;
    clearTimeout(this.timer);
    const error = explain(reason, this.attempt);
    for (const reject of this.pending) reject(error);
    this.pending.clear();
    this.client.end(true);
    this.end.resolve(error);
  }

  /** Takes leave of the broker. What waits for an acknowledgement rejects. */
  async close(): Promise<void> {
    if (!this.gone && this.pending.size === 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const late = setTimeout(resolve, CLOSE_MS);
      this.client.end(false, {}, () => resolve());
      await promise;
      clearTimeout(late);
    }
    this.fail(new MqttError('closed', 'the connection was ended here'));
  }

  private asked(ask: (done: (error?: Error) => void) => void): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (this.gone) {
      reject(explainClose(this.attempt));
      return promise;
    }
    this.pending.add(reject);
    if (this.pending.size === 1) this.expectAnswer();
    ask((error) => {
      // After the loss of the connection everybody has had the reason already.
      if (!this.pending.delete(reject)) return;
      this.expectAnswer();
      if (error === undefined) resolve();
      else reject(explain(error, this.attempt));
    });
    return promise;
  }

  /** Time starts anew with every acknowledgement: a slow link is no dead one as long as something comes. */
  private expectAnswer(): void {
    clearTimeout(this.timer);
    this.timer = this.pending.size === 0 ? undefined : setTimeout(() => this.fail(explainTimeout(this.attempt)), this.attempt.timeoutMs);
  }
}

/** The client alone: the package as a whole brings WebSockets and proxies, which nobody asks for here. */
async function loadClient(): Promise<typeof MqttClient> {
  const { default: client } = await import('mqtt/lib/client');
  const { default: packets } = await import('mqtt-packet');
  // It would otherwise hold a buffer for each of the 65536 packet numbers: 8 MB, for the sake of a microsecond.
  packets.writeToStream.cacheNumbers = false;
  // Some loaders hand out the module, others its default already.
  return 'default' in client ? client.default : client;
}

/**
 * Connects; files are read anew each time, so that a renewed certificate or password is taken.
 * @throws MqttError saying why not, and what to do
 */
export async function openMqtt(options: MqttOptions, signal: AbortSignal): Promise<MqttConnection> {
  const MqttClient = await loadClient();
  const { access, attempt } = prepare(options);
  if (signal.aborted) throw new MqttError('closed', 'connecting was given up');
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});
  const socket = openSocket(access, attempt);
  // Listened to from here on for good: an error without a listener would end the process.
  socket.on('error', failed.reject);
  socket.once('close', () => failed.reject(explainClose(attempt)));
  const timer = setTimeout(() => failed.reject(explainTimeout(attempt)), options.timeoutMs);
  const abort = () => failed.reject(new MqttError('closed', 'connecting was given up'));
  signal.addEventListener('abort', abort, { once: true });
  try {
    await Promise.race([failed.promise, new Promise((resolve) => socket.once(attempt.encrypted ? 'secureConnect' : 'connect', resolve))]);
    attempt.stage = 'connack';
    const client = new MqttClient(() => socket, access.client);
    const connection = new MqttConnection(client, attempt);
    const { onMessage } = options;
    if (onMessage !== undefined) client.handleMessage = (packet, done) => void takeIn(connection, onMessage, packet, done);
    const ready = new Promise((resolve) => client.once('connect', resolve));
    const lost = connection.lost.then((error) => Promise.reject(error));
    lost.catch(() => {});
    await Promise.race([failed.promise, lost, ready]).catch((error: unknown) => {
      connection.fail(error);
      throw error;
    });
    attempt.stage = 'open';
    return connection;
  } catch (error) {
    socket.destroy();
    throw explain(error, attempt);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  }
}

/** mqtt.js acknowledges when `done` is called without an error. */
async function takeIn(
  connection: MqttConnection,
  onMessage: (topic: string, payload: Buffer) => Promise<void>,
  packet: IPublishPacket,
  done: (error?: Error) => void,
): Promise<void> {
  try {
    await onMessage(packet.topic, Buffer.isBuffer(packet.payload) ? packet.payload : Buffer.from(packet.payload));
  } catch (error) {
    connection.fail(new MqttError('closed', 'a message could not be taken in, so the broker has to bring it again', { cause: error }));
    return;
  }
  if (connection.alive) done();
}

interface Access {
  port: number;
  pem: PemFiles;
  serverName: string;
  client: IClientOptions;
}

function prepare(options: MqttOptions): { access: Access; attempt: MqttAttempt } {
  const { loaded, settings, option, who, clientId, clean, timeoutMs } = options;
  const url = URL.parse(settings.url);
  const host = url?.hostname.replace(/^\[(.*)\]$/, '$1') ?? '';
  if (url === null || host === '')
    throw new MqttError(
      'unreachable',
      `${option}.url: "${withoutPassword(settings.url)}" is no address: expected mqtt://HOST:PORT or mqtts://HOST:PORT`,
    );
  const encrypted = url.protocol === 'mqtts:' || settings.tls !== undefined;
  const port = url.port === '' ? (encrypted ? 8883 : 1883) : Number(url.port);
  const pem = orExplain('certificate', () => readPemFiles(loaded, settings.tls ?? {}, `${option}.tls`));
  const password = orExplain('credentials', () => secretOf(loaded, settings.password, settings.password_file, `${option}.password_file`));
  // MQTT 3.1.1 has no password without a user name (section 3.1.2.9).
  const username = settings.username ?? options.username ?? (password === undefined ? undefined : clientId);
  const client: IClientOptions = {
    protocolId: 'MQTT',
    protocolVersion: 4,
    clientId,
    clean,
    keepalive: KEEPALIVE_S,
    reconnectPeriod: 0,
    resubscribe: false,
    // Ours is the one that counts, and it has started earlier.
    connectTimeout: timeoutMs + 1000,
    timerVariant: 'native',
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  };
  return {
    access: { port, pem, serverName: settings.tls?.server_name ?? host, client },
    attempt: {
      url: `${encrypted ? 'mqtts' : 'mqtt'}://${url.hostname}:${port}`,
      host,
      option,
      who,
      clientId,
      encrypted,
      certified: pem.cert !== undefined,
      timeoutMs,
      stage: 'network',
    },
  };
}

function orExplain<T>(reason: MqttError['reason'], read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new MqttError(reason, messageOf(error));
  }
}

function openSocket({ port, pem, serverName }: Access, attempt: MqttAttempt): Socket {
  const to = { host: attempt.host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 };
  if (!attempt.encrypted) return connectTcp(to);
  const socket = connectTls({
    ...to,
    ...pem,
    // Server name indication is for names only (RFC 6066 section 3); the check is for both.
    ...(isIP(serverName) === 0 ? { servername: serverName } : {}),
    checkServerIdentity: (_name, certificate) => checkServerIdentity(serverName, certificate),
  });
  socket.once('connect', () => {
    attempt.stage = 'handshake';
  });
  return socket;
}
