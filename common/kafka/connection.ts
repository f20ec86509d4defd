/**
 * One TCP connection to a broker. It is used once: whatever goes wrong with it destroys it, and the next request makes a new one, which
 * reads certificates and passwords anew. Requests are answered in the order in which they were sent.
 */
import { connect, isIP, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { KafkaError, TransportError } from './errors.ts';
import { API_VERSIONS, type Api, type BrokerAbilities, SASL_AUTHENTICATE, SASL_HANDSHAKE } from './requests.ts';
import type { ClientSettings, Sasl } from './settings.ts';
import { notKafka, transportErrorOf } from './transport-errors.ts';
import { Reader, Writer } from './wire.ts';

export interface Endpoint {
  host: string;
  port: number;
}

interface Waiting {
  /** Of the request. */
  name: string;
  correlationId: number;
  resolve: (answer: Buffer) => void;
  reject: (error: Error) => void;
  timer: NodeJS.Timeout;
}

const LENGTH_BYTES = 4;
/** No answer is as long. What a web or a TLS server sends has a length beyond it, read as Kafka's. */
const LONGEST_ANSWER = 256 * 1024 * 1024;
const UNSUPPORTED_VERSION = 35;
/** How long before a sign-in ends it is renewed [ms]. */
const RENEW_MS = 10_000;

export class BrokerConnection {
  readonly address: string;
  readonly lane: string;
  /** Resolves, with the reason, when it is of no more use. */
  readonly ended: Promise<Error>;
  private readonly endpoint: Endpoint;
  private readonly settings: ClientSettings;
  private readonly sasl: Sasl | undefined;
  private readonly socket: Socket;
  private readonly encrypted: boolean;
  private abilities: BrokerAbilities = { errorCode: 0, versions: new Map(), features: new Map() };
  private readonly waiting: Waiting[] = [];
  private correlationId = 0;
  private chunks: Buffer[] = [];
  private received = 0;
  /** What has to be there before there is something to do. */
  private needed = LENGTH_BYTES;
  /** By `performance.now()`. */
  private throttledUntil = 0;
  private renewAt = Number.POSITIVE_INFINITY;
  private renewing: Promise<void> | undefined;
  private failure: Error | undefined;
  private readonly gone = new AbortController();
  /** How far it has come: `connect`, `greet`, `authenticate`, `use`. */
  private step = 'connect';
  private readonly end: (error: Error) => void;

  private constructor(endpoint: Endpoint, lane: string, settings: ClientSettings) {
    const { host, port } = endpoint;
    this.endpoint = endpoint;
    this.address = `${host}:${port}`;
    this.lane = lane;
    this.settings = settings;
    this.sasl = settings.sasl();
    const tls = settings.tls();
    this.encrypted = tls !== undefined;
    const { promise, resolve } = Promise.withResolvers<Error>();
    this.ended = promise;
    this.end = resolve;
    const name = isIP(host) === 0 ? { servername: host } : {};
    this.socket = tls === undefined ? connect({ host, port }) : connectTls({ host, port, ...name, ...tls });
    this.socket.setNoDelay(true);
    this.socket.setKeepAlive(true, 15_000);
    this.socket.on('data', (chunk: Buffer) => this.receive(chunk));
    let error: Error | undefined;
    this.socket.on('error', (reason) => {
      error ??= reason;
    });
    this.socket.once('close', () => this.lose(error ?? new Error('it was closed')));
  }

  /** Connects, asks for the broker's versions, and signs in. Gives up when `signal` aborts. @throws TransportError */
  static async open(endpoint: Endpoint, lane: string, settings: ClientSettings, signal: AbortSignal): Promise<BrokerConnection> {
    signal.throwIfAborted();
    const opened = new BrokerConnection(endpoint, lane, settings);
    const give = () => opened.destroy(signal.reason instanceof Error ? signal.reason : new Error('given up'));
    signal.addEventListener('abort', give, { once: true });
    try {
      // What destroys it meanwhile fails each step, and is what is told.
      await opened.connected();
      opened.step = 'greet';
      opened.abilities = await opened.greet();
      opened.step = 'authenticate';
      await opened.signIn();
      opened.step = 'use';
      return opened;
    } catch (error) {
      opened.lose(error);
      throw opened.failure ?? error;
    } finally {
      signal.removeEventListener('abort', give);
    }
  }

  /** Whether the broker takes a request, in the version that we make it in. */
  private takes(api: Pick<Api<never, unknown>, 'key' | 'version'>): boolean {
    const offered = this.abilities.versions.get(api.key);
    return offered !== undefined && offered.min <= api.version && api.version <= offered.max;
  }

  /**
   * Sends a request and waits for its answer, whose error codes are the caller's to look at.
   * @throws TransportError, and the connection is destroyed
   */
  async request<Question, Answer>(api: Api<Question, Answer>, question: Question): Promise<Answer> {
    if (this.failure !== undefined) throw this.failure;
    const spoken = this.takes(api) ? api : api.older;
    if (spoken === undefined || !this.takes(spoken)) throw this.incompatible(spoken ?? api);
    try {
      if (this.renewing !== undefined || performance.now() >= this.renewAt) await this.renew();
      return await this.exchange(spoken, question);
    } catch (error) {
      this.lose(error, api.name);
      throw this.failure ?? error;
    }
  }

  destroy(reason: Error): void {
    if (this.failure !== undefined) return;
    this.failure = reason;
    this.gone.abort();
    this.socket.destroy();
    this.chunks = [];
    for (const { reject, timer } of this.waiting.splice(0)) {
      clearTimeout(timer);
      reject(reason);
    }
    this.end(reason);
  }

  /** Destroys it for whatever went wrong, put into words. */
  private lose(error: unknown, step = this.under): void {
    this.destroy(transportErrorOf(error, this.address, step, this.settings));
  }

  /** What is under way. */
  private get under(): string {
    return this.step === 'use' ? (this.waiting[0]?.name ?? 'nothing was asked') : this.step;
  }

  private async connected(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.socket.once(this.encrypted ? 'secureConnect' : 'connect', resolve);
    const timer = setTimeout(() => this.lose(new Error('timed out')), this.settings.connectTimeoutMs);
    try {
      await Promise.race([promise, this.ended.then((error) => Promise.reject(error))]);
    } finally {
      clearTimeout(timer);
    }
  }

  private async greet(): Promise<BrokerAbilities> {
    const abilities = await this.exchange(API_VERSIONS, undefined);
    if (abilities.errorCode === UNSUPPORTED_VERSION) throw this.incompatible(API_VERSIONS);
    if (abilities.errorCode !== 0) throw new KafkaError(abilities.errorCode);
    return abilities;
  }

  /** One after the other for all who come meanwhile. */
  private async renew(): Promise<void> {
    this.renewing ??= this.signIn().finally(() => {
      this.renewing = undefined;
    });
    await this.renewing;
  }

  /** SASL (KIP-152), with kafkajs' side of the mechanisms; again before the broker ends it (KIP-368). */
  private async signIn(): Promise<void> {
    const { sasl } = this;
    if (sasl === undefined) return;
    const { errorCode, offered } = await this.exchange(SASL_HANDSHAKE, { mechanism: sasl.mechanism });
    if (errorCode !== 0) throw new KafkaError(errorCode, {}, `it offers ${offered.join(', ')}`);
    const { authenticate } = await import('./sasl.ts');
    let lifetimeMs = 0;
    await authenticate(sasl, this.endpoint, async (bytes) => {
      const answer = await this.exchange(SASL_AUTHENTICATE, { bytes });
      if (answer.errorCode !== 0) throw new KafkaError(answer.errorCode, {}, answer.errorMessage ?? '');
      lifetimeMs = answer.lifetimeMs;
      return answer.bytes;
    });
    this.renewAt = lifetimeMs > 0 ? performance.now() + Math.max(lifetimeMs - RENEW_MS, lifetimeMs / 2) : Number.POSITIVE_INFINITY;
  }

  private async exchange<Question, Answer>(api: Api<Question, Answer>, question: Question): Promise<Answer> {
    const quiet = this.throttledUntil - performance.now();
    if (quiet > 0) await sleep(quiet, undefined, { signal: this.gone.signal }).catch(() => {});
    if (this.failure !== undefined) throw this.failure;
    this.correlationId = (this.correlationId + 1) & 0x7fffffff;
    const { correlationId } = this;
    const to = new Writer();
    to.int32(0).int16(api.key).int16(api.version).int32(correlationId).string(this.settings.clientId);
    if (api.flexible) to.tags();
    api.write(to, question);
    to.patchInt32(0, to.bytes.length - LENGTH_BYTES);
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    const timer = setTimeout(
      () => this.lose(new Error('timed out'), this.step === 'use' ? api.name : this.step),
      this.settings.requestTimeoutMs,
    );
    this.waiting.push({ name: api.name, correlationId, resolve, reject, timer });
    this.socket.write(to.bytes);
    const from = new Reader(await promise);
    // Of ApiVersions alone the answer has the old header, for who does not know the version yet.
    if (api.flexible && api.key !== API_VERSIONS.key) from.tags();
    const answer = await api.read(from);
    if (from.throttleMs > 0) this.throttledUntil = performance.now() + from.throttleMs;
    return answer;
  }

  private receive(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.received += chunk.length;
    while (this.received >= this.needed && this.failure === undefined) {
      const bytes = this.chunks.length === 1 && this.chunks[0] !== undefined ? this.chunks[0] : Buffer.concat(this.chunks);
      const length = bytes.readInt32BE(0);
      if (length < LENGTH_BYTES || length > LONGEST_ANSWER) {
        this.destroy(notKafka(bytes, this.address, this.settings));
        return;
      }
      this.needed = LENGTH_BYTES + length;
      const whole = bytes.length >= this.needed;
      const rest = whole ? bytes.subarray(this.needed) : bytes;
      this.chunks = rest.length === 0 ? [] : [rest];
      this.received = rest.length;
      if (!whole) return;
      this.answer(bytes.subarray(LENGTH_BYTES, this.needed));
      this.needed = LENGTH_BYTES;
    }
  }

  private answer(frame: Buffer): void {
    const [first] = this.waiting;
    if (first === undefined || frame.readInt32BE(0) !== first.correlationId) {
      this.lose(new Error('it answered what was not asked'));
      return;
    }
    this.waiting.shift();
    clearTimeout(first.timer);
    first.resolve(frame.subarray(LENGTH_BYTES));
  }

  private incompatible({ name, key, version }: Pick<Api<never, unknown>, 'name' | 'key' | 'version'>): TransportError {
    const offered = this.abilities.versions.get(key);
    const range = offered === undefined ? 'does not know it' : `takes versions ${offered.min} to ${offered.max}`;
    return new TransportError(
      'incompatible',
      this.address,
      `the broker ${this.address} cannot be used: ${name} is needed in version ${version} and it ${range}; ndt works with Apache Kafka 2.4 to 4.x`,
    );
  }
}
