import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test } from 'vitest';
import { countersOf } from '../../common/rates.ts';
import { hasNodeExporter, type NodeExporter, startNodeExporter } from '../../test/real/node-exporter.ts';
import { routerWith, sourceOptionsWith } from '../../test/router.ts';
import { serve } from '../../test/serve.ts';
import { SourceError, type SourceOptions } from '../source.ts';
import { NodeExporterSource, withCollectors } from './node-exporter.ts';
import { parseNetDev } from './procfs.ts';

const signal = new AbortController().signal;

const PAGE = `# HELP node_load1 1m load average.
# TYPE node_load1 gauge
node_load1 0.25
# HELP node_disk_read_bytes_total The total number of bytes read successfully.
# TYPE node_disk_read_bytes_total counter
node_disk_read_bytes_total{device="eth0"} 1
node_disk_read_bytes_total{device="sda"} 2
# HELP node_network_receive_bytes_total Network device statistic receive_bytes.
# TYPE node_network_receive_bytes_total counter
node_network_receive_bytes_total{device="eth2"} 2.434326851e+09
node_network_receive_bytes_total{device="eth0"} 7
node_network_receive_bytes_total{device="lo"} 182824
# HELP node_network_receive_packets_total Network device statistic receive_packets.
# TYPE node_network_receive_packets_total counter
node_network_receive_packets_total{device="eth2"} 2.040682e+06
node_network_receive_packets_total{device="eth0"} 1
node_network_receive_packets_total{device="lo"} 135
`;

function sourceAt(url: string, settings: Parameters<typeof routerWith>[0] = {}, options: Partial<SourceOptions> = {}): NodeExporterSource {
  const source = new NodeExporterSource(routerWith({ url, ...settings }), sourceOptionsWith(options));
  onTestFinished(() => source.close());
  return source;
}

async function failure(source: NodeExporterSource): Promise<SourceError> {
  const error: unknown = await source.poll(signal).catch((reason: unknown) => reason);
  if (error instanceof SourceError) return error;
  throw new Error(`expected a SourceError, got ${String(error)}`);
}

/** An exporter of this test; `asked` has the query of each request. */
async function exporter(listener: (request: IncomingMessage, response: ServerResponse) => void): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  const { url } = await serve((request, response) => {
    asked.push(request.url?.replace('/metrics', '') ?? '');
    listener(request, response);
  });
  return { url: `${url}/metrics`, asked };
}

const FILTER = '?collect%5B%5D=netdev';

describe('withCollectors', () => {
  const of = (url: string, ...families: string[]) => withCollectors(new URL(url), families)?.href;
  const RX = 'node_network_receive_bytes_total';

  test.each([
    ['http://r1:9100/metrics', [RX], 'http://r1:9100/metrics?collect%5B%5D=netdev'],
    ['http://r1:9100/metrics', [RX, 'node_network_transmit_errs_total'], 'http://r1:9100/metrics?collect%5B%5D=netdev'],
    ['http://r1:9100/metrics', [RX, 'node_network_up'], 'http://r1:9100/metrics?collect%5B%5D=netdev&collect%5B%5D=netclass'],
    ['http://r1/probe?target=a%20b&x', [RX], 'http://r1/probe?target=a%20b&x&collect%5B%5D=netdev'],
    ['http://r1/metrics?', [RX], 'http://r1/metrics?collect%5B%5D=netdev'],
  ])('%s for %j', (url, families, expected) => {
    expect(of(url, ...families)).toBe(expected);
  });

  test('not where other collectors are needed, or the address names them', () => {
    expect(of('http://r1:9100/metrics', RX, 'node_load1')).toBeUndefined();
    expect(of('http://r1:9100/metrics')).toBeUndefined();
    expect(of('http://r1:9100/metrics?collect[]=cpu', RX)).toBeUndefined();
    expect(of('http://r1:9100/metrics?a=1&exclude%5B%5D=cpu', RX)).toBeUndefined();
  });
});

describe('a poll', () => {
  test('gives the wanted families with the monitored interfaces, values as exposed', async () => {
    const { url, asked } = await exporter((_, response) => response.end(PAGE));
    const source = sourceAt(url, { interfaces: ['eth*', 'wan0'] });
    const sample = await source.poll(signal);
    expect(sample.families).toEqual([
      {
        name: 'node_network_receive_bytes_total',
        description: 'Network device statistic receive_bytes.',
        type: 'counter',
        values: [
          { labels: [{ name: 'device', value: 'eth2' }], value: '2.434326851e+09' },
          { labels: [{ name: 'device', value: 'eth0' }], value: '7' },
        ],
      },
      {
        name: 'node_network_receive_packets_total',
        description: 'Network device statistic receive_packets.',
        type: 'counter',
        values: [
          { labels: [{ name: 'device', value: 'eth2' }], value: '2.040682e+06' },
          { labels: [{ name: 'device', value: 'eth0' }], value: '1' },
        ],
      },
    ]);
    expect(sample).toMatchObject({ interfaces: ['eth2', 'eth0'], missing: ['wan0'], testMetrics: false, router: { name: 'r1' } });
    expect(asked).toEqual([FILTER]);
  });

  test('a collection gives everything, asked without the filter', async () => {
    const { url, asked } = await exporter((_, response) => response.end(PAGE));
    const { families, interfaces } = await sourceAt(url).collect(signal);
    expect(families.map((family) => [family.name, family.values.length])).toEqual([
      ['node_load1', 1],
      ['node_disk_read_bytes_total', 2],
      ['node_network_receive_bytes_total', 3],
      ['node_network_receive_packets_total', 3],
    ]);
    expect(interfaces).toEqual(['eth2', 'eth0']);
    expect(asked).toEqual(['']);
  });

  test('families that are not about interfaces are kept whole', async () => {
    const { url } = await exporter((_, response) => response.end(PAGE));
    const families = new Set(['node_load1', 'node_disk_read_bytes_total', 'node_network_receive_bytes_total']);
    const sample = await sourceAt(url, { interfaces: ['eth0'] }, { families }).poll(signal);
    expect(sample.interfaces).toEqual(['eth0']);
    expect(sample.families.map((family) => family.values.map((value) => value.value))).toEqual([['0.25'], ['1', '2'], ['7']]);
  });

  test('OpenMetrics gives the same, its counters named as in the text format and without exemplars', async () => {
    const page = `# TYPE node_network_receive_bytes counter
# HELP node_network_receive_bytes Network device statistic receive_bytes.
# UNIT node_network_receive_bytes bytes
node_network_receive_bytes_total{device="eth0"} 7 1745233635.2 # {trace_id="1"} 1
node_network_receive_bytes_created{device="eth0"} 1745233635.2
# TYPE node_network_receive_packets counter
node_network_receive_packets_total{device="eth0"} 1
# EOF
`;
    const { url } = await exporter((_, response) => response.setHeader('content-type', 'application/openmetrics-text').end(page));
    const { families, interfaces } = await sourceAt(url).poll(signal);
    expect(interfaces).toEqual(['eth0']);
    expect(families.map((family) => family.name)).toEqual(['node_network_receive_bytes_total', 'node_network_receive_packets_total']);
    expect(families[0]).toMatchObject({ description: 'Network device statistic receive_bytes.', type: 'counter' });
    expect(families[0]?.values[0]).toEqual({ labels: [{ name: 'device', value: 'eth0' }], value: '7' });
    expect(countersOf(families)).toEqual({ eth0: { bytes: '7', packets: '1' } });
  });
});

describe('the filter', () => {
  test.each([400, 404, 500])('an exporter that answers %i to it is asked without it, for an hour', async (status) => {
    const { url, asked } = await exporter((request, response) => {
      if (request.url?.includes('collect')) response.writeHead(status).end('unknown parameter');
      else response.end(PAGE);
    });
    let nowNs = 1n;
    const clock = { nowMicros: () => 0, monotonicNs: () => nowNs };
    const source = sourceAt(url, {}, { clock });
    for (let i = 0; i < 3; i += 1) expect((await source.poll(signal)).interfaces).toEqual(['eth2', 'eth0']);
    expect(asked).toEqual([FILTER, '', '', '']);
    nowNs += 3_600_000_000_000n;
    await source.poll(signal);
    expect(asked.slice(4)).toEqual([FILTER, '']);
  });

  test('one that has nothing under it, or a page of another kind, is asked without it', async () => {
    for (const answer of ['', '<html>', 'other_metric 1\n']) {
      const { url, asked } = await exporter((request, response) => response.end(request.url?.includes('collect') ? answer : PAGE));
      const source = sourceAt(url);
      for (let i = 0; i < 2; i += 1) expect((await source.poll(signal)).interfaces).toEqual(['eth2', 'eth0']);
      expect(asked).toEqual([FILTER, '', '']);
    }
  });

  test('an exporter that is down altogether is asked with it again', async () => {
    let down = true;
    const { url, asked } = await exporter((_, response) => (down ? response.writeHead(500).end() : response.end(PAGE)));
    const source = sourceAt(url);
    expect((await failure(source)).reason).toBe('status');
    down = false;
    await source.poll(signal);
    expect(asked).toEqual([FILTER, '', FILTER]);
  });

  test.each([401, 429, 503])('a refusal that has nothing to do with it (%i) is not asked twice', async (status) => {
    const { url, asked } = await exporter((_, response) => response.writeHead(status).end());
    expect(await failure(sourceAt(url))).toMatchObject({ reason: 'status', status });
    expect(asked).toEqual([FILTER]);
  });

  test('one time limit holds for both requests', async () => {
    const { url } = await exporter((request, response) => {
      if (request.url?.includes('collect')) setTimeout(() => response.writeHead(400).end(), 700);
    });
    const started = performance.now();
    expect((await failure(sourceAt(url, {}, { timeoutMs: 1400 }))).reason).toBe('timeout');
    expect(performance.now() - started).toBeLessThan(2090);
  });
});

describe('a bad page', () => {
  const failureOf = async (
    body: string | Buffer,
    settings: Parameters<typeof routerWith>[0] = {},
    head: { [name: string]: string } = {},
  ) => {
    const { url } = await exporter((_, response) => response.writeHead(200, head).end(body));
    const { reason, message } = await failure(sourceAt(url, settings));
    return { reason, message: message.replace(url, 'URL') };
  };

  test('HTML', async () => {
    const { reason, message } = await failureOf('<html><body><a href="/metrics">Metrics</a></body></html>');
    expect(reason).toBe('not_metrics');
    expect(message).toMatch(/^r1: URL answers no metrics: line 1, column 1: .*HTML.*\/metrics\?$/);
  });

  test('JSON', async () => {
    const { reason, message } = await failureOf('{"metrics": []}');
    expect(reason).toBe('not_metrics');
    expect(message).toMatch(/JSON/);
  });

  test('a broken line, with its place', async () => {
    const { reason, message } = await failureOf(PAGE.replace('"eth0"} 7', '"eth0"} seven'));
    expect(reason).toBe('not_metrics');
    expect(message).toMatch(/^r1: URL answers no metrics: line 11, column \d+: /);
  });

  test('no wanted family', async () => {
    const { reason, message } = await failureOf('node_load1 0.25\n');
    expect(reason).toBe('not_metrics');
    expect(message).toBe(
      'r1: URL has none of the families node_network_receive_bytes_total, node_network_receive_packets_total: is its netdev collector switched off, or "families" wrong?',
    );
  });

  test('no monitored interface', async () => {
    const { reason, message } = await failureOf(PAGE, { interfaces: ['eth7'] });
    expect(reason).toBe('no_interface');
    expect(message).toBe('r1: URL: there is no eth7; it has eth2, eth0, lo: set the router\'s "interfaces", or "exclude_interfaces"');
  });

  test('larger than allowed when unpacked', async () => {
    const { reason } = await failureOf(gzipSync(PAGE + '# x\n'.repeat(500_000)), {}, { 'content-encoding': 'gzip' });
    expect(reason).toBe('too_large');
  });

  test('cut short where the transfer cannot tell', async () => {
    const cut = PAGE.slice(0, PAGE.indexOf('26851e+09'));
    const { url } = await exporter((request, response) => {
      request.socket.end(`HTTP/1.0 200 OK\r\n\r\n${cut}`);
      response.detachSocket(request.socket);
    });
    const error = await failure(sourceAt(url));
    expect(error.reason).toBe('unreadable');
    expect(error.message).toContain('ends in the middle of a line');
  });

  test('an address that is none is a fault of the configuration', () => {
    expect(() => sourceAt('r1:9100/metrics')).toThrow('router r1: "url" ("r1:9100/metrics") is not an address');
    expect(() => new NodeExporterSource(routerWith(), sourceOptionsWith())).toThrow(
      'router r1: "url" ("") is not an address: write http://host:9100/metrics',
    );
    expect(() => sourceAt('http://edge:100%safe@r1:9100/metrics')).toThrow(
      'router r1: "url" ("http://edge:***@r1:9100/metrics") is not an address: in its login, % is written %25',
    );
  });
});

describe.skipIf(!hasNodeExporter)("node_exporter (needs Debian's prometheus-node-exporter)", () => {
  // Debian leaves lo out; it is the one interface that every machine has.
  const ARGS = ['--collector.netdev.device-exclude=^$'];

  async function started(): Promise<NodeExporter> {
    const exporter = await startNodeExporter({ args: ARGS });
    onTestFinished(() => exporter.stop());
    return exporter;
  }

  test('honours the filter: much less of it, and of its work', async () => {
    const { url } = await started();
    const size = async (query: string) => (await (await fetch(`${url}${query}`)).arrayBuffer()).byteLength;
    const [whole, encoded, literal] = [await size(''), await size(FILTER), await size('?collect[]=netdev')];
    expect(encoded).toBeLessThan(whole / 2);
    expect(Math.abs(literal - encoded)).toBeLessThan(100);
  });

  test('a poll agrees with /proc/net/dev', async () => {
    const { url } = await started();
    const counters = () => countersOf(parseNetDev(readFileSync('/proc/net/dev', 'utf8'))) ?? {};
    const source = sourceAt(url, { interfaces: ['lo', '*'] }, { excludeInterfaces: [] });
    for (let compared = 0; compared < 3; ) {
      const before = counters();
      const sample = await source.poll(signal);
      const after = counters();
      // One of another test has come or gone in between.
      if (Object.keys(before).join() !== Object.keys(after).join()) continue;
      compared += 1;
      expect(sample.interfaces.toSorted()).toEqual(Object.keys(after).toSorted());
      for (const [device, read] of Object.entries(countersOf(sample.families) ?? {})) {
        for (const counter of ['bytes', 'packets'] as const) {
          expect(BigInt(read[counter]), `${device} ${counter}`).toBeGreaterThanOrEqual(BigInt(before[device]?.[counter] ?? -1));
          expect(BigInt(read[counter]), `${device} ${counter}`).toBeLessThanOrEqual(BigInt(after[device]?.[counter] ?? -1));
        }
      }
    }
  });

  test('a collection has all that the exporter has', async () => {
    const { url } = await started();
    const { families, interfaces } = await sourceAt(url, { interfaces: ['lo'] }).collect(signal);
    const types = (await (await fetch(url)).text()).match(/^# TYPE \S+/gm) ?? [];
    expect(families.map((family) => family.name).toSorted()).toEqual(types.map((line) => line.slice('# TYPE '.length)).toSorted());
    expect(families.length).toBeGreaterThan(50);
    expect(interfaces).toEqual(['lo']);
  });

  test('the same families under the same names and descriptions as procfs', async () => {
    const { url } = await started();
    const { families } = await sourceAt(url).collect(signal);
    const byName = new Map(families.map((family) => [family.name, family]));
    for (const own of parseNetDev(readFileSync('/proc/net/dev', 'utf8'))) {
      expect(byName.get(own.name)).toMatchObject({ description: own.description, type: own.type });
    }
  });

  test('it goes away and comes back', async () => {
    const first = await started();
    const source = sourceAt(first.url, { interfaces: ['lo'] });
    await source.poll(signal);
    await first.stop();
    expect(await failure(source)).toMatchObject({
      reason: 'unreachable',
      message: expect.stringContaining('is the exporter running there?'),
    });
    const second = await startNodeExporter({ args: ARGS, port: first.port });
    onTestFinished(() => second.stop());
    expect((await source.poll(signal)).interfaces).toEqual(['lo']);
  });
});
