/**
 * A small exporter with what a cluster's cAdvisor and kube-state-metrics tell of three containers in two pods, for trying the publisher
 * without a cluster: `node examples/pods/exporter.mjs [PORT]`.
 */
import { createServer } from 'node:http';
import { argv } from 'node:process';
import { pathToFileURL } from 'node:url';

const hex = (/** @type {string} */ seed) => seed.repeat(64 / seed.length);

export const PODS = [
  {
    pod: 'web-7d4b9c6f5-x2x8p',
    uid: '5f0c2a1e-8f0b-4f57-9a44-0d8a3b1c7e01',
    sandbox: hex('0a1b2c3d'),
    containers: [
      ['nginx', hex('959a1de9')],
      ['sidecar', hex('12ce454a')],
    ],
  },
  { pod: 'db-0', uid: 'c1d2e3f4-1111-4222-8333-944455556666', sandbox: hex('4e5f6071'), containers: [['postgres', hex('9a1de912')]] },
];

/**
 * The exposition at a time.
 * @param {number} seconds since the exporter started
 */
export function exposition(seconds) {
  /** @type {Map<string, { type: string, lines: string[] }>} */
  const families = new Map();
  /**
   * @param {string} name
   * @param {{ [label: string]: string }} labels
   * @param {number | string} value
   */
  const add = (name, labels, value) => {
    const family = families.get(name) ?? { type: /_total$|_failcnt$/.test(name) ? 'counter' : 'gauge', lines: [] };
    families.set(name, family);
    const text = Object.entries(labels).map(([label, content]) => `${label}="${content}"`);
    family.lines.push(`${name}{${text.join(',')}} ${value}`);
  };
  // Never falls, and its rate goes up and down by half within a minute.
  const count = (/** @type {number} */ rate) => rate * (seconds + 5 * (1 - Math.cos(seconds / 10)));
  const level = (/** @type {number} */ middle) => Math.round(middle * (1 + 0.2 * Math.sin(seconds / 15)));

  // Groups that are no containers: the machine, and all pods together. The publisher leaves them out.
  for (const id of ['/', '/kubepods.slice']) {
    add('container_cpu_usage_seconds_total', { cpu: 'total', id }, count(2));
    add('container_memory_usage_bytes', { id }, level(8e9));
  }
  PODS.forEach(({ pod, uid, sandbox, containers }, p) => {
    const slice = `/kubepods.slice/kubepods-pod${uid.replaceAll('-', '_')}.slice`;
    const labels = (/** @type {string} */ id, /** @type {string} */ container, /** @type {string} */ image) => ({
      container,
      id: `${slice}/cri-containerd-${id}.scope`,
      image,
      name: id,
      namespace: 'default',
      pod,
    });
    // A pod's network belongs to its sandbox.
    const network = labels(sandbox, '', 'registry.k8s.io/pause:3.9');
    for (const device of ['eth0', 'eth1']) {
      const busy = device === 'eth1' ? 0 : 1 + p;
      for (const [direction, share] of /** @type {Array<[string, number]>} */ ([
        ['receive', 1],
        ['transmit', 0.5],
      ])) {
        // So many that rounding changes the share of the dropped ones by less than 0.05 points even between two scrapes.
        const packets = count(10_000 * busy * share);
        add(`container_network_${direction}_bytes_total`, { ...network, interface: device }, Math.floor(packets * 900));
        add(`container_network_${direction}_packets_total`, { ...network, interface: device }, Math.floor(packets));
        add(`container_network_${direction}_packets_dropped_total`, { ...network, interface: device }, Math.floor(packets / 50));
        add(`container_network_${direction}_errors_total`, { ...network, interface: device }, 0);
      }
    }
    containers.forEach(([container = '', id = ''], c) => {
      const own = labels(id, container, `docker.io/library/${container}:1`);
      const weight = 1 + p + c / 2;
      add('container_cpu_usage_seconds_total', { ...own, cpu: 'total' }, count(0.2 * weight));
      add('container_cpu_user_seconds_total', own, count(0.15 * weight));
      add('container_cpu_system_seconds_total', own, count(0.05 * weight));
      add('container_memory_usage_bytes', own, level(2e8 * weight));
      add('container_memory_working_set_bytes', own, level(1.5e8 * weight));
      add('container_memory_rss', own, level(1e8 * weight));
      add('container_memory_cache', own, level(5e7 * weight));
      add('container_memory_failcnt', own, 0);
      for (const device of ['/dev/sda', '/dev/sdb']) {
        add('container_fs_reads_bytes_total', { ...own, device }, Math.floor(count(4096 * weight)));
        add('container_fs_writes_bytes_total', { ...own, device }, Math.floor(count(8192 * weight)));
        add('container_fs_reads_total', { ...own, device }, Math.floor(count(weight)));
        add('container_fs_writes_total', { ...own, device }, Math.floor(count(2 * weight)));
      }
      // What no average can be taken of.
      add('container_cpu_load_average_10s', own, c === 0 ? 'NaN' : '+Inf');
      const known = { namespace: 'default', pod, uid, container };
      add('kube_pod_container_info', { ...known, image: own.image, container_id: `containerd://${id}` }, 1);
      add('kube_pod_container_status_restarts_total', known, p);
    });
  });
  return [...families].map(([name, { type, lines }]) => `# TYPE ${name} ${type}\n${lines.join('\n')}\n`).join('');
}

/**
 * Listens; resolves with its address.
 * @param {number} port 0 takes a free one
 * @returns {Promise<{ port: number, close: () => void }>}
 */
export function startExporter(port) {
  const began = performance.now();
  const server = createServer((_, response) => {
    response.setHeader('content-type', 'text/plain; version=0.0.4; charset=utf-8').end(exposition((performance.now() - began) / 1000));
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      const taken = typeof address === 'object' && address !== null ? address.port : port;
      resolve({
        port: taken,
        close: () => {
          server.close();
          server.closeAllConnections();
        },
      });
    });
  });
}

if (argv[1] !== undefined && import.meta.url === pathToFileURL(argv[1]).href) {
  const { port } = await startExporter(Number(argv[2] ?? 9105));
  console.log(`exporter at http://127.0.0.1:${port}/metrics, Ctrl-C ends it`);
}
