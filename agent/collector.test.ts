import { writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type Loaded, loadConfig } from '../common/config.ts';
import { NdtError } from '../common/errors.ts';
import { parseRecord } from '../common/record.ts';
import { hasNodeExporter, startNodeExporter } from '../test/real/node-exporter.ts';
import { listening, serve } from '../test/serve.ts';
import { tempDir } from '../test/tempdir.ts';
import { collectRouter, collectUrl } from './collector.ts';
import type { Source } from './source.ts';
import { createSource } from './sources.ts';

const PAGE = `# HELP node_load1 1m load average.
# TYPE node_load1 gauge
node_load1 0.25
# HELP node_network_receive_bytes_total Network device statistic receive_bytes.
# TYPE node_network_receive_bytes_total counter
node_network_receive_bytes_total{device="eth0"} 4.95750746e+08
node_network_receive_bytes_total{device="lo"} 182824
`;

/** A configuration with these routers, and their sources. */
function agentWith(routers: { [name: string]: object }, more: object = {}): { loaded: Loaded; sources: Map<string, Source> } {
  const file = join(tempDir(), 'ndt.json');
  writeFileSync(file, JSON.stringify({ experiment_id: '7', ...more, routers: [routers] }));
  const loaded = loadConfig(file, {});
  const sources = new Map(loaded.routers.map((router) => [router.name, createSource(router, loaded)]));
  onTestFinished(() => {
    for (const source of sources.values()) source.close();
  });
  return { loaded, sources };
}

const exporter = async (listener: RequestListener = (_, response) => response.end(PAGE)) => (await serve(listener)).url;

describe('GET /metrics/{host}_{port}.json', () => {
  test('is the whole exposition as a raw record', async () => {
    const { loaded, sources } = agentWith({ r1: { url: await exporter() } });
    const before = Date.now() / 1000;
    const reply = await collectRouter('/metrics/r1_9100.json', loaded, sources);
    expect(reply).toMatchObject({ status: 200, type: 'application/json; charset=utf-8' });
    const record = parseRecord(reply?.body ?? '', 'raw');
    expect(record).toMatchObject({
      node_exporter: 'r1:9100',
      experiment_id: '7',
      interfaces: ['eth0'],
      flag_debug_params: true,
      debug_params: { unit: 'bytes', test_metrics: false, polling_interval: 5 },
    });
    expect(Object.keys(record)).toEqual([
      'node_exporter',
      'epoch_timestamp',
      'experiment_id',
      'interfaces',
      'flag_debug_params',
      'debug_params',
      'metrics',
    ]);
    expect(Math.abs(Number(record.epoch_timestamp) - before)).toBeLessThan(5);
    expect(record.metrics).toEqual([
      { name: 'node_load1', description: '1m load average.', type: 'gauge', values: [{ labels: [], value: '0.25' }] },
      {
        name: 'node_network_receive_bytes_total',
        description: 'Network device statistic receive_bytes.',
        type: 'counter',
        values: [
          { labels: [{ name: 'device', value: 'eth0' }], value: '4.95750746e+08' },
          { labels: [{ name: 'device', value: 'lo' }], value: '182824' },
        ],
      },
    ]);
  });

  test('without flag_debug_params there are none', async () => {
    const { loaded, sources } = agentWith({ r1: { url: await exporter() } }, { flag_debug_params: false });
    const body = (await collectRouter('/metrics/r1_9100.json', loaded, sources))?.body ?? '';
    expect(JSON.parse(body)).not.toHaveProperty('debug_params');
  });

  test('every kind of source answers, and a collector source reads what an agent answers', async () => {
    const first = agentWith({ r1: { url: await exporter() } });
    const answering = createServer((request, response) => {
      void collectRouter(request.url ?? '', first.loaded, first.sources).then((reply) =>
        response.writeHead(reply?.status ?? 404).end(reply?.body),
      );
    });
    const port = await listening(answering);
    onTestFinished(() => answering.closeAllConnections());
    const second = agentWith({ r1: { collector_url: `http://127.0.0.1:${port}/metrics/r1_9100.json` } });
    const own = JSON.parse((await collectRouter('/metrics/r1_9100.json', first.loaded, first.sources))?.body ?? '') as { metrics: unknown };
    const relayed = JSON.parse((await collectRouter('/metrics/r1_9100.json', second.loaded, second.sources))?.body ?? '') as {
      metrics: unknown;
    };
    expect(relayed.metrics).toEqual(own.metrics);
  });

  test('only configured routers, by the host:port of their records', async () => {
    const url = await exporter();
    const { loaded, sources } = agentWith({ r1: { url }, r_2: { url }, r3: { url, node_exporter: 'my_host.lan_x:19100' } });
    const status = async (path: string) => (await collectRouter(path, loaded, sources))?.status;
    expect(await status('/metrics/r1_9100.json')).toBe(200);
    expect(await status('/metrics/r_2_9100.json')).toBe(200);
    expect(await status('/metrics/my_host.lan_x_19100.json')).toBe(200);
    expect(await status('/metrics/my%5Fhost.lan_x_19100.json')).toBe(200);
    for (const path of [
      'r3_9100.json',
      'r1_9101.json',
      'r1_9100',
      'r1_9100.json/',
      '',
      'r1:9100.json',
      '%E0%A4%A',
      '__proto__.json',
      '../metrics/r1_9100.json',
    ]) {
      expect(await status(`/metrics/${path}`), path).toBeUndefined();
    }
  });

  test('many who ask at once are one request to the router', async () => {
    let requests = 0;
    const url = await exporter((_, response) => {
      requests += 1;
      setTimeout(() => response.end(PAGE), 50);
    });
    const { loaded, sources } = agentWith({ r1: { url } });
    const ask = () => collectRouter('/metrics/r1_9100.json', loaded, sources);
    const replies = await Promise.all(Array.from({ length: 20 }, ask));
    expect(new Set(replies.map((reply) => reply?.body)).size).toBe(1);
    expect(requests).toBe(1);
    await ask();
    expect(requests).toBe(2);
  });

  test('a router that does not answer is the fault of nobody here: 502, and 504 when it is slow', async () => {
    const broken = await exporter((_, response) => response.writeHead(500).end('boom'));
    const slow = await exporter(() => {});
    const { loaded, sources } = agentWith({ r1: { url: broken }, r2: { url: slow } }, { agent: { timeout: 0.1 } });
    expect(await collectRouter('/metrics/r1_9100.json', loaded, sources)).toMatchObject({
      status: 502,
      body: expect.stringMatching(/^r1: .* answers 500 /),
    });
    expect(await collectRouter('/metrics/r2_9100.json', loaded, sources)).toMatchObject({
      status: 504,
      body: expect.stringMatching(/^r2: no answer from /),
    });
    expect(await collectRouter('/metrics/r1_9100.json', loaded, sources)).toMatchObject({ status: 502 });
  });
});

describe('collectUrl', () => {
  test('prints one exporter’s record, from an address as one types it', async () => {
    const asked: Array<string | undefined> = [];
    const url = await exporter((request, response) => {
      asked.push(request.url);
      response.end(PAGE);
    });
    const { host, port } = new URL(url);
    for (const address of [host, url, `${url}/metrics`, `${url}/other`, `${url}/?target=x`]) {
      const record = parseRecord(await collectUrl(address), 'raw');
      expect(record).toMatchObject({ node_exporter: `127.0.0.1:${port}`, interfaces: ['eth0'] });
      expect(record.metrics).toHaveLength(2);
    }
    expect(asked).toEqual(['/metrics', '/metrics', '/metrics', '/other', '/?target=x']);
  });

  async function failure(address: string): Promise<NdtError> {
    const error: unknown = await collectUrl(address).catch((reason: unknown) => reason);
    if (error instanceof NdtError) return error;
    throw new Error(`expected an NdtError, got ${String(error)}`);
  }

  test.each(['', 'http://', 'ftp://r1/metrics', 'http://r 1', 'r1:port'])('%j is no address', async (address) => {
    expect(await failure(address)).toMatchObject({
      code: 'USAGE',
      message: `collect: "${address}" is not the address of an exporter: write it as http://r1:9100/metrics`,
    });
  });

  test.each([
    ['http://edge:100%safe@r1:9100', 'http://edge:***@r1:9100', 'in its login, % is written %25'],
    ['edge:100%safe@r1:9100', 'edge:***@r1:9100', 'in its login, % is written %25'],
    ['edge:half/safe@r1', 'edge:***@r1', 'write it as http://r1:9100/metrics; in its login, % is written %25'],
  ])('%s is none because of its login, whose password is not shown', async (address, shown, remedy) => {
    const { code, message } = await failure(address);
    expect(code).toBe('USAGE');
    expect(message).toContain(`collect: "${shown}" is not the address of an exporter: ${remedy}`);
  });

  test('an exporter that gives no metrics', async () => {
    const url = await exporter((_, response) => response.end('<html>'));
    expect(await failure(url)).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining('answers no metrics: line 1, column 1: '),
    });
  });

  test.skipIf(!hasNodeExporter)("a real exporter (needs Debian's prometheus-node-exporter)", async () => {
    const real = await startNodeExporter();
    onTestFinished(() => real.stop());
    const record = parseRecord(await collectUrl(real.url), 'raw');
    expect(record.node_exporter).toBe(`127.0.0.1:${real.port}`);
    expect(record.metrics?.find((family) => family.name === 'node_boot_time_seconds')).toMatchObject({ type: 'gauge' });
  });
});
