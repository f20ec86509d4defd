import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { expect, it, onTestFinished } from 'vitest';
import { Pair } from '../programs.ts';
import { hasNodeExporter, startNodeExporter } from '../real/node-exporter.ts';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

/** A network namespace can be made here. */
const canNamespace = process.getuid?.() === 0 && spawnSync('ip', ['netns', 'list']).status === 0;

const PAYLOAD = 500;
const PER_SECOND = 1000;
const SECONDS = 12;
/** What the interface counts for a datagram: payload, UDP, IPv4 and Ethernet headers. */
const FRAME = PAYLOAD + 8 + 20 + 14;

/** Sends datagrams at a steady rate, catching up after every pause, and prints how many went out. */
const SENDER = `
  const socket = require('node:dgram').createSocket('udp4');
  const payload = Buffer.alloc(${PAYLOAD}), started = performance.now();
  let sent = 0;
  const timer = setInterval(() => {
    const due = Math.min(${PER_SECOND * SECONDS}, Math.floor((performance.now() - started) / 1000 * ${PER_SECOND}));
    while (sent < due) { socket.send(payload, 9, '198.51.100.1'); sent += 1; }
    if (sent >= ${PER_SECOND * SECONDS}) { clearInterval(timer); socket.close(() => console.log(sent)); }
  }, 5);
`;

interface Processed {
  at: number;
  record: {
    epoch_timestamp: string;
    input_ml_metrics: Array<{ value: number }>;
    output_ml_metrics: Array<{ value: number[] }>;
    interfaces: string[];
  };
}

it.skipIf(!canNamespace || !hasNodeExporter)(
  'a real node_exporter, scraped by an agent, over MQTT, to inferred records that agree with traffic of a known rate (needs root, iproute2, and Debian’s prometheus-node-exporter)',
  async () => {
    const ns = `ndt${process.pid}`;
    const device = `wan${process.pid % 100000}`;
    const ip = (...args: string[]) => execFileSync('ip', args);
    ip('netns', 'add', ns);
    onTestFinished(() => {
      spawnSync('ip', ['link', 'del', device]);
      spawnSync('ip', ['netns', 'del', ns]);
    });
    ip('link', 'add', device, 'type', 'veth', 'peer', 'name', 'far', 'netns', ns);
    ip('addr', 'add', '198.51.100.1/30', 'dev', device);
    ip('link', 'set', device, 'up');
    ip('-n', ns, 'addr', 'add', '198.51.100.2/30', 'dev', 'far');
    ip('-n', ns, 'link', 'set', 'far', 'up');
    const exporter = await startNodeExporter();
    onTestFinished(() => exporter.stop());

    const pair = await Pair.make(tempDir(), {
      polling_interval: 1,
      max_throughput_mbps: 100,
      multiplier: 1,
      routers: [{ r1: { url: exporter.url, interfaces: [device], router_type: 'B' } }],
    });
    onTestFinished(() => pair.stop());
    await pair.aggregator();
    await pair.agent();
    const stored = async () =>
      (await pair.get<{ records: Processed[] }>('/api/v1/records?router=r1&stage=inferred&limit=1000')).records.sort((a, b) => a.at - b.at);
    await until(async () => (await fetch(`${pair.url}/api/v1/routers/r1`)).ok && (await stored()).length > 1, 'records before the traffic');

    const sender = spawn('ip', ['netns', 'exec', ns, process.execPath, '-e', SENDER], { stdio: ['ignore', 'pipe', 'inherit'] });
    let sent = '';
    sender.stdout.on('data', (chunk: Buffer) => {
      sent += chunk.toString();
    });
    await new Promise((resolve) => sender.once('close', resolve));
    expect(Number(sent)).toBe(PER_SECOND * SECONDS);
    const endedMs = Date.now();
    await until(
      async () => Number((await stored()).at(-1)?.record.epoch_timestamp) * 1000 > endedMs,
      'a record of the time after the traffic',
    );

    const records = await stored();
    const first = records[0];
    if (first === undefined) throw new Error('no records');
    // Each record tells of the time since the one before.
    let [packets, bytes] = [0, 0];
    records.slice(1).forEach(({ record }, i) => {
      const seconds = Number(record.epoch_timestamp) - Number(records[i]?.record.epoch_timestamp);
      const [rate, length] = record.input_ml_metrics.map(({ value }) => value);
      packets += (rate ?? 0) * seconds;
      bytes += (rate ?? 0) * seconds * (length ?? 0);
    });
    expect(packets / (PER_SECOND * SECONDS)).toBeGreaterThan(0.98);
    expect(packets / (PER_SECOND * SECONDS)).toBeLessThan(1.02);
    expect(bytes / (PER_SECOND * SECONDS * FRAME)).toBeGreaterThan(0.98);
    expect(bytes / (PER_SECOND * SECONDS * FRAME)).toBeLessThan(1.02);

    // In the middle of it the rate itself, the length, the occupation and the power are what they must be.
    const rates = records.map(({ record }) => record.input_ml_metrics[0]?.value ?? 0).sort((a, b) => a - b);
    const middle = records.find(({ record }) => record.input_ml_metrics[0]?.value === rates[rates.length - 5]);
    const [rate = 0, length = 0, occupation = 0] = middle?.record.input_ml_metrics.map(({ value }) => value) ?? [];
    expect(Math.abs(rate / PER_SECOND - 1)).toBeLessThan(0.1);
    expect(Math.abs(length / FRAME - 1)).toBeLessThan(0.02);
    expect(occupation).toBeCloseTo(((rate * length * 8) / 100e6) * 100, 6);
    expect(middle?.record.output_ml_metrics[0]?.value[0]).toBeCloseTo(500 + 20 * (occupation / 100) ** 2 - 0.0008 * length, 6);
    expect(middle?.record.interfaces).toEqual([device]);

    const { latest } = await pair.get<{ latest: { power: number } }>('/api/v1/routers/r1');
    expect(latest.power).toBeGreaterThan(490);
  },
  60_000,
);
