/** Asking Prometheus over its HTTP API: over connections that are kept, within a time and a size. */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { Loaded } from '../../common/config.ts';
import { codeOf, messageOf } from '../../common/errors.ts';
import { type Answer, parseAnswer } from './answer.ts';
import { authorization, checkedUrl, tlsOptions } from './credentials.ts';
import { PrometheusError, whyBroken, whyStatus } from './prometheus-error.ts';
import type { Span } from './spans.ts';

export class Prometheus {
  /** Without a slash at its end. */
  readonly url: string;
  private readonly loaded: Pick<Loaded, 'config' | 'dir'>;
  private readonly timeoutS: number;
  private readonly maxBytes: number;
  private agent: HttpAgent | HttpsAgent;
  private tlsText = '';

  /** @throws NdtError CONFIG where address, login or files cannot be used */
  constructor(loaded: Pick<Loaded, 'config' | 'dir'>) {
    const { timeout, max_response_bytes } = loaded.config.pods.prometheus;
    this.loaded = loaded;
    this.url = checkedUrl(loaded);
    this.timeoutS = timeout;
    this.maxBytes = max_response_bytes;
    authorization(loaded);
    this.agent = new HttpAgent({ keepAlive: true });
    this.renewAgent();
  }

  /**
   * The values of a query at `span.startMs`, `+ stepMs`, … up to `span.endMs`.
   * @throws PrometheusError; the signal's reason when that aborts
   */
  async queryRange(query: string, { startMs, endMs }: Span, stepMs: number, signal: AbortSignal): Promise<Answer> {
    const parameters = new URLSearchParams({
      query,
      start: String(startMs / 1000),
      end: String(endMs / 1000),
      step: String(stepMs / 1000),
      // What we do not wait for any longer need not be worked out any further.
      timeout: `${Math.ceil(this.timeoutS * 1000)}ms`,
    });
    return parseAnswer(this.url, await this.get(`${this.url}/api/v1/query_range?${parameters}`, signal));
  }

  close(): void {
    this.agent.destroy();
  }

  private async get(url: string, signal: AbortSignal): Promise<string> {
    const headers = this.headers();
    const deadline = AbortSignal.timeout(Math.ceil(this.timeoutS * 1000));
    const ends = AbortSignal.any([signal, deadline]);
    // A server may close kept connections in the very moment that we use them; a new one is not refused like that.
    for (let attempt = 1; ; attempt += 1) {
      const progress = { answered: false, reused: false };
      try {
        return await this.attempt(url, headers, ends, progress);
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof PrometheusError) throw error;
        if (deadline.aborted) {
          const what = progress.answered ? 'no complete answer' : 'no answer';
          throw new PrometheusError(
            'timeout',
            `${what} from ${this.url} within ${this.timeoutS} s: is it reachable, and not overloaded? If it is only slow, raise pods.prometheus.timeout`,
          );
        }
        if (!progress.answered && progress.reused && /^(ECONNRESET|EPIPE)$/.test(codeOf(error) ?? '') && attempt < 8) continue;
        throw whyBroken(this.url, error, progress.answered);
      }
    }
  }

  private async attempt(
    url: string,
    headers: { [name: string]: string },
    signal: AbortSignal,
    progress: { answered: boolean; reused: boolean },
  ): Promise<string> {
    const options = { agent: this.agent, headers, signal };
    const request = url.startsWith('https:') ? httpsRequest(url, options) : httpRequest(url, options);
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve);
      // Stays for the request's life: what breaks after the response is told by the response as well.
      request.on('error', (error) => {
        progress.reused = request.reusedSocket;
        reject(error);
      });
      request.end();
    });
    progress.answered = true;
    const { statusCode = 0 } = response;
    try {
      const body = await readBody(response, this.maxBytes);
      if (statusCode !== 200) throw whyStatus(this.url, statusCode, response.headers.location, body ?? '');
      if (body === undefined) {
        throw new PrometheusError(
          'too_large',
          `the answer of ${this.url} is larger than ${this.maxBytes} bytes: narrow pods.selector, or raise pods.prometheus.max_response_bytes`,
        );
      }
      return body;
    } finally {
      // Of a connection with something unread in it nothing more can be had.
      if (!response.complete) response.destroy();
    }
  }

  private headers(): { [name: string]: string } {
    try {
      this.renewAgent();
      const login = authorization(this.loaded);
      return {
        accept: 'application/json',
        'accept-encoding': 'gzip',
        'user-agent': 'ndt-aggregator',
        ...(login === undefined ? {} : { authorization: login }),
      };
    } catch (error) {
      throw new PrometheusError('credentials', messageOf(error), { cause: error });
    }
  }

  /** New connections where the files of a TLS connection have changed. */
  private renewAgent(): void {
    if (!this.url.startsWith('https:')) return;
    const tls = tlsOptions(this.loaded);
    const text = JSON.stringify(tls);
    if (text === this.tlsText) return;
    this.tlsText = text;
    const old = this.agent;
    this.agent = new HttpsAgent({ ...tls, keepAlive: true });
    // Requests in hand keep their connection; idle ones are of no use any more.
    for (const sockets of Object.values(old.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
  }
}

/** The body unpacked, as text; undefined as soon as it is too large, packed or unpacked. */
async function readBody(response: IncomingMessage, maxBytes: number): Promise<string | undefined> {
  const encoding = response.headers['content-encoding'] ?? 'identity';
  let body: Readable = response;
  if (encoding === 'gzip') {
    const gunzip = createGunzip();
    // A pipe does not pass errors on.
    response.on('error', (error) => gunzip.destroy(error));
    body = response.pipe(gunzip);
  } else if (encoding !== 'identity') {
    throw new PrometheusError('not_prometheus', `the answer is packed with ${encoding}, which was not asked for: is a proxy in between?`);
  }
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size).toString('utf8');
}
