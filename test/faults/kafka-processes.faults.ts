import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { OnKafka, readCommitted } from '../kafka-programs.ts';
import { hasKcat, NEEDS_KCAT, produce } from '../kcat.ts';
import { runOnce } from '../programs.ts';
import { canStartKafka, type Kafka, NEEDS_OWN_KAFKA, startKafka } from '../real/kafka.ts';
import { figures, keyed, recording } from '../recording.ts';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

const seqsOf = async (kafka: Kafka, topic: string) =>
  (await readCommitted(kafka.bootstrap, topic)).map(({ headers }) => Number(headers['ndt-seq']));
const anonymousMb = (pid: number) => Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

describe.skipIf(!canStartKafka || !hasKcat)(`processes on Kafka under fire${NEEDS_OWN_KAFKA}${NEEDS_KCAT}`, () => {
  let kafka: Kafka;
  beforeAll(async () => {
    kafka = await startKafka();
  }, 180_000);
  afterAll(() => kafka.stop());

  it('kill -9 of aggregator and ML at random, 20 rounds: raw to processed to inferred exactly once', async () => {
    const on = new OnKafka(tempDir(), kafka.bootstrap, {});
    onTestFinished(() => on.stop());
    const raw = recording('fire1', 1200);
    let aggregator = await on.start('aggregator', 'central');
    let ml = await on.start('ml', 'ml');
    for (let round = 0; round < 20; round += 1) {
      await produce(kafka.bootstrap, 'TD_fire1', keyed('fire1', raw.slice(round * 60, round * 60 + 60)));
      await sleep(Math.random() * 1500);
      if (round % 2 === 0) {
        await aggregator.kill9();
        aggregator = await on.start('aggregator', 'central');
      } else {
        await ml.kill9();
        ml = await on.start('ml', 'ml');
      }
    }
    const wanted = runOnce('aggregator', ['rates'], { input: raw.join('\n') })
      .stdout.trim()
      .split('\n')
      .map(figures);
    const inferred = await until(
      async () => {
        const all = await readCommitted(kafka.bootstrap, 'ML_fire1');
        return all.length >= wanted.length && all;
      },
      `${wanted.length} inferred records`,
      120_000,
    );
    const processed = await readCommitted(kafka.bootstrap, 'TP_fire1');
    expect(processed.map(({ value }) => figures(value))).toEqual(wanted);
    expect(inferred).toHaveLength(wanted.length);
    expect(inferred.map(({ value }) => figures(value)).map(({ epoch_timestamp }) => epoch_timestamp)).toEqual(
      wanted.map(({ epoch_timestamp }) => epoch_timestamp),
    );
  }, 300_000);

  it('two aggregators share the routers; one leaves, one joins, 10 rounds: no interval lost, none wrong', async () => {
    const on = new OnKafka(tempDir(), kafka.bootstrap, { aggregator: { roles: ['rates'] } });
    onTestFinished(() => on.stop());
    const routers = ['share1', 'share2', 'share3', 'share4'];
    const raw = new Map(routers.map((router) => [router, recording(router, 600)]));
    let [one, two] = [await on.start('aggregator', 'one'), await on.start('aggregator', 'two')];
    for (let round = 0; round < 10; round += 1) {
      for (const router of routers)
        await produce(kafka.bootstrap, `TD_${router}`, keyed(router, raw.get(router)?.slice(round * 60, round * 60 + 60) ?? []));
      await sleep(Math.random() * 2000);
      if (round % 2 === 0) {
        await (round % 4 === 0 ? one.stop() : one.kill9());
        one = await on.start('aggregator', 'one');
      } else {
        await (round % 4 === 1 ? two.stop() : two.kill9());
        two = await on.start('aggregator', 'two');
      }
    }
    for (const router of routers) {
      const input = (raw.get(router) ?? []).join('\n');
      const wanted = runOnce('aggregator', ['rates'], { input }).stdout.trim().split('\n').map(figures);
      const processed = await until(
        async () => {
          const all = await readCommitted(kafka.bootstrap, `TP_${router}`);
          return all.length >= wanted.length && all;
        },
        `${wanted.length} processed records of ${router}`,
        120_000,
      );
      expect(processed.map(({ value }) => figures(value))).toEqual(wanted);
    }
  }, 300_000);

  it('the broker is away for 5 minutes at 200 records/s: the agent’s memory stays flat, everything arrives, nothing twice', async () => {
    const routers = Array.from({ length: 20 }, (_, i) => ({ [`long${i}`]: { interfaces: ['lo'], polling_interval: 0.1 } }));
    const on = new OnKafka(tempDir(), kafka.bootstrap, { topics: { processed: 'long.processed' }, routers, inventory: { interval: 0 } });
    onTestFinished(() => on.stop());
    const agent = await on.start('agent', 'edge');
    await until(async () => (await seqsOf(kafka, 'long.processed')).length > 500, 'records before the outage', 60_000);
    await kafka.kill9();
    // V8 and SQLite fill their caches first.
    await sleep(30_000);
    const before = anonymousMb(agent.pid);
    await sleep(270_000);
    const after = anonymousMb(agent.pid);
    await kafka.restart();
    const pending = async () => Number(/^ndt_records_pending (\d+)/m.exec(await (await fetch(`${agent.url}/metrics`)).text())?.[1]);
    expect(await pending()).toBeGreaterThan(45_000);
    await until(async () => (await pending()) < 200, 'the backlog to drain', 120_000);
    await agent.stop();
    const seqs = (await seqsOf(kafka, 'long.processed')).filter((seq) => Number.isFinite(seq)).sort((a, b) => a - b);
    expect(seqs.length).toBeGreaterThan(55_000);
    expect(seqs.findIndex((seq, i) => seq !== (seqs[0] ?? 0) + i)).toBe(-1);
    expect(after - before).toBeLessThan(10);
  }, 600_000);
});
