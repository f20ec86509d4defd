/** What brokers and links do in real life, at length. Every record has to come out once, in order, and with the right sum. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HEARTBEAT, PRODUCE } from '../../common/kafka/requests.ts';
import { Pipeline, type Worker } from '../kafka-pipeline.ts';
import { hasKcat, NEEDS_KCAT } from '../kcat.ts';
import { freePort } from '../ports.ts';
import { canStartKafka, type Kafka, NEEDS_OWN_KAFKA, startKafka } from '../real/kafka.ts';
import { type Proxy as Link, startProxy } from '../real/proxy.ts';
import { until } from '../until.ts';

const canRun = canStartKafka && hasKcat;
const NEEDS = `${NEEDS_OWN_KAFKA}${NEEDS_KCAT}`;
/** Of Kafka before 4.0, and of today. */
const VERSIONS = [1, 2];

/** By the head of the first request in what a connection sends. */
const isRequest = ({ key }: { key: number }, sent: Buffer) => sent.length > 6 && sent.readInt16BE(4) === key;

describe.skipIf(!canRun).each(VERSIONS)(`Kafka under fire, transactions of version %i${NEEDS}`, (transactionVersion) => {
  let kafka: Kafka;
  let proxy: Link;
  let pipeline: Pipeline;

  beforeEach(async () => {
    const port = await freePort();
    proxy = await startProxy(port);
    // Clients are told the proxy's address, so that everything goes through it.
    kafka = await startKafka({ port, transactionVersion, properties: { 'advertised.listeners': `PLAINTEXT://127.0.0.1:${proxy.port}` } });
    pipeline = new Pipeline(`127.0.0.1:${proxy.port}`, 'p');
  }, 60_000);
  afterEach(async () => {
    proxy.resume();
    await pipeline.close();
    await proxy.stop();
    await kafka.stop();
  }, 60_000);

  it('kill -9 of the broker, 10 rounds', async () => {
    pipeline.work();
    pipeline.send(20_000);
    for (let round = 1; round <= 10; round += 1) {
      const before = pipeline.sent;
      await until(
        () => pipeline.sent >= Math.min(before + 300, 19_000),
        `round ${round}: records to flow; ${pipeline.faults.slice(-2).join(' | ')}`,
        60_000,
      );
      await sleep(Math.random() * 300);
      await kafka.kill9();
      await kafka.restart();
    }
    await pipeline.expectExactlyOnce(20_000, 120_000);
  });

  it('the broker stands still for 40 s (SIGSTOP)', async () => {
    pipeline.work();
    pipeline.send(6000);
    await until(() => pipeline.sent >= 1000, 'records to flow');
    kafka.sigstop();
    await sleep(40_000);
    kafka.sigcont();
    await pipeline.expectExactlyOnce(6000, 120_000);
  });

  it('the link is cut at random bytes, 100 times', async () => {
    pipeline.work();
    pipeline.send(1_000_000);
    for (let cut = 1; cut <= 100; cut += 1) {
      await proxy.cutAfter(1 + Math.floor(Math.random() * 60_000));
      await sleep(Math.random() * 200);
    }
    const total = pipeline.sent + 500;
    pipeline.stopAt(total);
    await pipeline.expectExactlyOnce(total, 120_000);
  });

  it('consumers join and leave, 10 rounds', async () => {
    pipeline.work();
    pipeline.send(1_000_000);
    for (let round = 1; round <= 10; round += 1) {
      const joined = pipeline.work();
      const before = pipeline.sent;
      await until(() => joined.bus.stats().groups[0]?.batches !== 0, `round ${round}: the new one to get a share`, 30_000);
      await until(() => pipeline.sent > before + 100, 'records to flow');
      await joined.stop();
    }
    const total = pipeline.sent + 500;
    pipeline.stopAt(total);
    await pipeline.expectExactlyOnce(total, 120_000);
  });

  it('a link that hangs for longer than every time-out, 3 times', async () => {
    pipeline.work();
    pipeline.work();
    pipeline.send(1_000_000);
    for (let round = 1; round <= 3; round += 1) {
      const before = pipeline.sent;
      await until(() => pipeline.sent > before + 200, `round ${round}: records to flow`, 60_000);
      proxy.pause();
      await sleep(12_000);
      proxy.resume();
    }
    const total = pipeline.sent + 500;
    pipeline.stopAt(total);
    await pipeline.expectExactlyOnce(total, 120_000);
    expect(pipeline.faults.length).toBeGreaterThan(0);
  });
});

/** Two consumers: the one that leads the group is near its broker, the link of the other is at our mercy. */
describe.skipIf(!canRun).each(VERSIONS)(`a consumer far away, transactions of version %i${NEEDS}`, (transactionVersion) => {
  let kafka: Kafka;
  let proxy: Link;
  let pipeline: Pipeline;
  let near: Worker;
  let far: Worker;
  const handled = ({ bus }: Worker) => bus.stats().groups[0]?.messages ?? 0;
  const works = async (worker: Worker, name: string, withinMs = 60_000) => {
    const before = handled(worker);
    await until(() => handled(worker) > before + 50, `${name} to work; ${pipeline.faults.slice(-2).join(' | ')}`, withinMs);
  };

  beforeEach(async () => {
    const port = await freePort();
    proxy = await startProxy(port);
    kafka = await startKafka({
      transactionVersion,
      properties: {
        listeners: `PLAINTEXT://127.0.0.1:{port},FAR://127.0.0.1:${port},CONTROLLER://127.0.0.1:{controller}`,
        'advertised.listeners': `PLAINTEXT://127.0.0.1:{port},FAR://127.0.0.1:${proxy.port}`,
        'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,FAR:PLAINTEXT,CONTROLLER:PLAINTEXT',
      },
    });
  }, 60_000);
  /** The near one is the first, and so leads the group for as long as it is there. */
  async function start(options: object) {
    pipeline = new Pipeline(kafka.bootstrap, 'z', options);
    pipeline.send(1_000_000);
    near = pipeline.work();
    await works(near, 'the near one');
    far = pipeline.work(`127.0.0.1:${proxy.port}`);
    await works(far, 'the far one');
  }
  async function takenOver() {
    await until(() => (near.bus.stats().groups[0]?.lag.size ?? 0) === 4, 'the near one to take over', 60_000);
    const sent = pipeline.sent;
    await until(() => pipeline.sent > sent + 500, 'records to flow', 60_000);
  }
  async function end() {
    const total = pipeline.sent + 500;
    pipeline.stopAt(total);
    await pipeline.expectExactlyOnce(total, 120_000);
  }
  afterEach(async () => {
    proxy.resume();
    await pipeline?.close();
    await proxy.stop();
    await kafka.stop();
  }, 60_000);

  it('is taken for dead, comes back with what it had under way, 4 times, and writes nothing that another one has written', async () => {
    // Longer time-outs than the pause: what it had sent is still on its way when the others have taken over.
    await start({ timeout: 30, transaction_timeout: 30 });
    for (let round = 1; round <= 4; round += 1) {
      await works(far, `round ${round}: the far one`);
      await sleep(Math.random() * 50);
      proxy.pause();
      await takenOver();
      proxy.resume();
    }
    await end();
  });

  it('does not learn that the group goes on without it, 3 times, and writes nothing that another one has written', async () => {
    await start({ timeout: 30, transaction_timeout: 30 });
    for (let round = 1; round <= 3; round += 1) {
      await works(far, `round ${round}: the far one`);
      // Everything else of it gets through: it reads and writes on.
      proxy.pause((request) => isRequest(HEARTBEAT, request));
      await takenOver();
      proxy.resume();
    }
    await end();
  });

  it('has no link for longer than a transaction may take, 3 times, and comes back to its seat in a group that has not noticed', async () => {
    await start({ timeout: 1, transaction_timeout: 2, session_timeout: 30 });
    for (let round = 1; round <= 3; round += 1) {
      let writes = false;
      proxy.pause((request) => {
        writes ||= isRequest(PRODUCE, request);
        return writes;
      });
      await until(() => writes, 'a batch to be under way');
      proxy.pause();
      // A batch cannot be committed, then the seat not be taken again: it gives its share up and joins anew.
      await until(() => far.bus.stats().groups[0]?.lag.size === 0, 'the far one to give its share up', 30_000);
      proxy.resume();
      // And not only when the group has noticed after all.
      await works(far, `round ${round}: the far one`, 20_000);
    }
    await end();
  });
});
