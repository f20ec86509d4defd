/**
 * One TCP connection to a broker: kafkajs' own connection and request encoders, with an end of our own.
 *
 * A connection is used once. kafkajs would connect the same object again after a fault, with the half of an answer that it had
 * read still in its buffer; here whatever goes wrong with a connection destroys it, and the next request makes a new one, which
 * reads certificates and passwords anew.
 */
import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import Connection, { type Protocol } from 'kafkajs/src/network/connection.js';
import apiKeys from 'kafkajs/src/protocol/requests/apiKeys.js';
import parts from 'kafkajs/src/protocol/requests/index.js';
import { messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { TransportError } from './errors.ts';
import type { ClientSettings } from './settings.ts';
import { transportErrorOf } from './transport-errors.ts';

export interface Endpoint {
  host: string;
  port: number;
}

type Versions = { [apiKey: number]: { minVersion: number; maxVersion: number } };

/** Decodes an answer itself, instead of kafkajs. */
export type Decode<T> = (raw: Buffer) => Promise<T>;

export class BrokerConnection {
  readonly address: string;
  readonly lane: string;
  /** Resolves, with the reason, when it is of no more use. */
  readonly ended: Promise<Error>;
  private readonly connection: Connection;
  private socket: Socket | undefined;
  private versions: Versions = {};
  private failure: Error | undefined;
  /** What the socket itself said before it closed. */
  private socketError: Error | undefined;
  /** How far it has come: `connect`, `greet`, `authenticate`, `use`. */
  private step = 'connect';
  private readonly end: (error: Error) => void;

  private constructor({ host, port }: Endpoint, lane: string, settings: ClientSettings, log: Logger) {
    this.address = `${host}:${port}`;
    this.lane = lane;
    const tls = settings.tls();
    const sasl = settings.sasl();
    const { promise, resolve } = Promise.withResolvers<Error>();
    this.ended = promise;
    this.end = resolve;
    this.connection = new Connection({
      host,
      port,
      clientId: settings.clientId,
      logger: quiet(log),
      ssl: tls ?? null,
      sasl: sasl ?? null,
      connectionTimeout: settings.connectTimeoutMs,
      requestTimeout: settings.requestTimeoutMs,
      enforceRequestTimeout: true,
      socketFactory: ({ onConnect }) => {
        const name = isIP(host) === 0 ? { servername: host } : {};
        const socket =
          tls === undefined ? connect({ host, port, noDelay: true }, onConnect) : connectTls({ host, port, ...name, ...tls }, onConnect);
        socket.setNoDelay(true);
        socket.setKeepAlive(true, 15_000);
        // kafkajs listens for the polite end only; a connection that is gone without one would be waited for.
        socket.once('error', (error) => {
          this.socketError = error;
        });
        socket.once('close', () =>
          this.destroy(transportErrorOf(this.socketError ?? new Error('it was closed'), this.address, this.step, settings)),
        );
        this.socket = socket;
        return socket;
      },
    });
    mendQueue(this.connection);
  }

  /** Connects, asks for the broker's versions, and signs in. Gives up when `signal` aborts. @throws TransportError */
  static async open(
    endpoint: Endpoint,
    lane: string,
    settings: ClientSettings,
    log: Logger,
    signal: AbortSignal,
  ): Promise<BrokerConnection> {
    const opened = new BrokerConnection(endpoint, lane, settings, log);
    const { connection, address } = opened;
    const give = () =>
      opened.destroy(signal.reason instanceof Error ? signal.reason : new TransportError('closed', address, 'the client is closed'));
    const steps = async () => {
      await connection.connect();
      opened.step = 'greet';
      opened.versions = await opened.apiVersions();
      connection.setVersions(opened.versions);
      connection.setSupportAuthenticationProtocol(true);
      opened.step = 'authenticate';
      await connection.authenticate();
    };
    signal.addEventListener('abort', give, { once: true });
    try {
      signal.throwIfAborted();
      await Promise.race([steps(), opened.ended.then((error) => Promise.reject(error))]);
      opened.step = 'use';
      return opened;
    } catch (error) {
      const why = opened.failure ?? transportErrorOf(error, address, opened.step, settings);
      opened.destroy(why);
      throw why;
    } finally {
      signal.removeEventListener('abort', give);
    }
  }

  /**
   * Sends a request and waits for its answer, whose error codes are the caller's to look at.
   * @param body the request itself, where kafkajs shall not write it from `args`
   * @throws TransportError, and the connection is destroyed
   */
  async request<T>(api: string, args: object, decode?: Decode<T>, body?: Buffer): Promise<T> {
    if (this.failure !== undefined) throw this.failure;
    const protocol = this.protocol(api)(args);
    // kafkajs fails the whole answer for the first error in it; which of the topics it was is lost then.
    // What kafkajs takes for one of its encoders.
    const request = body === undefined ? protocol.request : { ...protocol.request, encode: async () => ({ buf: body, buffer: body }) };
    const response = { decode: decode ?? protocol.response.decode, parse: (data: unknown) => data };
    try {
      return (await this.connection.send({ ...protocol, request, response, logResponseError: false })) as T;
    } catch (error) {
      const why = this.failure ?? transportErrorOf(error, this.address, api, undefined);
      this.destroy(why);
      throw why;
    }
  }

  destroy(reason: Error): void {
    if (this.failure !== undefined) return;
    this.failure = reason;
    this.connection.rejectRequests(reason);
    this.connection.requestQueue.destroy();
    this.connection.disconnect().catch(() => {});
    this.socket?.on('error', () => {});
    this.socket?.destroy();
    this.end(reason);
  }

  private protocol(api: string): (args: object) => Protocol {
    const definition = parts.requests[api];
    const key = apiKeys[api];
    if (definition === undefined || key === undefined) throw new Error(`there is no request ${api}`);
    const offered = this.versions[key];
    const version = Math.min(Math.max(...definition.versions.map(Number)), offered?.maxVersion ?? -1);
    if (offered === undefined || version < offered.minVersion || !definition.versions.includes(String(version))) {
      const range = offered === undefined ? 'does not know it' : `takes versions ${offered.minVersion} to ${offered.maxVersion}`;
      throw new TransportError(
        'incompatible',
        this.address,
        `the broker ${this.address} cannot be used: ${api} is needed and it ${range}; ndt works with Apache Kafka 2.4 to 4.x`,
      );
    }
    return definition.protocol({ version });
  }

  private async apiVersions(): Promise<Versions> {
    const definition = parts.requests.ApiVersions;
    if (definition === undefined) throw new Error('there is no request ApiVersions');
    const answer = (await this.connection.send(definition.protocol({ version: 2 })())) as {
      apiVersions: Array<{ apiKey: number; minVersion: number; maxVersion: number }>;
    };
    return Object.fromEntries(answer.apiVersions.map(({ apiKey, minVersion, maxVersion }) => [apiKey, { minVersion, maxVersion }]));
  }
}

/**
 * kafkajs sets a timer after every answer, also when nothing waits, and with a negative time, which Node warns about on standard error
 * each time. The timer is needed only where requests wait.
 */
function mendQueue({ requestQueue }: Connection): void {
  const schedule = requestQueue.scheduleCheckPendingRequests.bind(requestQueue);
  requestQueue.scheduleCheckPendingRequests = () => {
    if (requestQueue.pending.length > 0 || requestQueue.throttledUntil > Date.now()) schedule();
  };
}

/** kafkajs' log: what it calls an error is told by us, once and with what to do, so it goes to the log's debug level. */
function quiet(log: Logger): unknown {
  const tell = (message: string, extra?: { error?: unknown; broker?: unknown }) => {
    if (log.isLevelEnabled('debug'))
      log.debug({ broker: extra?.broker, error: extra?.error === undefined ? undefined : messageOf(extra.error) }, `kafkajs: ${message}`);
  };
  const nothing = () => {};
  const logger = { namespace: () => logger, error: tell, warn: tell, info: nothing, debug: nothing };
  return logger;
}
