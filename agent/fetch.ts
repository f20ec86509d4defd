/**
 * One page over HTTP or HTTPS, as a poll needs it: over a connection that is kept, within a time and a size, and with errors that say
 * what is wrong where and what to do. Redirects are not followed: they would send a router's counters from somewhere else.
 */
import type { ClientRequest, Agent as HttpAgent, IncomingMessage } from 'node:http';
import type { Agent as HttpsAgent } from 'node:https';
import type { Readable } from 'node:stream';
import type { SecureContextOptions } from 'node:tls';
import { createGunzip } from 'node:zlib';
import { codeOf } from '../common/errors.ts';
import { type Peer, StatusError, sizeText, urlText, whyBroken, whyStatus } from './fetch-errors.ts';
import { lookupOnce } from './lookup.ts';
import { type Clock, SourceError } from './source.ts';

export interface FetchOptions {
  /** The router's name, first in every message. */
  name: string;
  /** What answers at the address, for messages. */
  peer: Peer;
  /** Media types asked for. */
  accept: string;
  /** Most that is taken of an answer, unpacked [bytes]. */
  maxBytes: number;
  clock: Clock;
  /** Authorities to trust instead of the system's. */
  tls?: SecureContextOptions;
}

/** When a poll has to be over: of `performance.now()` [ms], and how long that was in all, for messages. */
export interface Deadline {
  at: number;
  timeoutMs: number;
}

export function deadlineIn(timeoutMs: number): Deadline {
  return { at: performance.now() + timeoutMs, timeoutMs };
}

export interface Page {
  text: string;
  /** Half-way between the request's last byte and the answer's first: the counters were read in between. Unix µs and monotonic ns. */
  readAtMicros: number;
  monotonicNs: bigint;
  /** Whether the transfer itself said where the page ends, so that one cut short would have been noticed. */
  framed: boolean;
}

/** A status says enough; of the body only the beginning is wanted, for the message. */
const MAX_STATUS_BODY = 4096;

/** One connection is kept. A second one comes about only when someone asks the collector in the middle of a poll. */
const KEPT = { keepAlive: true, maxFreeSockets: 1, maxSockets: 2 };

/** One for all: routers can be asked for under the same name. */
const lookup = lookupOnce();

/** Gets pages from one server. */
export class Fetcher {
  private readonly options: FetchOptions;
  private http: HttpAgent | undefined;
  private https: HttpsAgent | undefined;

  private closed = false;

  constructor(options: FetchOptions) {
    this.options = options;
  }

  /**
   * @param signal ends it early, with the signal's reason
   * @throws SourceError; StatusError where the answer has another status than 200
   */
  async get(url: URL, deadline: Deadline, signal: AbortSignal): Promise<Page> {
    // A server may close a kept connection in the moment that we use it. Both of ours can be in that state, a third one is new.
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      const page = await this.attempt(url, deadline, signal);
      if (page !== 'stale') return page;
    }
    throw new SourceError(
      'unreachable',
      `${this.options.name}: ${urlText(url)} closes every connection before it answers: look into the ${this.options.peer}'s log`,
    );
  }

  close(): void {
    this.closed = true;
    this.http?.destroy();
    this.https?.destroy();
  }

  private async attempt(url: URL, deadline: Deadline, signal: AbortSignal): Promise<Page | 'stale'> {
    signal.throwIfAborted();
    if (this.closed)
      throw new SourceError('unreachable', `${this.options.name}: ${urlText(url)} is not asked any more: the source is closed`);
    const { name, peer, maxBytes } = this.options;
    const where = { name, peer, url };
    const progress = { connected: false, answered: false, bytes: 0 };
    const request = this.open(url);
    request.on('socket', (socket) => {
      progress.connected = !socket.connecting;
      if (!socket.connecting) return;
      socket.once('connect', () => {
        progress.connected = true;
      });
    });

    // What ends a transfer early destroys it, and streams then tell of that in many ways: this is the reason that counts.
    let ended: { error: unknown } | undefined;
    let response: IncomingMessage | undefined;
    const end = (error: unknown) => {
      ended ??= { error };
      response?.destroy();
      request.destroy();
    };
    const timer = setTimeout(() => end(timeoutError(where, deadline.timeoutMs, progress)), Math.max(0, deadline.at - performance.now()));
    const onAbort = () => end(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });

    try {
      const answer = await this.answer(request);
      response = answer.response;
      progress.answered = true;
      const count = (bytes: number) => {
        progress.bytes = bytes;
      };
      const { statusCode = 0, statusMessage = '', headers } = response;
      if (statusCode !== 200) {
        const body = await readBody(response, MAX_STATUS_BODY, count).catch(() => undefined);
        if (ended !== undefined && signal.aborted) throw ended.error;
        throw new StatusError(
          statusCode,
          whyStatus(where, statusCode, statusMessage, headers.location, typeof body === 'string' ? body : ''),
        );
      }
      const text = Number(headers['content-length']) > maxBytes ? TOO_LARGE : await readBody(response, maxBytes, count);
      if (text === TOO_LARGE) {
        const remedy = peer === 'exporter' ? 'switch off collectors of the exporter, or raise' : 'is the address right? If so, raise';
        throw new SourceError(
          'too_large',
          `${name}: the answer of ${urlText(url)} is larger than ${sizeText(maxBytes)}: ${remedy} agent.max_response_bytes`,
        );
      }
      return { text, readAtMicros: answer.readAtMicros, monotonicNs: answer.monotonicNs, framed: isFramed(response) };
    } catch (error) {
      const reason = ended;
      // Of a connection with something unread in it nothing more can be had.
      if (response?.readableEnded !== true) end(error);
      if (error instanceof SourceError) throw error;
      if (reason !== undefined) throw reason.error;
      if (!progress.answered && request.reusedSocket && /^(ECONNRESET|EPIPE)$/.test(codeOf(error) ?? '')) return 'stale';
      throw whyBroken(where, error, progress);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    }
  }

  private open(url: URL): ClientRequest {
    const headers = { accept: this.options.accept, 'accept-encoding': 'gzip', 'user-agent': 'ndt-agent' };
    const options = { headers, lookup };
    // Loaded when used: TLS takes 3 MB, and `node:http` as a module 6 MB, for the WebSocket that comes with it.
    if (url.protocol === 'https:') {
      const { Agent, request } = process.getBuiltinModule('node:https');
      this.https ??= new Agent({ ...KEPT, ...this.options.tls });
      return request(url, { agent: this.https, ...options });
    }
    const { Agent, request } = process.getBuiltinModule('node:http');
    this.http ??= new Agent(KEPT);
    return request(url, { agent: this.http, ...options });
  }

  /** Sends the request; resolves with the beginning of the answer and the moment that the counters were read. */
  private answer(request: ClientRequest): Promise<{ response: IncomingMessage; readAtMicros: number; monotonicNs: bigint }> {
    const { clock } = this.options;
    return new Promise((resolve, reject) => {
      let sentNs = clock.monotonicNs();
      request.once('finish', () => {
        sentNs = clock.monotonicNs();
      });
      request.once('response', (response) => {
        const nowMicros = clock.nowMicros();
        const halfNs = (clock.monotonicNs() - sentNs) / 2n;
        resolve({ response, readAtMicros: nowMicros - Math.round(Number(halfNs) / 1000), monotonicNs: sentNs + halfNs });
      });
      // Stays for the request's life: an error after the response is told by the response as well.
      request.on('error', reject);
      request.end();
    });
  }
}

const TOO_LARGE = Symbol('too large');

/** The whole body unpacked, as text; TOO_LARGE as soon as it is, packed or unpacked. */
async function readBody(response: IncomingMessage, maxBytes: number, count: (bytes: number) => void): Promise<string | typeof TOO_LARGE> {
  const encoding = response.headers['content-encoding'] ?? 'identity';
  const packed = encoding === 'gzip' || encoding === 'x-gzip';
  if (!packed && encoding !== 'identity') throw new EncodingError(encoding);
  let received = 0;
  let body: Readable = response;
  if (packed) {
    const gunzip = createGunzip();
    // A pack of nothing at all can go on for ever without a single byte coming out.
    response.on('data', (chunk: Buffer) => {
      received += chunk.length;
      count(received);
      if (received > maxBytes) gunzip.destroy(new TooLarge());
    });
    response.on('error', (error) => gunzip.destroy(error));
    // Destroyed without an error, as a time-out and an abort do it, a response only closes: nothing would ever end the pack.
    response.on('close', () => {
      if (!response.readableEnded) gunzip.destroy(new Error('the answer was cut short'));
    });
    // Errors are told by the loop below; one that comes after it is nobody's, and would end the process.
    gunzip.on('error', () => {});
    body = response.pipe(gunzip);
  }
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (!packed) count(size);
      if (size > maxBytes) return TOO_LARGE;
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof TooLarge) return TOO_LARGE;
    throw error;
  }
  // What follows a whole pack is nothing that anybody reads, and may never end.
  if (packed && !response.readableEnded) response.destroy();
  return Buffer.concat(chunks, size).toString('utf8');
}

class TooLarge extends Error {}

/** An encoding that was not asked for. */
class EncodingError extends Error {
  readonly code = 'NDT_ENCODING';
  constructor(encoding: string) {
    super(`content-encoding ${encoding}`);
  }
}

function isFramed(response: IncomingMessage): boolean {
  const { headers } = response;
  return (
    headers['content-length'] !== undefined ||
    headers['content-encoding'] !== undefined ||
    /\bchunked\b/i.test(headers['transfer-encoding'] ?? '')
  );
}

function timeoutError(
  { name, url, peer }: { name: string; url: URL; peer: Peer },
  timeoutMs: number,
  { connected, answered, bytes }: { connected: boolean; answered: boolean; bytes: number },
): SourceError {
  const within = `within ${timeoutMs / 1000} s (agent.timeout)`;
  const text = !connected
    ? `cannot reach ${urlText(url)} ${within}: is the address right, and no firewall in between?`
    : !answered
      ? `no answer from ${urlText(url)} ${within}: is the ${peer} overloaded? If it is only slow, raise agent.timeout`
      : `no complete answer from ${urlText(url)} ${within}, only ${bytes} bytes of it: if it is only slow, raise agent.timeout`;
  return new SourceError('timeout', `${name}: ${text}`);
}
