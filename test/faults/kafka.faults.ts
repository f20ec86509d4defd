/** What brokers and links do in real life, at length. Every record has to come out once, in order, and with the right sum. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Pipeline } from '../kafka-pipeline.ts';
import { hasKcat, NEEDS_KCAT } from '../kcat.ts';
import { canStartKafka, freePort, type Kafka, NEEDS_OWN_KAFKA, startKafka } from '../real/kafka.ts';
import { type Proxy as Link, startProxy } from '../real/proxy.ts';
import { until } from '../until.ts';

describe.skipIf(!canStartKafka || !hasKcat)(`Kafka under fire${NEEDS_OWN_KAFKA}${NEEDS_KCAT}`, () => {
  let kafka: Kafka;
  let proxy: Link;
  let pipeline: Pipeline;

  beforeEach(async () => {
    const port = await freePort();
    proxy = await startProxy(port);
    // Clients are told the proxy's address, so that everything goes through it.
    kafka = await startKafka({ port, properties: { 'advertised.listeners': `PLAINTEXT://127.0.0.1:${proxy.port}` } });
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

/** One consumer is cut off while the others go on, and comes back with what it had under way: nobody is to notice. */
describe.skipIf(!canStartKafka || !hasKcat)(`a consumer that everyone took for dead${NEEDS_OWN_KAFKA}${NEEDS_KCAT}`, () => {
  it('comes back, 6 times, and writes nothing that another one has written', async () => {
    const far = await freePort();
    const proxy = await startProxy(far);
    const kafka = await startKafka({
      properties: {
        listeners: `PLAINTEXT://127.0.0.1:{port},FAR://127.0.0.1:${far},CONTROLLER://127.0.0.1:{controller}`,
        'advertised.listeners': `PLAINTEXT://127.0.0.1:{port},FAR://127.0.0.1:${proxy.port}`,
        'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,FAR:PLAINTEXT,CONTROLLER:PLAINTEXT',
      },
    });
    // Longer time-outs than the pause: what it had sent is still on its way when the others have taken over.
    const pipeline = new Pipeline(kafka.bootstrap, 'z', { timeout: 30, transaction_timeout: 30 });
    try {
      const near = pipeline.work();
      const cutOff = pipeline.work(`127.0.0.1:${proxy.port}`);
      pipeline.send(1_000_000);
      const handled = (worker: typeof near) => worker.bus.stats().groups[0]?.messages ?? 0;
      for (let round = 1; round <= 6; round += 1) {
        const before = handled(cutOff);
        await until(
          () => handled(cutOff) > before + 50,
          `round ${round}: the far one to work; ${pipeline.faults.slice(-2).join(' | ')}`,
          60_000,
        );
        await sleep(Math.random() * 50);
        proxy.pause();
        const sent = pipeline.sent;
        await sleep(8000);
        await until(
          () => pipeline.sent > sent + 500 && (near.bus.stats().groups[0]?.lag.size ?? 0) === 4,
          'the near one to take over',
          60_000,
        );
        proxy.resume();
      }
      const total = pipeline.sent + 500;
      pipeline.stopAt(total);
      await pipeline.expectExactlyOnce(total, 120_000);
    } finally {
      proxy.resume();
      await pipeline.close();
      await proxy.stop();
      await kafka.stop();
    }
  });
});
