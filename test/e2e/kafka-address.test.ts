/** The broker moves to another address and keeps its name, as one in Kubernetes or behind a changed DNS entry does. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { OnKafka, readCommitted } from '../kafka-programs.ts';
import { hasKcat, NEEDS_KCAT } from '../kcat.ts';
import { freePort } from '../ports.ts';
import { fromSources } from '../programs.ts';
import { canStartKafka, NEEDS_OWN_KAFKA, startKafka } from '../real/kafka.ts';
import { startProxy } from '../real/proxy.ts';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

/** A process can be given another /etc/hosts. */
const canMount = process.getuid?.() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0;
const skipped = `${canMount ? '' : ' (skipped: needs root, to give the agent an /etc/hosts of its own)'}${NEEDS_OWN_KAFKA}${NEEDS_KCAT}`;
const NAME = 'broker.ndt-test';

it.skipIf(!canMount || !canStartKafka || !hasKcat)(
  `the broker has another address behind the same name: the agent finds it, and nothing is lost${skipped}`,
  async () => {
    const [port, named] = [await freePort(), await freePort()];
    const kafka = await startKafka({
      port,
      properties: {
        listeners: `PLAINTEXT://127.0.0.1:{port},NAMED://127.0.0.1:${named},CONTROLLER://127.0.0.1:{controller}`,
        'advertised.listeners': `PLAINTEXT://127.0.0.1:{port},NAMED://${NAME}:${named}`,
        'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,NAMED:PLAINTEXT,CONTROLLER:PLAINTEXT',
        'inter.broker.listener.name': 'PLAINTEXT',
      },
    });
    onTestFinished(() => kafka.stop());
    const dir = tempDir();
    const hosts = join(dir, 'hosts');
    const pointTo = (address: string) => writeFileSync(hosts, `127.0.0.1 localhost\n${address} ${NAME}\n`);

    pointTo('127.0.0.2');
    const before = await startProxy(named, { host: '127.0.0.2', port: named });
    const on = new OnKafka(dir, `${NAME}:${named}`, {
      routers: [{ moved: { interfaces: ['lo'], polling_interval: 0.2 } }],
      inventory: { interval: 0 },
    });
    onTestFinished(() => on.stop());
    const { command, env } = fromSources('agent');
    const origin = { command: ['unshare', '-m', 'sh', '-c', 'mount --bind "$0" /etc/hosts && exec "$@"', hosts, ...command], env };
    const agent = await on.start('agent', 'edge', {}, origin);
    const arrived = async () => (await readCommitted(kafka.bootstrap, 'TP_moved')).map(({ headers }) => Number(headers['ndt-seq']));
    await until(async () => (await arrived()).length > 5, 'records by the first address', 40_000);
    expect(before.taken).toBeGreaterThan(0);

    await before.stop();
    const pending = async () => Number(/^ndt_records_pending (\d+)/m.exec(await (await fetch(`${agent.url}/metrics`)).text())?.[1]);
    await until(async () => (await pending()) > 5, 'records to wait');
    pointTo('127.0.0.3');
    const after = await startProxy(named, { host: '127.0.0.3', port: named });
    onTestFinished(() => after.stop());
    const waited = (await arrived()).length;
    await until(async () => (await arrived()).length > waited + 10, 'records by the second address', 60_000);
    expect(after.taken).toBeGreaterThan(0);

    await agent.stop();
    const seqs = await arrived();
    expect(seqs).toEqual(seqs.map((_, i) => (seqs[0] ?? 0) + i));
  },
  180_000,
);
