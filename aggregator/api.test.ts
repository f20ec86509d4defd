import { createServer } from 'node:http';
import { join } from 'node:path';
import Schema from 'typebox/schema';
import { describe, expect, it, onTestFinished } from 'vitest';
import { HEADER } from '../common/bus.ts';
import { type Loaded, loadConfig } from '../common/config.ts';
import { SeqSets } from '../common/dedupe.ts';
import { NdtError } from '../common/errors.ts';
import { Metrics } from '../common/metrics.ts';
import { printRecord } from '../common/record.ts';
import { openDb } from '../common/sqlite.ts';
import { inventoryWith } from '../test/inventory.ts';
import { listening } from '../test/serve.ts';
import { delivered, deliveredPair, deliveredRecord, recordWith, TOPICS } from '../test/telemetry.ts';
import { tempDir } from '../test/tempdir.ts';
import { until } from '../test/until.ts';
import { startApi } from './api.ts';
import { parseTime } from './api-query.ts';
import { defaultStep } from './api-routes.ts';
import { type LatestFigures, Live } from './live.ts';
import { Store } from './store.ts';
import { StoreStage } from './store-stage.ts';

const SECOND = 1_000_000;
const T0 = 1_745_233_620 * SECOND;
/** Ten minutes of records every second, then the tests' now. */
const NOW = T0 + 600 * SECOND;

interface Server {
  url: string;
  store: Store;
  live: Live;
  stage: StoreStage;
  seen: SeqSets;
  ready: { ready: boolean; reasons: string[] };
  faults: string[];
}

async function serve({
  env = {},
  records = true,
  heartbeatMs = 15_000,
}: {
  env?: { [name: string]: string };
  records?: boolean;
  heartbeatMs?: number;
} = {}): Promise<Server> {
  const dir = tempDir();
  const loaded: Loaded = loadConfig(undefined, { NDT_AGGREGATOR_HTTP_PORT: '0', ...env });
  const store = new Store(join(dir, 'store.db'), TOPICS);
  const seenDb = openDb(join(dir, 'seen.db'));
  const seen = new SeqSets(seenDb);
  const live = new Live();
  const metrics = new Metrics();
  const stage = new StoreStage(store, live, metrics);
  if (records) {
    for (let s = 0; s < 600; s += 100) {
      stage.handle(
        Array.from({ length: 100 }, (_, i) => deliveredPair({ at: T0 + (s + i) * SECOND, rate: s + i, power: 700 }, s + i + 1)).flat(),
      );
    }
    stage.handle([deliveredRecord(recordWith({ router: 'r2', at: T0, latency: null }), 601)]);
  }
  const ready = { ready: true, reasons: [] as string[] };
  const faults: string[] = [];
  const api = await startApi({
    loaded,
    store,
    live,
    ledger: () => seen.agents(),
    metrics,
    readiness: () => ready,
    onFault: (message) => faults.push(message),
    nowMicros: () => NOW,
    heartbeatMs,
  });
  onTestFinished(async () => {
    await api.close();
    live.close();
    store.close();
    seenDb.close();
  });
  return { url: api.url, store, live, stage, seen, ready, faults };
}

interface Operation {
  operationId: string;
  description?: string;
  summary: string;
  parameters?: Array<{ name: string; in: string; required: boolean; description: string }>;
  responses: { [status: string]: { content?: { [type: string]: { schema: object } } } };
}

interface Document {
  openapi: string;
  paths: { [path: string]: { get: Operation } };
}

async function documentOf(url: string): Promise<Document> {
  return (await (await fetch(`${url}/api/v1/openapi.json`)).json()) as Document;
}

/** Fetches, and holds the answer against the OpenAPI document: status, media type and body must be as it says. */
async function ask<T>(url: string, path: string, init: RequestInit = {}): Promise<{ status: number; body: T; headers: Headers }> {
  const { paths } = await documentOf(url);
  const name = path.split('?')[0] ?? '';
  const known = Object.keys(paths).find((template) => new RegExp(`^${template.replace(/\{\w+\}/g, '[^/]+')}$`).test(name));
  expect(known, `${name} is in the document`).toBeDefined();
  const response = await fetch(url + path, init);
  const documented = paths[known ?? '']?.get.responses[response.status];
  expect(documented, `${name} documents status ${response.status}`).toBeDefined();
  const type = response.headers.get('content-type')?.split(';')[0] ?? '';
  const schema = documented?.content?.[type]?.schema;
  expect(schema, `${name} documents ${type}`).toBeDefined();
  const text = await response.text();
  const body: unknown = type.includes('json') ? JSON.parse(text) : text;
  const [valid, errors] = Schema.Errors(schema ?? false, body);
  expect(valid, `${path}: ${JSON.stringify(errors.slice(0, 3))}`).toBe(true);
  return { status: response.status, body: body as T, headers: response.headers };
}

interface Problem {
  status: number;
  detail: string;
  parameter?: string;
}

interface SeriesAnswer {
  unit: string;
  from: number;
  to: number;
  step: number;
  points: Array<{ at: number; average: number; min: number; max: number; count: number }>;
}

interface RecordsAnswer {
  records: Array<{ at: number; agent: string; seq: number; cursor: string; record: unknown }>;
  before: string | null;
  after: string | null;
}

describe('the OpenAPI document', () => {
  it('is 3.1 and describes every route, its parameters and its answers', async () => {
    const { url } = await serve({ records: false });
    const document = await documentOf(url);
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths).sort()).toEqual([
      '/api/v1/ledger',
      '/api/v1/records',
      '/api/v1/routers',
      '/api/v1/routers/{router}',
      '/api/v1/routers/{router}/series',
      '/api/v1/stream',
      '/healthz',
      '/metrics',
      '/readyz',
    ]);
    const operations = Object.values(document.paths).map(({ get }) => get);
    expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
    for (const { operationId, summary, responses, parameters = [] } of operations) {
      expect(summary, operationId).toBeTruthy();
      for (const { content } of Object.values(responses)) expect(Object.keys(content ?? {}), operationId).toHaveLength(1);
      for (const parameter of parameters) expect(parameter.description, `${operationId} ${parameter.name}`).toBeTruthy();
    }
  });

  it('lists exactly the parameters that are taken', async () => {
    const { url } = await serve();
    for (const [path, { get }] of Object.entries((await documentOf(url)).paths)) {
      if (!path.startsWith('/api/') || path.endsWith('/stream')) continue;
      const { body } = await ask<Problem>(url, `${path.replace('{router}', 'r1')}?nonsense=1`);
      const query = (get.parameters ?? []).filter((parameter) => parameter.in === 'query').map(({ name }) => name);
      expect(body.detail).toBe(
        `there is no parameter "nonsense": ${query.length === 0 ? 'there are no parameters here' : `the parameters here are ${query.join(', ')}`}`,
      );
    }
  });
});

describe('routers', () => {
  it('lists them with their latest figures and each stage’s last record', async () => {
    const { url } = await serve();
    const { body } = await ask<{ routers: unknown[] }>(url, '/api/v1/routers');
    expect(body.routers).toMatchObject([
      {
        router: 'r1',
        latest: { at: T0 / SECOND + 599, rate: 599, power: 700, latency_ms: 8 },
        processed: { power: null },
        inferred: { latency: { collected_ms: 1, inferred_ms: 8 } },
      },
      { router: 'r2', latest: { at: T0 / SECOND, power: null, latency_ms: null }, inferred: null },
    ]);
  });

  it('tells of one, and how long its stages took', async () => {
    const { url } = await serve();
    const { body } = await ask<{ latencies: unknown }>(url, '/api/v1/routers/r1');
    expect(body).toMatchObject({
      router: 'r1',
      oldest_at: T0 / SECOND,
      latencies: {
        window_s: 900,
        collected: { count: 600, p50_ms: 1, p99_ms: 1 },
        processed: { p50_ms: 2 },
        inferred: { count: 600, p50_ms: 8, p99_ms: 8 },
      },
    });
    expect((await ask<{ latencies: unknown }>(url, '/api/v1/routers/r2')).body.latencies).toEqual({
      window_s: 900,
      collected: null,
      processed: null,
      inferred: null,
    });
  });

  it('tells what one is made of, once its agent has said so', async () => {
    const { url, stage } = await serve();
    const asked = async () => (await ask<{ inventory: unknown }>(url, '/api/v1/routers/r1')).body.inventory;
    expect(await asked()).toBeNull();
    const inventory = inventoryWith({});
    stage.handle([delivered('ndt.inventory', JSON.stringify(inventory), { [HEADER.agent]: 'a1', [HEADER.seq]: '9998' })]);
    const { type: _, router: __, collected_at, ...shown } = inventory;
    expect(await asked()).toEqual({ at: Number(collected_at), ...shown });
  });

  it('leaves records that waited out an outage out of the latencies', async () => {
    const { url, stage } = await serve();
    stage.handle(
      deliveredPair({ at: T0 + 599.5 * SECOND, power: 700, latency: { collected: 1, processed: 2, inferred: 60_000 } }, 9999, {
        replayed: true,
      }),
    );
    const { body } = await ask<{ latencies: { inferred: unknown } }>(url, '/api/v1/routers/r1');
    expect(body.latencies.inferred).toEqual({ count: 600, p50_ms: 8, p99_ms: 8 });
  });

  it('does not know a router that never reported', async () => {
    const { url } = await serve();
    for (const path of [
      '/api/v1/routers/r9',
      '/api/v1/routers/r9/series?metric=rate',
      '/api/v1/records?router=r9',
      '/api/v1/routers/%00',
    ]) {
      expect(await ask<Problem>(url, path)).toMatchObject({
        status: 404,
        body: { parameter: 'router', detail: expect.stringContaining('GET /api/v1/routers lists') },
      });
    }
  });
});

describe('series', () => {
  it('takes Unix seconds, fractions and ISO 8601, and includes from but not to', async () => {
    const { url } = await serve();
    const from = T0 / SECOND;
    const iso = (seconds: number) => new Date((from + seconds) * 1000).toISOString();
    const paths = [`from=${from + 10}&to=${from + 20}`, `from=${from + 9.5}&to=${from + 19.5}`, `from=${iso(10)}&to=${iso(20)}`].map(
      (range) => `/api/v1/routers/r1/series?metric=rate&step=5s&${range}`,
    );
    for (const path of paths) {
      const { body } = await ask<SeriesAnswer>(url, path);
      expect(body.points).toEqual([
        { at: from + 10, average: 12, min: 10, max: 14, count: 5 },
        { at: from + 15, average: 17, min: 15, max: 19, count: 5 },
      ]);
      expect(body).toMatchObject({ unit: 'packets/s', step: 5 });
    }
  });

  it('without a range and a step is the last 15 minutes in at most 300 points', async () => {
    const { url } = await serve();
    const { body } = await ask<SeriesAnswer>(url, '/api/v1/routers/r1/series?metric=occupation');
    expect(body).toMatchObject({ from: NOW / SECOND - 900, to: NOW / SECOND, step: 3 });
    expect(body.points).toHaveLength(200);
  });

  it('takes the names of the records as well', async () => {
    const { url } = await serve();
    const { body } = await ask<SeriesAnswer>(url, '/api/v1/routers/r1/series?metric=node_network_power_consumption_wats');
    expect(body).toMatchObject({ metric: 'power', unit: 'W', name: 'node_network_power_consumption_wats' });
    expect(body.points[0]?.average).toBe(700);
  });

  it('chooses steps that people count in', () => {
    expect([60, 300, 900, 3600, 86_400, 30 * 86_400, 900 * 86_400].map((range) => defaultStep(range * SECOND) / SECOND)).toEqual([
      1,
      1,
      3,
      15,
      300,
      14_400,
      3 * 86_400,
    ]);
  });
});

describe('records', () => {
  it('gives them as they came, newest first', async () => {
    const { url } = await serve();
    const { body } = await ask<RecordsAnswer>(url, '/api/v1/records?router=r1&limit=2');
    expect(body.records.map(({ seq, agent }) => `${agent} ${seq}`)).toEqual(['a1 600', 'a1 599']);
    expect(body.records[0]?.record).toEqual(JSON.parse(printRecord(recordWith({ at: T0 + 599 * SECOND, rate: 599, power: 700 }))));
  });

  it('can be walked from the oldest to the newest, and back', async () => {
    const { url } = await serve();
    const walk = async (direction: 'after' | 'before') => {
      const seqs: number[] = [];
      let cursor: string | null = direction === 'after' ? '0-0' : '';
      while (cursor !== null) {
        const { body }: { body: RecordsAnswer } = await ask<RecordsAnswer>(
          url,
          `/api/v1/records?router=r1&stage=processed&limit=250${cursor === '' ? '' : `&${direction}=${cursor}`}`,
        );
        seqs.push(...body.records.map(({ seq }) => seq));
        cursor = body[direction];
      }
      return seqs;
    };
    const all = Array.from({ length: 600 }, (_, i) => i + 1);
    expect(await walk('after')).toEqual(all);
    expect(await walk('before')).toEqual(all.reverse());
  });

  it('can be walked where all of a page are of one time', async () => {
    const { url, stage } = await serve({ records: false });
    stage.handle(['a1', 'a2', 'a3', 'a4', 'a5'].map((agent, i) => deliveredRecord(recordWith({ at: T0 }), i + 1, { agent })));
    const walk = async (direction: 'after' | 'before', from: string) => {
      const seqs: number[][] = [];
      for (let cursor: string | null = from; cursor !== null && seqs.length < 5; ) {
        const path: string = `/api/v1/records?router=r1&stage=processed&limit=2&${direction}=${cursor}`;
        const { body }: { body: RecordsAnswer } = await ask<RecordsAnswer>(url, path);
        seqs.push(body.records.map(({ seq }) => seq));
        cursor = body[direction];
      }
      return seqs;
    };
    expect(await walk('after', '0-0')).toEqual([[1, 2], [3, 4], [5], []]);
    expect(await walk('before', `${NOW}-0`)).toEqual([[5, 4], [3, 2], [1], []]);
  });

  it('points a single record’s cursors both ways, and has none of nothing', async () => {
    const { url } = await serve();
    const from = T0 / SECOND;
    const { body } = await ask<RecordsAnswer>(url, `/api/v1/records?router=r1&from=${from + 5}&to=${from + 6}`);
    expect(body.records.map(({ seq }) => seq)).toEqual([6]);
    expect([body.before, body.after]).toEqual([body.records[0]?.cursor, body.records[0]?.cursor]);
    expect((await ask<RecordsAnswer>(url, '/api/v1/records?router=r2&stage=inferred')).body).toMatchObject({
      records: [],
      before: null,
      after: null,
    });
  });
});

describe('ledger', () => {
  it('puts the agent’s account beside what arrived', async () => {
    const { url, seen, stage } = await serve({ records: false });
    for (const seq of [1001, 1002, 1005, 1006, 1006]) seen.add('a1', seq);
    const notice = (value: object) => delivered('ndt.notices', JSON.stringify(value));
    stage.handle([
      notice({
        type: 'ledger',
        agent: 'a1',
        boot: 'b1',
        first: 1001,
        last: 1006,
        produced: 6,
        delivered: 5,
        pending: 0,
        dropped: { age: 1 },
        rejected: {},
        at: 1_745_233_620_500,
      }),
      notice({ type: 'gap', agent: 'a1', from: 1003, to: 1003, count: 1, reason: 'age', at: 1_745_233_620_000 }),
    ]);
    const { body } = await ask<{ agents: unknown[] }>(url, '/api/v1/ledger');
    expect(body.agents).toEqual([
      {
        agent: 'a1',
        state: 'missing',
        difference: 1,
        ledger: {
          at: 1_745_233_620.5,
          boot: 'b1',
          first: 1001,
          last: 1006,
          produced: 6,
          delivered: 5,
          pending: 0,
          dropped: { age: 1 },
          rejected: {},
        },
        received: { records: 4, duplicates: 1, highest: 1006 },
        missing: { count: 2, ranges: [{ from: 1003, to: 1004 }] },
        unexplained: { count: 1, ranges: [{ from: 1004, to: 1004 }] },
        gaps: [{ from: 1003, to: 1003, count: 1, reason: 'age', at: 1_745_233_620 }],
      },
    ]);
  });

  it('is empty before any agent came, and has no difference before a ledger did', async () => {
    const { url, seen } = await serve({ records: false });
    expect((await ask<{ agents: unknown[] }>(url, '/api/v1/ledger')).body).toEqual({ agents: [] });
    seen.add('a1', 1001);
    expect((await ask<{ agents: unknown[] }>(url, '/api/v1/ledger')).body.agents).toMatchObject([
      { state: 'unknown', difference: null, ledger: null, missing: { count: 0 } },
    ]);
  });
});

describe('the stream', () => {
  it('tells the latest at once, every change, and that it is still there', async () => {
    const { url, stage } = await serve({ heartbeatMs: 50 });
    const { paths } = await documentOf(url);
    const schema = paths['/api/v1/stream']?.get.responses['200']?.content?.['text/event-stream']?.schema ?? false;
    const ending = new AbortController();
    const response = await fetch(`${url}/api/v1/stream`, { signal: ending.signal });
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    let text = '';
    const reading = (async () => {
      for await (const chunk of response.body ?? []) text += Buffer.from(chunk).toString();
    })().catch(() => {});
    const events = () => [...text.matchAll(/^event: figures\ndata: (.*)$/gm)].map((match) => JSON.parse(match[1] ?? '') as LatestFigures);
    await until(() => events().length === 2 && text.includes('\n: still here\n'), 'both routers and a heartbeat');
    stage.handle(deliveredPair({ at: T0 + 601 * SECOND, rate: 4711, power: 701 }, 9000));
    await until(() => events().some(({ rate, power }) => rate === 4711 && power === 701), 'the change');
    for (const event of events()) expect(Schema.Check(schema, event)).toBe(true);
    ending.abort();
    await reading;
  });

  it('lets go of readers that leave', async () => {
    const { url, live } = await serve();
    const ending = new AbortController();
    await fetch(`${url}/api/v1/stream`, { signal: ending.signal });
    await until(() => live.watchers === 1, 'the reader to come');
    ending.abort();
    await until(() => live.watchers === 0, 'the reader to be gone');
  });
});

describe('health and metrics', () => {
  it('tells health, readiness with its reasons, and the metrics', async () => {
    const { url, ready } = await serve();
    expect((await ask(url, '/healthz')).body).toBe('ok\n');
    expect((await ask(url, '/readyz')).body).toEqual({ ready: true, reasons: [] });
    ready.ready = false;
    ready.reasons.push('the broker does not listen yet');
    expect(await ask(url, '/readyz')).toMatchObject({ status: 503, body: { ready: false, reasons: ['the broker does not listen yet'] } });
    const { body, headers } = await ask<string>(url, '/metrics');
    expect(headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(body).toContain('ndt_stored_total{stage="processed"} 601');
  });
});

describe('wrong requests', () => {
  it.each([
    ['/api/v1/routers/r1/series', 'metric', 'metric is missing: expected one of rate, length, occupation, power'],
    ['/api/v1/routers/r1/series?metric=speed', 'metric', 'got "speed"'],
    ['/api/v1/routers/r1/series?metric=rate&metric=power', 'metric', 'metric is given more than once'],
    ['/api/v1/routers/r1/series?metric=rate&from=yesterday', 'from', 'expected Unix seconds (1745233635.21) or ISO 8601 with its zone'],
    ['/api/v1/routers/r1/series?metric=rate&to=2025-04-21T11:07:15', 'to', 'ISO 8601 with its zone'],
    ['/api/v1/routers/r1/series?metric=rate&from=20&to=10', 'to', 'expected a time after from'],
    ['/api/v1/routers/r1/series?metric=rate&step=often', 'step', 'expected seconds, or a duration such as 10s'],
    ['/api/v1/routers/r1/series?metric=rate&step=0', 'step', 'got "0"'],
    [
      '/api/v1/routers/r1/series?metric=rate&from=0&to=100000&step=1',
      'step',
      'would give 100000 points, more than 5000: expected 21 s or more',
    ],
    ['/api/v1/records', 'router', 'router is missing'],
    ['/api/v1/records?router=r1&stage=raw', 'stage', 'expected processed or inferred, got "raw"'],
    ['/api/v1/records?router=r1&limit=0', 'limit', 'expected a whole number from 1 to 1000, got "0"'],
    ['/api/v1/records?router=r1&limit=ten', 'limit', 'got "ten"'],
    ['/api/v1/records?router=r1&before=here', 'before', 'expected a cursor'],
    ['/api/v1/records?router=r1&form=3', 'form', 'the parameters here are router, stage, limit, from, to, before, after'],
  ])('%s names %s and says what was expected', async (path, parameter, detail) => {
    const { url } = await serve();
    const { status, body, headers } = await ask<Problem>(url, path);
    expect(status).toBe(400);
    expect(headers.get('content-type')).toContain('application/problem+json');
    expect(body).toMatchObject({ status: 400, parameter, detail: expect.stringContaining(detail) });
  });

  it('answers 404, 405 and HEAD as HTTP has it', async () => {
    const { url } = await serve();
    const at = async (path: string, method = 'GET') => {
      const response = await fetch(url + path, { method });
      return {
        status: response.status,
        allow: response.headers.get('allow'),
        text: await response.text(),
        type: response.headers.get('content-type'),
      };
    };
    expect(await at('/api/v1/nothing')).toMatchObject({
      status: 404,
      type: expect.stringContaining('problem+json'),
      text: expect.stringContaining('/api/v1/openapi.json'),
    });
    expect(await at('/api/v1/routers/r1/nothing')).toMatchObject({ status: 404 });
    for (const method of ['POST', 'PUT', 'DELETE'])
      expect(await at('/api/v1/routers/r1', method)).toMatchObject({ status: 405, allow: 'GET, HEAD' });
    expect(await at('/', 'POST')).toMatchObject({ status: 405 });
    for (const path of ['/', '/page.js', '/api/v1/routers', '/api/v1/routers/r1', '/api/v1/ledger', '/healthz', '/metrics'])
      expect(await at(path, 'HEAD')).toMatchObject({ status: 200, text: '' });
    expect(await at('/api/v1/stream', 'HEAD')).toMatchObject({ status: 200, text: '', type: 'text/event-stream; charset=utf-8' });
    expect(await at('/api/v1/routers/r9', 'HEAD')).toMatchObject({ status: 404, text: '' });
  });

  it('keeps our own faults out of the answer and tells the log', async () => {
    const { url, store, faults } = await serve();
    store.close();
    const response = await fetch(`${url}/api/v1/routers`);
    expect(response.status).toBe(500);
    expect(await response.json()).toMatchObject({ status: 500, detail: 'this request failed; the aggregator’s log says why' });
    expect(faults).toEqual([expect.stringMatching(/^GET \/api\/v1\/routers: .*not open/)]);
  });

  it('says what to do when the port is taken', async () => {
    const port = await listening(createServer());
    const error = await serve({ env: { NDT_AGGREGATOR_HTTP_PORT: String(port) } }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(NdtError);
    expect(error).toMatchObject({
      code: 'CANNOT_CREATE',
      message: `port ${port} on 127.0.0.1 is in use: stop the program that has it, or set aggregator.http.port (NDT_AGGREGATOR_HTTP_PORT) to another`,
    });
  });
});

describe('times', () => {
  it.each([
    ['1745233635', 1_745_233_635_000_000],
    ['1745233635.2172275', 1_745_233_635_217_228],
    ['2025-04-21T11:07:15Z', 1_745_233_635_000_000],
    ['2025-04-21T13:07:15.217227+02:00', 1_745_233_635_217_227],
    ['2025-04-21T13:07:15 02:00', 1_745_233_635_000_000],
    ['2025-04-21', 1_745_193_600_000_000],
    ['2024-02-29', 1_709_164_800_000_000],
  ])('reads %s', (text, micros) => {
    expect(parseTime(text)).toBe(micros);
  });

  it.each([
    '',
    'now',
    '-5',
    '1e9',
    '2025-04-21T11:07:15',
    '2025-13-01',
    '2025-02-30',
    '2025-02-29T10:00:00Z',
    '2025-04-31T10:00:00+02:00',
    '17452336350000000',
  ])('does not read "%s"', (text) => {
    expect(parseTime(text)).toBeUndefined();
  });
});

describe('with a token', () => {
  const TOKEN = 'correct horse';
  const secured = () => serve({ env: { NDT_AGGREGATOR_HTTP_TOKEN: TOKEN } });
  const bearer = { headers: { authorization: `Bearer ${TOKEN}` } };

  it('lets nobody in without it, but answers for its health', async () => {
    const { url } = await secured();
    for (const path of [
      '/',
      '/page.js',
      '/metrics',
      '/api/v1/routers',
      '/api/v1/stream',
      '/api/v1/openapi.json',
      '/nothing',
      '/healthz/x',
      '/?token=wrong',
      '/api/v1/routers?token=correct%20horse',
    ]) {
      const response = await fetch(url + path, { redirect: 'manual' });
      expect(response.status, path).toBe(401);
      expect(response.headers.get('www-authenticate'), path).toBe('Bearer realm="ndt"');
      expect(response.headers.get('set-cookie'), path).toBeNull();
      expect(await response.json()).toMatchObject({ status: 401, detail: expect.stringContaining('Authorization: Bearer TOKEN') });
    }
    expect((await fetch(`${url}/api/v1/routers`, { headers: { authorization: 'Bearer wrong horse' } })).status).toBe(401);
    for (const path of ['/healthz', '/readyz', '/page.css', '/favicon.svg']) expect((await fetch(url + path)).status).toBe(200);
    expect((await fetch(`${url}/api/v1/routers`, bearer)).status).toBe(200);
  });

  it('gives the page a cookie for it, once, and takes it out of the address', async () => {
    const { url } = await secured();
    const response = await fetch(`${url}/?token=${encodeURIComponent(TOKEN)}`, { redirect: 'manual' });
    expect([response.status, response.headers.get('location')]).toEqual([303, '/']);
    const cookie = response.headers.get('set-cookie') ?? '';
    expect(cookie).toMatch(/^ndt_session=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict/);
    expect(cookie).not.toContain('horse');
    const session = { headers: { cookie: `other=1; ${cookie.split(';')[0]}` } };
    for (const path of ['/', '/page.js', '/api/v1/routers', '/metrics']) expect((await fetch(url + path, session)).status, path).toBe(200);
    expect((await fetch(`${url}/`, { headers: { cookie: 'ndt_session=wrong' } })).status).toBe(401);
  });

  it('asks a person for it', async () => {
    const { url } = await secured();
    const response = await fetch(url, { headers: { accept: 'text/html' } });
    expect(response.status).toBe(401);
    expect(response.headers.get('content-type')).toContain('text/html');
    expect(await response.text()).toMatch(/<form [^>]*action="\/" method="get">/);
    expect(await (await fetch(`${url}/?token=wrong`, { headers: { accept: 'text/html' } })).text()).toContain('That is not the token.');
  });
});

describe('the page’s files', () => {
  it.each([
    ['/', 'text/html; charset=utf-8'],
    ['/page.js', 'text/javascript; charset=utf-8'],
    ['/page.css', 'text/css; charset=utf-8'],
    ['/uplot.js', 'text/javascript; charset=utf-8'],
    ['/uplot.css', 'text/css; charset=utf-8'],
    ['/favicon.svg', 'image/svg+xml'],
  ])('%s is %s, cached by its content', async (path, type) => {
    const { url } = await serve({ records: false });
    const response = await fetch(url + path);
    expect([response.status, response.headers.get('content-type'), response.headers.get('cache-control')]).toEqual([200, type, 'no-cache']);
    const policy = response.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self'");
    expect(policy).not.toContain('unsafe');
    const etag = response.headers.get('etag') ?? '';
    expect((await fetch(url + path, { headers: { 'if-none-match': `"x", W/${etag}` } })).status).toBe(304);
    expect((await fetch(url + path, { headers: { 'if-none-match': '"x"' } })).status).toBe(200);
  });

  it('carries no script and no style in its text', async () => {
    const { url } = await serve({ records: false });
    const html = await (await fetch(url)).text();
    expect(html).not.toMatch(/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/);
  });
});
