import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type LookupFunction, type Socket } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { listening, serve, serveTls } from '../test/serve.ts';
import { until } from '../test/until.ts';
import { deadlineIn, Fetcher, type FetchOptions } from './fetch.ts';
import { StatusError } from './fetch-errors.ts';
import { SourceError, systemClock } from './source.ts';

const forever = new AbortController().signal;
const tls = (file: string) => readFileSync(join(import.meta.dirname, '../test/fixtures/tls', file));

function fetcher(options: Partial<FetchOptions> = {}): Fetcher {
  const made = new Fetcher({ name: 'r1', peer: 'exporter', accept: 'text/plain', maxBytes: 1_048_576, clock: systemClock, ...options });
  onTestFinished(() => made.close());
  return made;
}

async function failure(promise: Promise<unknown>): Promise<SourceError> {
  const error: unknown = await promise.then(
    () => 'it worked',
    (reason: unknown) => reason,
  );
  if (error instanceof SourceError) return error;
  throw new Error(`expected a SourceError, got ${String(error)}`);
}

/** The error of one request to a server of this test. */
async function failureOf(
  listener: (request: IncomingMessage, response: ServerResponse) => void,
  options: Partial<FetchOptions> = {},
  timeoutMs = 5000,
) {
  const { url } = await serve(listener);
  const error = await failure(fetcher(options).get(new URL(`${url}/metrics`), deadlineIn(timeoutMs), forever));
  return { url: `${url}/metrics`, reason: error.reason, message: error.message, error };
}

/** A server that does not keep to HTTP. */
async function serveRaw(connection: (socket: Socket) => void): Promise<URL> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    onTestFinished(() => {
      socket.destroy();
    });
    connection(socket);
  });
  return new URL(`http://127.0.0.1:${await listening(server)}/metrics`);
}

describe('a page', () => {
  test('comes with text, time and framing, over one kept connection', async () => {
    const connections = new Set<unknown>();
    const asked: IncomingMessage[] = [];
    // Listeners left behind on the kept connection would be warned of.
    const warnings: Error[] = [];
    const warned = (warning: Error) => warnings.push(warning);
    process.on('warning', warned);
    onTestFinished(() => void process.off('warning', warned));
    const { url } = await serve((request, response) => {
      connections.add(request.socket);
      asked.push(request);
      response.end(`page ${request.url} ä\n`);
    });
    const client = fetcher();
    for (let i = 0; i < 20; i += 1) {
      const before = Date.now() * 1000;
      const page = await client.get(new URL(`${url}/m?x=${i}`), deadlineIn(5000), forever);
      expect(page.text).toBe(`page /m?x=${i} ä\n`);
      expect(page.framed).toBe(true);
      expect(page.readAtMicros).toBeGreaterThanOrEqual(before - 1000);
      expect(page.readAtMicros).toBeLessThanOrEqual(Date.now() * 1000);
      expect(Number.isInteger(page.readAtMicros)).toBe(true);
    }
    expect(connections.size).toBe(1);
    expect(warnings).toEqual([]);
    expect(asked[0]?.headers).toMatchObject({ accept: 'text/plain', 'accept-encoding': 'gzip', 'user-agent': 'ndt-agent' });
  });

  test('was read half-way between request and answer', async () => {
    const { url } = await serve((_, response) => void setTimeout(() => response.end('late\n'), 400));
    const [started, startedMs] = [systemClock.monotonicNs(), Date.now()];
    const page = await fetcher().get(new URL(url), deadlineIn(5000), forever);
    const [ended, endedMs] = [systemClock.monotonicNs(), Date.now()];
    // Half of 400 ms is on either side of it, however slow the machine itself is.
    expect(Number(page.monotonicNs - started) / 1e6).toBeGreaterThan(195);
    expect(Number(ended - page.monotonicNs) / 1e6).toBeGreaterThan(195);
    expect(page.readAtMicros / 1000 - startedMs).toBeGreaterThan(190);
    expect(endedMs - page.readAtMicros / 1000).toBeGreaterThan(190);
  });

  test('is unpacked', async () => {
    const text = 'metric 1\n'.repeat(10_000);
    const { url } = await serve((_, response) => response.setHeader('content-encoding', 'gzip').end(gzipSync(text)));
    const client = fetcher();
    for (let i = 0; i < 3; i += 1) expect((await client.get(new URL(url), deadlineIn(5000), forever)).text).toBe(text);
  });

  test('is unpacked over a kept connection, also where its transfer ends after the pack', async () => {
    const connections = new Set<unknown>();
    const { url } = await serve((request, response) => {
      connections.add(request.socket);
      response.setHeader('content-encoding', 'gzip').write(gzipSync('metric 1\n'), () => setImmediate(() => response.end()));
    });
    const client = fetcher();
    for (let i = 0; i < 5; i += 1) expect((await client.get(new URL(url), deadlineIn(5000), forever)).text).toBe('metric 1\n');
    expect(connections.size).toBe(1);
  });

  test('ends with its pack: zeros without end after it are not waited for', async () => {
    let open = 0;
    let written = 0;
    const { url } = await serve((_, response) => {
      open += 1;
      response.on('close', () => {
        open -= 1;
      });
      response.setHeader('content-encoding', 'gzip').write(Buffer.concat([gzipSync('metric 1\n'), Buffer.alloc(64)]));
      const more = () => {
        if (response.destroyed) return;
        written += 65_536;
        response.write(Buffer.alloc(65_536));
        setImmediate(more);
      };
      more();
    });
    const client = fetcher({ maxBytes: 1024 ** 3 });
    for (let i = 0; i < 4; i += 1) expect((await client.get(new URL(url), deadlineIn(5000), forever)).text).toBe('metric 1\n');
    await until(() => open === 0, 'the connections to be closed');
    expect(written).toBeLessThan(16 * 1_048_576);
  });

  test('sent until the connection ends is not framed', async () => {
    const url = await serveRaw((socket) => {
      socket.once('data', () => socket.end('HTTP/1.0 200 OK\r\n\r\nmetric 12'));
    });
    expect(await fetcher().get(url, deadlineIn(5000), forever)).toMatchObject({ text: 'metric 12', framed: false });
  });

  test('is asked for again where the server had closed the kept connection', async () => {
    let connections = 0;
    const url = await serveRaw((socket) => {
      connections += 1;
      let requests = 0;
      socket.on('data', () => {
        requests += 1;
        // The second request on a connection meets one that is being closed.
        if (requests === 1) socket.write('HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n');
        else socket.resetAndDestroy();
      });
    });
    const client = fetcher();
    for (let i = 0; i < 5; i += 1) expect((await client.get(url, deadlineIn(5000), forever)).text).toBe('ok\n');
    expect(connections).toBe(5);
  });

  test('needs the login that stands in the address', async () => {
    const { url } = await serve((request, response) => response.end(request.headers.authorization ?? 'none'));
    const page = await fetcher().get(new URL(url.replace('//', '//user:p%40ss@')), deadlineIn(5000), forever);
    expect(page.text).toBe(`Basic ${Buffer.from('user:p@ss').toString('base64')}`);
  });
});

describe('too large', () => {
  test('a long page is ended in its middle, whatever length it announces', async () => {
    let written = 0;
    let closed = false;
    const { reason, message, url } = await failureOf(
      (_, response) => {
        response.on('close', () => {
          closed = true;
        });
        // Endless.
        const more = () => {
          while (!response.destroyed) {
            written += 65_536;
            if (!response.write(Buffer.alloc(65_536, 'x'))) return;
          }
        };
        response.on('drain', more);
        more();
      },
      { maxBytes: 16 * 1_048_576 },
    );
    expect(reason).toBe('too_large');
    expect(message).toBe(
      `r1: the answer of ${url} is larger than 16 MiB: switch off collectors of the exporter, or raise agent.max_response_bytes`,
    );
    await until(() => closed, 'the connection to be closed');
    expect(written).toBeLessThan(40 * 1_048_576);
  });

  test('an announced length is enough', async () => {
    let closed = false;
    const { reason } = await failureOf((_, response) => {
      response.on('close', () => {
        closed = true;
      });
      response.writeHead(200, { 'content-length': 1_048_577 }).write('#');
    });
    expect(reason).toBe('too_large');
    await until(() => closed, 'the connection to be closed');
  });

  test('exactly the limit is taken, one byte more is not', async () => {
    const { url } = await serve((request, response) => response.end('x'.repeat(request.url === '/1024' ? 1024 : 1025)));
    const client = fetcher({ maxBytes: 1024 });
    expect((await client.get(new URL(`${url}/1024`), deadlineIn(5000), forever)).text).toHaveLength(1024);
    const error = await failure(client.get(new URL(`${url}/1025`), deadlineIn(5000), forever));
    expect(error.message).toContain('larger than 1 KiB');
    expect((await client.get(new URL(`${url}/1024`), deadlineIn(5000), forever)).text).toHaveLength(1024);
  });

  test('a small pack that unpacks to much', async () => {
    const bomb = gzipSync(Buffer.alloc(64 * 1_048_576));
    expect(bomb.length).toBeLessThan(100_000);
    const before = process.memoryUsage().rss;
    const { reason } = await failureOf((_, response) => response.setHeader('content-encoding', 'gzip').end(bomb));
    expect(reason).toBe('too_large');
    expect(process.memoryUsage().rss - before).toBeLessThan(32 * 1_048_576);
  });

  test('a pack without end from which nothing comes', async () => {
    const nothing = gzipSync('');
    const chunk = Buffer.concat(Array.from({ length: 2000 }, () => nothing));
    const { reason } = await failureOf((_, response) => {
      response.setHeader('content-encoding', 'gzip');
      const more = () => {
        while (!response.destroyed && response.write(chunk));
      };
      response.on('drain', more);
      more();
    });
    expect(reason).toBe('too_large');
  });
});

describe('too slow', () => {
  test('no answer', async () => {
    const { reason, message, url } = await failureOf(() => {}, {}, 150);
    expect(reason).toBe('timeout');
    expect(message).toBe(
      `r1: no answer from ${url} within 0.15 s (agent.timeout): is the exporter overloaded? If it is only slow, raise agent.timeout`,
    );
  });

  test('an answer that never ends, however steadily it comes', async () => {
    let closed = false;
    const { reason, message } = await failureOf(
      (_, response) => {
        const timer = setInterval(() => response.write('# x\n'), 5);
        response.on('close', () => {
          clearInterval(timer);
          closed = true;
        });
      },
      {},
      200,
    );
    expect(reason).toBe('timeout');
    expect(message).toMatch(/^r1: no complete answer from .* within 0.2 s \(agent\.timeout\), only \d+ bytes of it: /);
    await until(() => closed, 'the connection to be closed');
  });

  test('a status whose body never ends is still told', async () => {
    const { error } = await failureOf((_, response) => void response.writeHead(500).write('boom'), {}, 150);
    expect(error).toBeInstanceOf(StatusError);
    expect(error).toMatchObject({ status: 500 });
  });

  test.each([200, 500])('a pack that stops in its middle, with status %i', async (status) => {
    let closed = false;
    const { error, reason, message, url } = await failureOf(
      (_, response) => {
        response.on('close', () => {
          closed = true;
        });
        response.writeHead(status, { 'content-encoding': 'gzip' }).write(gzipSync('metric 1\n').subarray(0, 20));
      },
      {},
      150,
    );
    if (status === 500) expect(error).toMatchObject({ status });
    else {
      expect(reason).toBe('timeout');
      expect(message).toBe(
        `r1: no complete answer from ${url} within 0.15 s (agent.timeout), only 20 bytes of it: if it is only slow, raise agent.timeout`,
      );
    }
    await until(() => closed, 'the connection to be closed');
  });

  test('a name server that does not answer is asked once, however many give up on it', async () => {
    const { url } = await serve((_, response) => response.end('ok\n'));
    const named = new URL(url.replace('127.0.0.1', 'localhost'));
    const dns: { lookup: LookupFunction } = process.getBuiltinModule('node:dns');
    const lookup = vi.spyOn(dns, 'lookup').mockImplementation(() => {});
    onTestFinished(() => lookup.mockRestore());
    const clients = [fetcher(), fetcher()];
    for (let i = 0; i < 3; i += 1) {
      const errors = await Promise.all(clients.map((client) => failure(client.get(named, deadlineIn(50), forever))));
      expect(errors.map(({ reason }) => reason)).toEqual(['timeout', 'timeout']);
    }
    expect(lookup).toHaveBeenCalledTimes(1);

    const [asked] = lookup.mock.calls;
    const pages = clients.map((client) => client.get(named, deadlineIn(5000), forever));
    lookup.mockRestore();
    if (asked !== undefined) dns.lookup(...asked);
    for (const page of pages) expect((await page).text).toBe('ok\n');
    expect((await fetcher().get(named, deadlineIn(5000), forever)).text).toBe('ok\n');
  });

  test('a connection that does not come about', async () => {
    // TEST-NET-1 is nobody's: packets to it vanish, or a router on the way says so.
    const error = await failure(fetcher().get(new URL('http://192.0.2.1:9100/metrics'), deadlineIn(100), forever));
    expect(error.message).toMatch(/^r1: cannot reach http:\/\/192\.0\.2\.1:9100\/metrics (within 0\.1 s \(agent\.timeout\)|\(E\w+\)): /);
  });

  test('an abort ends it with its own reason, before and after the answer began', async () => {
    const { url } = await serve((request, response) => {
      if (request.url === '/packed') response.setHeader('content-encoding', 'gzip').write(gzipSync('metric 1\n').subarray(0, 20));
      else if (request.url === '/begun') response.write('# x\n');
    });
    for (const path of ['/', '/begun', '/packed']) {
      const abort = new AbortController();
      const page = fetcher().get(new URL(`${url}${path}`), deadlineIn(5000), abort.signal);
      setTimeout(() => abort.abort(new Error('stopping')), 50);
      await expect(page).rejects.toThrow('stopping');
    }
    await expect(fetcher().get(new URL(url), deadlineIn(5000), AbortSignal.abort(new Error('stopped')))).rejects.toThrow('stopped');
  });

  test('closing ends what is under way, and there is nothing after it', async () => {
    const arrived = Promise.withResolvers<void>();
    const { url } = await serve(() => arrived.resolve());
    const client = fetcher();
    const page = failure(client.get(new URL(url), deadlineIn(5000), forever));
    await arrived.promise;
    client.close();
    expect((await page).reason).toBe('unreachable');
    expect((await failure(client.get(new URL(url), deadlineIn(5000), forever))).message).toContain('the source is closed');
  });
});

describe('unreachable', () => {
  test('nothing listens', async () => {
    const closed = createServer();
    const port = await listening(closed);
    await new Promise((resolve) => closed.close(resolve));
    for (const host of ['127.0.0.1', 'localhost']) {
      const error = await failure(fetcher().get(new URL(`http://${host}:${port}/metrics`), deadlineIn(5000), forever));
      expect(error.reason).toBe('unreachable');
      expect(error.message).toBe(`r1: cannot reach http://${host}:${port}/metrics (ECONNREFUSED): is the exporter running there?`);
    }
  });

  test('a host name that nobody knows', async () => {
    const error = await failure(fetcher().get(new URL('http://no-such-router.invalid:9100/metrics'), deadlineIn(20_000), forever));
    expect(error.reason).toBe('unreachable');
    expect(error.message).toMatch(/^r1: cannot reach http:\/\/no-such-router\.invalid:9100\/metrics \((ENOTFOUND|EAI_AGAIN)\): .*DNS/);
  });

  test('a connection closed without an answer', async () => {
    const url = await serveRaw((socket) => {
      socket.once('data', () => socket.end());
    });
    const error = await failure(fetcher().get(url, deadlineIn(5000), forever));
    expect(error.reason).toBe('unreachable');
    expect(error.message).toBe(
      `r1: ${url} closed the connection without an answer (ECONNRESET): is it the exporter, and http:// or https:// right?`,
    );
  });

  test.each(['content-length: 100', 'transfer-encoding: chunked'])(
    'a connection that breaks in the middle of an answer (%s)',
    async (framing) => {
      const url = await serveRaw((socket) => {
        socket.once('data', () => socket.end(`HTTP/1.1 200 OK\r\n${framing}\r\n\r\n${framing.startsWith('t') ? '4\r\nhalf\r\n' : 'half'}`));
      });
      const error = await failure(fetcher().get(url, deadlineIn(5000), forever));
      expect(error.reason).toBe('unreachable');
      expect(error.message).toBe(
        `r1: the connection to ${url} broke after 4 bytes of the answer (ECONNRESET): look into the exporter's log`,
      );
    },
  );

  test('a certificate that nobody trusts, and plain HTTP behind https://', async () => {
    const { url } = await serveTls({ cert: tls('localhost.crt'), key: tls('localhost.key') }, (_, response) => response.end('ok\n'));
    const untrusted = await failure(fetcher().get(new URL(url), deadlineIn(5000), forever));
    expect(untrusted.reason).toBe('unreachable');
    expect(untrusted.message).toBe(
      `r1: the certificate of ${url}/ is signed by nobody this machine trusts (DEPTH_ZERO_SELF_SIGNED_CERT): name the PEM file of its authority in NODE_EXTRA_CA_CERTS`,
    );

    const trusting = { tls: { ca: tls('localhost.crt') } };
    const client = fetcher(trusting);
    expect((await client.get(new URL(url), deadlineIn(5000), forever)).text).toBe('ok\n');
    expect((await client.get(new URL(url), deadlineIn(5000), forever)).text).toBe('ok\n');

    const plain = await serve((_, response) => response.end('ok\n'));
    const wrong = await failure(fetcher().get(new URL(plain.url.replace('http:', 'https:')), deadlineIn(5000), forever));
    expect(wrong.reason).toBe('unreachable');
    expect(wrong.message).toMatch(/^r1: no TLS with https:.*does it speak plain http:\/\/ there/);
  });

  test.each([
    ['other-name.crt', /^r1: the certificate of https:.* is for another name \(.*DNS:r9\.example.*\): use a name that is in it$/],
    ['expired.crt', /^r1: the certificate of https:.* is not valid now \(CERT_HAS_EXPIRED\): renew it, or set the clock right$/],
  ])('a trusted certificate that does not hold (%s)', async (file, message) => {
    const { url } = await serveTls({ cert: tls(file), key: tls('localhost.key') }, (_, response) => response.end('ok\n'));
    const error = await failure(fetcher({ tls: { ca: tls(file) } }).get(new URL(url), deadlineIn(5000), forever));
    expect(error.reason).toBe('unreachable');
    expect(error.message).toMatch(message);
  });
});

describe('not what it should be', () => {
  test.each([
    [301, 'http://r1:9100/elsewhere', 'http://r1:9100/elsewhere'],
    [302, '/login?next=%2F', '/login?next=%2F'],
    [307, 'https://me:secret@r1/m', 'https://me:***@r1/m'],
  ])('a redirect (%i) is not followed', async (status, location, shown) => {
    let requests = 0;
    const { error, message, url } = await failureOf((_, response) => {
      requests += 1;
      response.writeHead(status, { location }).end();
    });
    expect(error).toMatchObject({ reason: 'status', status });
    expect(message).toContain(`${url} answers ${status} `);
    expect(message).toContain(`${shown}: redirects are not followed, so set that address if it is the right one`);
    expect(requests).toBe(1);
  });

  test.each([
    [500, 'boom\n at line 1\u0007', 'answers 500 Internal Server Error ("boom at line 1"): look into the exporter\'s log'],
    [
      503,
      'Limit of concurrent requests reached (40), try again later.',
      'answers 503 Service Unavailable ("Limit of concurrent requests reached (40)',
    ],
    [404, '<html>Not Found</html>', 'answers 404 Not Found: is the path right? an exporter mostly answers at /metrics'],
    [
      401,
      'Unauthorized',
      'answers 401 Unauthorized: it wants a login, which can stand in the address (http://user:password@host:port/path)',
    ],
    [204, '', 'answers 204 No Content'],
    [206, 'part', 'answers 206 Partial Content ("part")'],
  ])('status %i', async (status, body, text) => {
    const { error, message } = await failureOf((_, response) => response.writeHead(status).end(body));
    expect(error).toBeInstanceOf(StatusError);
    expect(error).toMatchObject({ reason: 'status', status });
    expect(message).toContain(text);
  });

  test('a connection is kept after an error of some words, and the password is in no message', async () => {
    const connections = new Set<unknown>();
    const { url } = await serve((request, response) => {
      connections.add(request.socket);
      response.writeHead(500).end('no');
    });
    const client = fetcher();
    for (let i = 0; i < 3; i += 1) {
      const error = await failure(client.get(new URL(url.replace('//', '//me:secret@')), deadlineIn(5000), forever));
      expect(error.message).toContain('//me:***@127.0.0.1');
      expect(error.message).not.toContain('secret');
    }
    expect(connections.size).toBe(1);
  });

  test('a page of some other protocol', async () => {
    const url = await serveRaw((socket) => {
      socket.write('SSH-2.0-OpenSSH_9.6\r\n');
    });
    const error = await failure(fetcher().get(url, deadlineIn(5000), forever));
    expect(error.reason).toBe('not_metrics');
    expect(error.message).toMatch(/does not speak HTTP \(HPE_INVALID_CONSTANT\): are host and port right\?$/);
  });

  test('headers without end', async () => {
    const url = await serveRaw((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(100_000)}`);
    });
    const error = await failure(fetcher().get(url, deadlineIn(5000), forever));
    expect(error.message).toContain('HPE_HEADER_OVERFLOW');
  });

  test('a pack that is broken, cut short, or of another kind', async () => {
    const page = gzipSync('metric 1\n'.repeat(1000));
    const packed = (body: Buffer, encoding = 'gzip') =>
      failureOf((_, response) => response.setHeader('content-encoding', encoding).end(body));
    expect(await packed(Buffer.from('plain text'))).toMatchObject({
      reason: 'unreadable',
      message: expect.stringContaining('is not the gzip it says it is (Z_DATA_ERROR)'),
    });
    expect(await packed(page.subarray(0, -10))).toMatchObject({ reason: 'unreadable', message: expect.stringContaining('(Z_BUF_ERROR)') });
    expect(await packed(page, 'br')).toMatchObject({
      reason: 'unreadable',
      message: expect.stringContaining('content-encoding br, which was not asked for'),
    });
  });

  test('after a broken pack the next page comes', async () => {
    let requests = 0;
    const { url } = await serve((_, response) => {
      requests += 1;
      if (requests % 2 === 1) response.setHeader('content-encoding', 'gzip').end(Buffer.from('broken '.repeat(10)));
      else response.end('ok\n');
    });
    const client = fetcher();
    for (let i = 0; i < 3; i += 1) {
      await failure(client.get(new URL(url), deadlineIn(2000), forever));
      expect((await client.get(new URL(url), deadlineIn(2000), forever)).text).toBe('ok\n');
    }
  });
});
