/**
 * The path of real flows: traffic between two network namespaces, metered by softflowd, exported as NetFlow v9 to GoFlow2, written to
 * Kafka, normalised by us. What comes out has the figures of what was sent.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { findProgram } from '../../scripts/programs.ts';
import { OnKafka, readCommitted } from '../kafka-programs.ts';
import { hasKcat, NEEDS_KCAT } from '../kcat.ts';
import { flowOf } from '../netflow-kills.ts';
import { buildGoflow2, hasGoflow2, NEEDS_GOFLOW2, startGoflow2 } from '../real/goflow2.ts';
import { canStartKafka, type Kafka, NEEDS_OWN_KAFKA, startKafka } from '../real/kafka.ts';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

const SOFTFLOWD = findProgram('softflowd');
const SOFTFLOWCTL = findProgram('softflowctl');
const hasSoftflowd = SOFTFLOWD !== undefined && SOFTFLOWCTL !== undefined;
const canNamespace = process.getuid?.() === 0 && spawnSync('ip', ['netns', 'list']).status === 0;
const NEEDS = `${hasSoftflowd ? '' : ' (skipped: needs Debian’s softflowd)'}${canNamespace ? '' : ' (skipped: needs root and iproute2)'}`;

const PACKETS = 1000;
const PAYLOAD = 500;
const [SOURCE_PORT, PORT] = [40_001, 40_009];
/** What NetFlow counts for a datagram: payload, UDP and IPv4 headers. */
const LENGTH = PAYLOAD + 8 + 20;
/** How softflowctl shows the flow when all of it was metered; it puts the smaller address first. */
const METERED = new RegExp(`\\[198\\.51\\.100\\.1\\]:${PORT} <> \\[198\\.51\\.100\\.2\\]:${SOURCE_PORT} .* packets<:${PACKETS} `);
/** As docs/netflow.md has it: the flows of an exporter go to one partition. */
const MAPPING = 'formatter:\n  key:\n    - sampler_address\n';

/** Sends datagrams to so many ports, a few in each turn so that no buffer overflows, and prints how many when all have left. */
const sender = (from: number, to: number, ports: number, count: number) => `
  const socket = require('node:dgram').createSocket('udp4');
  let [sent, left] = [0, 0];
  const done = () => {
    left += 1;
    if (left === ${count}) socket.close(() => console.log(left));
  };
  socket.bind(${from}, () => {
    const timer = setInterval(() => {
      for (let i = 0; i < 10 && sent < ${count}; i += 1, sent += 1) socket.send(Buffer.alloc(${PAYLOAD}), ${to} + sent % ${ports}, '198.51.100.1', done);
      if (sent === ${count}) clearInterval(timer);
    }, 5);
  });
`;

describe.skipIf(!canStartKafka || !hasKcat || !hasGoflow2 || !hasSoftflowd || !canNamespace)(
  `softflowd, GoFlow2, Kafka, the role netflow${NEEDS_OWN_KAFKA}${NEEDS_KCAT}${NEEDS_GOFLOW2}${NEEDS}`,
  () => {
    let kafka: Kafka;
    beforeAll(async () => {
      await buildGoflow2();
      kafka = await startKafka();
    }, 700_000);
    afterAll(() => kafka?.stop());

    it('a UDP stream comes out with its ports, bytes and packets', async () => {
      const dir = tempDir();
      const ns = `ndtnf${process.pid}`;
      const device = `nf${process.pid % 100000}`;
      const ip = (...args: string[]) => execFileSync('ip', args);
      onTestFinished(() => {
        spawnSync('ip', ['link', 'del', device]);
        spawnSync('ip', ['netns', 'del', ns]);
      });
      ip('netns', 'add', ns);
      ip('link', 'add', device, 'type', 'veth', 'peer', 'name', 'far', 'netns', ns);
      ip('addr', 'add', '198.51.100.1/30', 'dev', device);
      ip('link', 'set', device, 'up');
      ip('-n', ns, 'addr', 'add', '198.51.100.2/30', 'dev', 'far');
      ip('-n', ns, 'link', 'set', 'far', 'up');

      // Known from the start: packets that wait for an address to be resolved are dropped when they are many.
      const mac = readFileSync(`/sys/class/net/${device}/address`, 'utf8').trim();
      ip('-n', ns, 'neigh', 'replace', '198.51.100.1', 'lladdr', mac, 'dev', 'far', 'nud', 'permanent');

      const on = new OnKafka(dir, kafka.bootstrap, {});
      onTestFinished(() => on.stop());
      const role = await on.start('aggregator', 'role', { aggregator: { roles: ['netflow'] } });
      const collector = await startGoflow2(dir, { brokers: kafka.bootstrap, topic: 'flows', mapping: MAPPING });
      onTestFinished(() => collector.stop());
      const control = join(dir, 'softflowd.ctl');
      const meter = spawn(
        SOFTFLOWD ?? 'softflowd',
        ['-d', '-i', device, '-v', '9', '-n', `127.0.0.1:${collector.port}`, '-p', join(dir, 'softflowd.pid'), '-c', control, 'udp'],
        { stdio: 'ignore' },
      );
      const metered = new Promise((resolve) => meter.once('close', resolve));
      onTestFinished(async () => {
        meter.kill('SIGKILL');
        await metered;
      });
      const ctl = (command: string) => spawnSync(SOFTFLOWCTL ?? 'softflowctl', ['-c', control, command], { encoding: 'utf8' });
      await until(() => ctl('statistics').status === 0, 'softflowd to listen');

      const send = (from: number, to: number, ports: number, count: number) =>
        Number(execFileSync('ip', ['netns', 'exec', ns, process.execPath, '-e', sender(from, to, ports, count)], { encoding: 'utf8' }));
      const startedMs = Date.now();
      expect(send(SOURCE_PORT, PORT, 1, PACKETS)).toBe(PACKETS);
      const endedMs = Date.now();
      // The kernel hands packets to softflowd when it has a block of them together: other traffic pushes ours along.
      // It makes many flows: softflowd 1.1.0 counts flows alone in a packet's header, not templates, and GoFlow2 reads no more sets than
      // that says, which leaves out the data where flows are few.
      await until(
        () => {
          if (METERED.test(ctl('dump-flows').stdout)) return true;
          send(SOURCE_PORT + 1, PORT + 1, 20, 200);
          return false;
        },
        'softflowd to have metered all packets',
        60_000,
      );
      expect(ctl('expire-all').status).toBe(0);

      const flows = await until(
        async () => {
          const records = (await readCommitted(kafka.bootstrap, 'netflow-output')).map(({ key, value }) => ({
            key,
            value,
            flow: flowOf(value),
          }));
          return records.filter(({ flow }) => flow['dst-port'] === PORT).length > 0 && records;
        },
        `the flow; GoFlow2: ${collector.log()}; role: ${role.log.slice(-1000)}`,
      );
      const mine = flows.filter(({ flow }) => flow['dst-port'] === PORT);
      expect(mine).toHaveLength(1);
      const [record] = mine;
      expect(record?.flow).toMatchObject({
        'bytes-in': PACKETS * LENGTH,
        'pkts-in': PACKETS,
        protocol: 'udp',
        'ip-version': 'ipv4',
        'src-port': SOURCE_PORT,
        'dst-port': PORT,
        ipv4: { 'src-address': '198.51.100.2', 'dst-address': '198.51.100.1' },
      });
      // GoFlow2's key is a hash of four bytes, which is no text: ours is the exporter.
      expect(record?.key).toBe('127.0.0.1');
      const [first, last] = [Number(record?.flow['first-switched']), Number(record?.flow['last-switched'])];
      // NetFlow v9 gives times by the exporter's uptime and a clock in whole seconds.
      expect(first).toBeGreaterThan(startedMs - 1500);
      expect(last).toBeLessThan(endedMs + 1500);
      expect(last - first).toBeGreaterThan(0);
      expect(await readCommitted(kafka.bootstrap, 'netflow-errors')).toEqual([]);
    }, 120_000);
  },
);
