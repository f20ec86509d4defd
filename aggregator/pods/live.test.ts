/** Against Debian's real Prometheus, which scrapes the example's exporter. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { EmbeddedBus } from '../../common/bus-embedded.ts';
import { topicsOf } from '../../common/topics.ts';
import { PODS, startExporter } from '../../examples/pods/exporter.mjs';
import { KeptBus, makePublisher } from '../../test/pods.ts';
import { Running } from '../../test/programs.ts';
import { makeCertificates } from '../../test/real/certificates.ts';
import { hasPrometheus, NEEDS_PROMETHEUS, type PrometheusProcess, startPrometheus } from '../../test/real/prometheus.ts';
import { tempDir } from '../../test/tempdir.ts';
import { until } from '../../test/until.ts';
import { DEFAULT_METRICS } from './default-metrics.ts';
import { lossOf, type PodMessage } from './messages.ts';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));
const SCRAPE = (port: number) =>
  `global: {scrape_interval: 250ms}\nscrape_configs: [{job_name: cadvisor, static_configs: [{targets: ["127.0.0.1:${port}"]}]}]\n`;
const SHORT = { interval: 0.5, step: '500ms', window: '2s', delay: 1 };
const CONTAINERS = PODS.flatMap(({ containers }) => containers.map(([, id = '']) => id));
const SANDBOXES = PODS.map(({ sandbox }) => sandbox);

const bodyOf = ({ value }: { value: Buffer }) => JSON.parse(value.toString()) as PodMessage;

describe.skipIf(!hasPrometheus)(`with a real Prometheus${NEEDS_PROMETHEUS}`, () => {
  let exporter: Awaited<ReturnType<typeof startExporter>>;
  let prometheus: PrometheusProcess;

  /** What its own API says, by container and Unix ms; asked at each time by itself rather than over a range. */
  async function said(query: string, times: number[]): Promise<Map<string, Map<number, string>>> {
    const found = new Map<string, Map<number, string>>();
    for (const ms of times) {
      const response = await fetch(`${prometheus.url}/api/v1/query?${new URLSearchParams({ query, time: String(ms / 1000) })}`);
      const { data } = (await response.json()) as { data: { result: Array<{ metric: { id?: string }; value: [number, string] }> } };
      for (const { metric, value } of data.result) {
        const id = /-([0-9a-f]{64})\.scope$/.exec(metric.id ?? '')?.[1] ?? '';
        found.set(id, (found.get(id) ?? new Map()).set(ms, value[1]));
      }
    }
    return found;
  }

  beforeAll(async () => {
    exporter = await startExporter(0);
    prometheus = await startPrometheus({ config: SCRAPE(exporter.port) });
    // Of the first window that the first round will ask for.
    await until(async () => (await count('count_over_time(container_memory_rss[2s] offset 3s) >= 6')) > 0, 'some scrapes');
  });
  afterAll(async () => {
    await prometheus?.stop();
    exporter?.close();
  });
  const count = async (query: string) => {
    const response = await fetch(`${prometheus.url}/api/v1/query?${new URLSearchParams({ query })}`);
    return ((await response.json()) as { data: { result: unknown[] } }).data.result.length;
  };

  it('the messages’ values are what its own API says', async () => {
    const { publisher, log } = await makePublisher({ prometheus: { url: prometheus.url }, ...SHORT, metrics: undefined });
    const messages = (await publisher.round(Date.now())).map(bodyOf);
    expect(publisher.lastResult).toBe('ok');
    // The exporter's load averages are none, on purpose.
    expect(log.map((line) => /\((\w+)\)/.exec(line)?.[1])).toEqual(['nan', 'infinite']);

    const times = [...new Set(messages.flatMap(({ data }) => data.map(({ timestamp }) => Date.parse(timestamp))))].sort();
    expect(times).toEqual([0, 1, 2, 3].map((i) => times[0]! + i * 500));
    const published = new Map<string, Map<string, Map<number, string>>>();
    for (const { container_id, metric_type, data } of messages) {
      const containers = published.get(metric_type) ?? new Map<string, Map<number, string>>();
      expect(containers.has(container_id), `${metric_type} of ${container_id} comes once`).toBe(false);
      containers.set(container_id, new Map(data.map(({ timestamp, value }) => [Date.parse(timestamp), value])));
      published.set(metric_type, containers);
    }
    let compared = 0;
    for (const { name, type, query, dropped, total } of DEFAULT_METRICS) {
      const ours = published.get(name);
      if (ours === undefined) continue;
      const take = type === 'counter' && query === undefined ? 'rate' : 'avg_over_time';
      const ask = (metric: string) => said(`sum by (id) (${take}(${metric}{image!=""}[2s]))`, times);
      const rates = (metric: string) => said(`sum by (id) (rate(${metric}{image!=""}[2s]))`, times);
      const theirs = dropped === undefined || total === undefined ? await ask(name) : lossOf(await rates(dropped), await rates(total));
      expect(ours, name).toEqual(theirs);
      expect([...ours.keys()].sort(), name).toEqual((name.includes('_network_') ? SANDBOXES : CONTAINERS).toSorted());
      compared += 1;
    }
    expect(compared).toBe(22);
    const loss = published.get('container_network_receive_packet_loss_percentage')?.get(SANDBOXES[0] ?? '');
    // What the exporter drops: one packet in 50, rounded down twice.
    expect(Number([...(loss?.values() ?? [])][0])).toBeCloseTo(2, 1);
  });

  it('takes series of kube-state-metrics beside it', async () => {
    const query = 'sum by ({label}) ({metric} * on (namespace, pod, container) group_left ({label}) kube_pod_container_info)';
    const metrics = [{ name: 'kube_pod_container_status_restarts_total', type: 'counter', unit: 'restarts', label: 'container_id', query }];
    const { publisher } = await makePublisher({ prometheus: { url: prometheus.url }, ...SHORT, metrics });
    const restarts = (await publisher.round(Date.now())).map(bodyOf).map(({ container_id, data }) => [container_id, data.at(-1)?.value]);
    expect(Object.fromEntries(restarts)).toEqual({ [CONTAINERS[0]!]: '0', [CONTAINERS[1]!]: '0', [CONTAINERS[2]!]: '1' });
  });

  it('a query that is none is told with its own words', async () => {
    const { publisher, log } = await makePublisher({
      prometheus: { url: prometheus.url },
      metrics: [{ name: 'a', query: 'rate({metric}' }],
    });
    await publisher.round(Date.now());
    expect(publisher.lastResult).toBe('failed');
    expect(log).toEqual([expect.stringMatching(/^pods: a: .* answers 400 \(".*parse error.*"\): mend the query/)]);
  });

  it('as the program: --once prints, and the service fills the bus and tells of itself', async () => {
    const dir = tempDir();
    const file = join(dir, 'ndt.json');
    const metrics = [{ name: 'container_cpu_usage_seconds_total', type: 'counter', unit: 'seconds' }];
    writeFileSync(file, JSON.stringify({ data_dir: 'data', log: { format: 'json' }, pods: { ...SHORT, metrics, http: { port: 0 } } }));
    const env = { PROMETHEUS_HOST: '127.0.0.1', PROMETHEUS_PORT: String(prometheus.port), KAFKA_KUBERNETES_TOPIC: 'pods.here' };
    // Not waited for at a stretch: the exporter lives in this process, and would not be scraped meanwhile.
    const printed = await promisify(execFile)(process.execPath, [MAIN, 'pods', '--once', '--config', file], {
      env: { ...process.env, ...env },
    });
    expect(printed.stderr).toBe('');
    const messages = printed.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as PodMessage);
    expect(messages.map(({ container_id }) => container_id).sort()).toEqual(CONTAINERS.toSorted());

    const service = new Running('aggregator', ['pods', '--config', file], env);
    onTestFinished(async () => void (await service.stop()));
    await service.says('pods publisher runs');
    const url = /"url":"([^"]+)"/.exec(service.log)?.[1] ?? '';
    const own = async () => await (await fetch(`${url}/metrics`)).text();
    const published = async () => Number(/^ndt_pods_messages_total (\d+)$/m.exec(await own())?.[1]);
    await until(async () => (await published()) >= 2 * CONTAINERS.length, 'two rounds');
    expect(await (await fetch(`${url}/readyz`)).json()).toEqual({ ready: true, reasons: [] });
    expect(await service.stop()).toEqual({ code: 0, signal: null });

    const bus = new EmbeddedBus({ file: join(dir, 'data/aggregator/bus.db') });
    const stop = new AbortController();
    onTestFinished(async () => {
      stop.abort();
      await bus.close();
    });
    const found: PodMessage[] = [];
    const reading = bus.consume('test', topicsOf('pods.here'), { handle: (batch) => void found.push(...batch.map(bodyOf)) }, stop.signal);
    await until(() => found.length >= 2 * CONTAINERS.length, 'the messages');
    stop.abort();
    await reading;
    expect(new Set(found.map(({ container_id }) => container_id))).toEqual(new Set(CONTAINERS));
  });

  it('over TLS, with a certificate and a password of its own checking', async () => {
    const dir = tempDir();
    const made = makeCertificates(dir);
    // "geheim", hashed with bcrypt at cost 4.
    const hash = '$2b$04$abcdefghijklmnopqrstuuPWRtT5yx7FBi4dcf6ROhboeNunUrLQ.';
    const webConfig = `tls_server_config: {cert_file: ${made.server.cert}, key_file: ${made.server.key}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ${made.ca}}\nbasic_auth_users: {ndt: ${hash}}\n`;
    const secured = await startPrometheus({ config: 'scrape_configs: []\n', webConfig });
    onTestFinished(() => secured.stop());
    const { cert, key } = made.client('ndt');
    const tls = { ca_file: made.ca, cert_file: cert, key_file: key };
    const round = async (prometheusSettings: object) => {
      const { publisher, log } = await makePublisher({ prometheus: { url: secured.url, ...prometheusSettings } });
      await publisher.round(Date.now());
      return { result: publisher.lastResult, log: log.join('\n') };
    };
    expect((await round({ tls, username: 'ndt', password: 'geheim' })).result).toBe('ok');
    expect(await round({ tls, username: 'ndt', password: 'wrong' })).toMatchObject({
      result: 'failed',
      log: expect.stringMatching(/answers 401/),
    });
    expect(await round({ tls: { ca_file: made.ca }, username: 'ndt', password: 'geheim' })).toMatchObject({
      result: 'failed',
      log: expect.stringMatching(/want a client certificate/),
    });
  });

  it('its outage is made up for from what it has kept', async () => {
    const bus = new KeptBus();
    const metrics = [{ name: 'container_memory_rss', type: 'gauge', unit: 'bytes' }];
    const { publisher, log } = await makePublisher({ prometheus: { url: prometheus.url }, ...SHORT, metrics }, { bus });
    const stop = new AbortController();
    const running = publisher.run(stop.signal);
    onTestFinished(() => stop.abort());
    await until(() => bus.messages.length > 0, 'the first messages');
    await prometheus.halt();
    await until(() => log.some((line) => line.includes('ECONNREFUSED')), 'the outage to be told');
    const before = bus.messages.length;
    await prometheus.restart();
    await until(() => bus.messages.length >= before + 2 * CONTAINERS.length, 'messages after the outage', 20_000);
    stop.abort();
    await running;
    const asOf = (metric: PodMessage[]) =>
      metric.flatMap(({ container_id, data }) => data.map(({ timestamp }) => `${container_id} ${timestamp}`));
    const all = asOf(bus.messages.map(bodyOf));
    expect(new Set(all).size).toBe(all.length);
    // It scraped nothing while it was away, so there may be times without a value, but no time twice.
    const ms = [...new Set(all.map((line) => Date.parse(line.split(' ')[1] ?? '')))].sort();
    expect(ms.every((at) => at % 500 === 0)).toBe(true);
    expect(log.at(-1)).toMatch(/^pods: Prometheus: well again/);
  });
});
