/** What can go wrong in asking, against real servers: each is counted, told in one line that says what to do, and over when it is. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { type Answer, at, makePublisher, matrix, servePrometheus } from '../../test/pods.ts';
import { freePort } from '../../test/ports.ts';
import { makeCertificates, type Pair } from '../../test/real/certificates.ts';
import { listening, serveTls } from '../../test/serve.ts';
import { tempDir } from '../../test/tempdir.ts';

/** One round against an address: why it failed, and the line that was logged, without the address. */
async function failure(url: string, prometheus: object = {}, dir?: string): Promise<{ reason: string | undefined; log: string }> {
  const { publisher, metrics, log } = await makePublisher({ prometheus: { url, ...prometheus } }, dir === undefined ? {} : { dir });
  expect(await publisher.round(at('10:00:00'))).toEqual([]);
  expect(publisher.lastResult).toBe('failed');
  expect(log).toHaveLength(1);
  const reason = /^ndt_pods_failures_total\{reason="(\w+)"\} 1$/m.exec(metrics.print())?.[1];
  return { reason, log: log[0]!.replaceAll(url, 'URL').replace('; the time missed is made up for when it works again', '') };
}

const answers = async (answer: Answer, prometheus: object = {}) => await failure((await servePrometheus(answer)).url, prometheus);
const status =
  (code: number, body: object | string = '', headers: { [name: string]: string } = {}): Answer =>
  (_, __, response) => {
    response.writeHead(code, headers).end(typeof body === 'string' ? body : JSON.stringify(body));
    return undefined;
  };
const success = (data: unknown) => ({ status: 'success', data });
const ERROR = { status: 'error', errorType: 'bad_data', error: 'parse error:\n unexpected "}"' };

describe('an answer that is none', () => {
  it.each<[string, Answer, string, RegExp]>([
    [
      '400 with the API’s error',
      status(400, ERROR),
      'query',
      /^pods: a: URL answers 400 \("parse error: unexpected "}""\): mend the query/,
    ],
    ['an error with status 200', () => ERROR, 'query', /mend the query/],
    ['422', status(422, { ...ERROR, error: 'many-to-many matching' }), 'query', /many-to-many matching/],
    [
      '503 with the API’s error',
      status(503, { ...ERROR, error: 'query timed out' }),
      'busy',
      /^pods: Prometheus: URL answers 503 \("query timed out"\): look into/,
    ],
    ['502 with HTML', status(502, '<html>Bad Gateway</html>'), 'busy', /^pods: Prometheus: URL answers 502: look/],
    ['429', status(429), 'busy', /raise pods.interval/],
    ['401', status(401, 'Unauthorized'), 'refused', /set username and password_file, or token_file/],
    ['403', status(403), 'refused', /give it the right/],
    ['404 with HTML', status(404, '<html/>'), 'not_prometheus', /is the path in pods.prometheus.url right\?/],
    ['413', status(413), 'too_large', /narrow pods.selector/],
    [
      'a redirect',
      status(302, '', { location: 'http://elsewhere/' }),
      'not_prometheus',
      /points to http:\/\/elsewhere\/: redirects are not followed/,
    ],
    ['HTML', () => '<!doctype html><title>Grafana</title>', 'not_prometheus', /a page of HTML instead of JSON/],
    ['no JSON', () => '{"status":"succ', 'not_prometheus', /no JSON \("\{"status":"succ"\)/],
    ['other JSON', () => ({ ok: true }), 'not_prometheus', /not of its API/],
    ['no result', () => success(null), 'not_prometheus', /without a result/],
    ['a result that is no list', () => success({ resultType: 'matrix', result: {} }), 'not_prometheus', /no list/],
    [
      'a vector',
      () => success({ resultType: 'vector', result: [] }),
      'result_type',
      /^pods: a: URL answers with a vector where a matrix was asked for/,
    ],
    ['a scalar', () => success({ resultType: 'scalar', result: [1, '2'] }), 'result_type', /a scalar/],
    [
      'a broken series',
      () => success({ resultType: 'matrix', result: [{ metric: {}, values: [[1]] }] }),
      'not_prometheus',
      /cannot be read/,
    ],
    [
      'an absurd time',
      () => success({ resultType: 'matrix', result: [{ metric: {}, values: [[1e300, '1']] }] }),
      'not_prometheus',
      /cannot be read/,
    ],
    ['bad gzip', status(200, 'no gzip', { 'content-encoding': 'gzip' }), 'not_prometheus', /not the gzip it says it is/],
    ['another packing', status(200, 'x', { 'content-encoding': 'br' }), 'not_prometheus', /packed with br/],
  ])('%s', async (_, answer, reason, told) => {
    const failed = await answers(answer);
    expect(failed.reason).toBe(reason);
    expect(failed.log).toMatch(told);
  });

  it('is too large, packed or not', async () => {
    const large = JSON.stringify(success({ resultType: 'matrix', result: [], pad: 'x'.repeat(5000) }));
    const packed: Answer = (_, __, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(large));
      return undefined;
    };
    for (const answer of [() => large, packed]) {
      const failed = await answers(answer, { max_response_bytes: 2048 });
      expect(failed).toEqual({
        reason: 'too_large',
        log: 'pods: a: the answer of URL is larger than 2048 bytes: narrow pods.selector, or raise pods.prometheus.max_response_bytes',
      });
    }
  });
});

describe('a connection that is none', () => {
  it('nobody listens', async () => {
    const { reason, log } = await failure(`http://127.0.0.1:${await freePort()}`);
    expect({ reason, log }).toEqual({
      reason: 'unreachable',
      log: 'pods: Prometheus: cannot reach URL (ECONNREFUSED): is Prometheus running there?',
    });
  });

  it('no answer in time, and no complete one', async () => {
    const told = (what: string) => ({
      reason: 'timeout',
      log: `pods: Prometheus: ${what} from URL within 0.2 s: is it reachable, and not overloaded? If it is only slow, raise pods.prometheus.timeout`,
    });
    expect(await answers(() => undefined, { timeout: 0.2 })).toEqual(told('no answer'));
    const begun: Answer = (_, __, response) => {
      response.write('{"status":');
      return undefined;
    };
    expect(await answers(begun, { timeout: 0.2 })).toEqual(told('no complete answer'));
  });

  it('breaks in the middle, closes at once, or speaks no HTTP', async () => {
    const cut: Answer = (_, __, response) => {
      response.write('{"status":', () => response.destroy());
      return undefined;
    };
    expect(await answers(cut)).toMatchObject({ reason: 'unreachable', log: expect.stringMatching(/broke in the middle of an answer/) });
    const closes = createServer((socket) => socket.on('error', () => {}).destroy());
    expect((await failure(`http://127.0.0.1:${await listening(closes)}`)).reason).toBe('unreachable');
    const other = createServer((socket) => void socket.on('error', () => {}).end('220 mail.example ESMTP\r\n'));
    expect(await failure(`http://127.0.0.1:${await listening(other)}`)).toMatchObject({
      reason: 'not_prometheus',
      log: expect.stringMatching(/does not speak HTTP/),
    });
  });
});

describe('an answer with flaws', () => {
  it('a partial one is published, and the warning told once', async () => {
    const { url } = await servePrometheus((one) => ({ ...matrix(one), warnings: ['store 10.0.0.7 is not\nthere'] }));
    const { publisher, log, value } = await makePublisher({ prometheus: { url } });
    expect(await publisher.round(at('10:00:00'))).toHaveLength(1);
    await publisher.round(at('10:00:20'));
    expect(log).toEqual([
      'pods: warnings: Prometheus warns that an answer may not be complete ("store 10.0.0.7 is not there"); what is there is published',
    ]);
    expect(value('ndt_pods_warnings_total')).toBe(2);
  });

  it('values that no message takes are left out by reason, the others published', async () => {
    const id = (container: string) => ({ id: `/kubepods/${container}` });
    const [one, two] = ['1', '2'].map((digit) => digit.repeat(64));
    const s = at('10:00:00') / 1000;
    const result = [
      {
        metric: id(one!),
        values: [
          [s - 40, 'NaN'],
          [s - 20, '+Inf'],
          [s, '1.5e+06'],
          [s + 20, '9'],
        ],
      },
      { metric: id(one!), values: [[s, '2']] },
      {
        metric: id(two!),
        values: [
          [s - 20, '-Inf'],
          [s, 'many'],
        ],
        histograms: [[s, {}]],
      },
      { metric: { id: '/' }, values: [[s, '3']] },
      { metric: {}, values: [[s, '4']] },
    ];
    const { url } = await servePrometheus(() => success({ resultType: 'matrix', result }));
    const { publisher, log, metrics } = await makePublisher({ prometheus: { url } });
    const messages = await publisher.round(at('10:00:00'));
    expect(messages.map(({ value }) => JSON.parse(value.toString()) as unknown)).toEqual([
      {
        container_id: one,
        metric_type: 'a',
        data: [{ type: 'gauge', name: 'a', timestamp: '2019-02-13T10:00:00.000000Z', unit: 'bytes', value: '1.5e+06' }],
      },
    ]);
    const dropped = Object.fromEntries(
      [...metrics.print().matchAll(/^ndt_pods_dropped_values_total\{reason="(\w+)"\} (\d+)$/gm)].map(([, reason, n]) => [
        reason,
        Number(n),
      ]),
    );
    expect(dropped).toEqual({ nan: 1, infinite: 2, out_of_range: 1, duplicate: 1, unreadable: 1, histogram: 1, no_container: 2 });
    expect(log).toHaveLength(7);
  });

  it('a Prometheus that has none of the metrics is told of', async () => {
    const { url } = await servePrometheus(() => success({ resultType: 'matrix', result: [] }));
    const { publisher, log } = await makePublisher({ prometheus: { url } });
    await publisher.round(at('10:00:00'));
    expect(publisher.lastResult).toBe('ok');
    expect(log).toEqual([expect.stringMatching(/has none of the metrics: does it scrape cAdvisor/)]);
  });
});

describe('a login', () => {
  const seen = async (prometheus: object, dir = tempDir()) => {
    const logins: Array<string | undefined> = [];
    const { url } = await servePrometheus((one, request) => {
      logins.push(request.headers.authorization);
      return matrix(one);
    });
    const { publisher } = await makePublisher({ prometheus: { url, ...prometheus } }, { dir });
    return { publisher, logins };
  };

  it('by password, from a file as well', async () => {
    const dir = tempDir();
    writeFileSync(join(dir, 'password'), 'gehèim:1\n');
    for (const given of [{ password: 'gehèim:1' }, { password_file: 'password' }]) {
      const { publisher, logins } = await seen({ username: 'ndt', ...given }, dir);
      await publisher.round(at('10:00:00'));
      expect(logins).toEqual([`Basic ${Buffer.from('ndt:gehèim:1').toString('base64')}`]);
    }
  });

  it('by a token file, read anew each time', async () => {
    const dir = tempDir();
    const file = join(dir, 'token');
    writeFileSync(file, 'one\n');
    const { publisher, logins } = await seen({ token_file: 'token' }, dir);
    await publisher.round(at('10:00:00'));
    writeFileSync(file, 'two\n');
    await publisher.round(at('10:00:20'));
    rmSync(file);
    await publisher.round(at('10:00:40'));
    expect(publisher.lastResult).toBe('failed');
    expect(logins).toEqual(['Bearer one', 'Bearer two']);
  });

  it('is checked at the start', async () => {
    const wrong: Array<[object, RegExp]> = [
      [{ username: 'ndt' }, /username has no password: set password_file/],
      [{ password: 'x' }, /password stands alone: set username/],
      [{ username: 'ndt', password: 'x', token_file: 't' }, /two logins: remove one/],
      [{ token_file: 'missing' }, /token_file: cannot read .*missing \(ENOENT\)/],
      [{ url: 'http://a:b@127.0.0.1' }, /a login does not belong into the address/],
      [{ url: 'http://127.0.0.1', tls: {} }, /tls is set, but url is not https/],
      [{ url: 'https://127.0.0.1', tls: { ca_file: 'missing' } }, /tls\.ca_file: cannot read/],
    ];
    for (const [prometheus, message] of wrong) await expect(makePublisher({ prometheus })).rejects.toThrow(message);
  });
});

describe('TLS', () => {
  const dir = mkdtempSync(join(tmpdir(), 'ndt-test-'));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  const made = makeCertificates(dir);
  const read = (file: string) => readFileSync(file, 'utf8');
  const files = ({ cert, key }: Pair) => ({ cert: read(cert), key: read(key) });

  it('trusts the authority given, and nobody else', async () => {
    const { url } = await serveTls(files(made.server), (_, response) =>
      response.end(JSON.stringify(success({ resultType: 'matrix', result: [] }))),
    );
    const well = await makePublisher({ prometheus: { url, tls: { ca_file: made.ca } } });
    await well.publisher.round(at('10:00:00'));
    expect(well.publisher.lastResult).toBe('ok');
    expect(await failure(url, { tls: { ca_file: made.wrongCa } })).toMatchObject({
      reason: 'unreachable',
      log: expect.stringMatching(/signed by nobody we trust .* pods\.prometheus\.tls\.ca_file/),
    });
    expect((await failure(url)).reason).toBe('unreachable');
    expect((await failure(url.replace('https', 'http'))).reason).toBe('unreachable');
  });

  it('tells of a certificate for another name, unless that is the one expected', async () => {
    const { url } = await serveTls(files(made.otherServer), (_, response) => response.end('{}'));
    expect((await failure(url, { tls: { ca_file: made.ca } })).log).toMatch(/is for another name .*pods\.prometheus\.tls\.server_name/);
    expect((await failure(url, { tls: { ca_file: made.ca, server_name: 'elsewhere.example' } })).reason).toBe('not_prometheus');
  });

  it('shows its own certificate where one is wanted', async () => {
    const options = { ...files(made.server), ca: read(made.ca), requestCert: true, rejectUnauthorized: true };
    const { url } = await serveTls(options, (_, response) => response.end(JSON.stringify(success({ resultType: 'matrix', result: [] }))));
    const { cert, key } = made.client('ndt');
    const well = await makePublisher({ prometheus: { url, tls: { ca_file: made.ca, cert_file: cert, key_file: key } } });
    await well.publisher.round(at('10:00:00'));
    expect(well.publisher.lastResult).toBe('ok');
    expect((await failure(url, { tls: { ca_file: made.ca } })).reason).toBe('unreachable');
  });
});
