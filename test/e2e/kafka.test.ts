import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { OnKafka, readCommitted } from '../kafka-programs.ts';
import { hasKcat, NEEDS_KCAT, produce } from '../kcat.ts';
import { runOnce } from '../programs.ts';
import { canStartKafka, type Kafka, NEEDS_OWN_KAFKA, startKafka } from '../real/kafka.ts';
import { figures, keyed, recording } from '../recording.ts';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

describe.skipIf(!canStartKafka || !hasKcat)(`the pipeline on Apache Kafka, as processes${NEEDS_OWN_KAFKA}${NEEDS_KCAT}`, () => {
  let kafka: Kafka;
  beforeAll(async () => {
    kafka = await startKafka();
  }, 180_000);
  afterAll(() => kafka.stop());

  const inventoriesOf = async (router: string) =>
    (await readCommitted(kafka.bootstrap, 'ndt.inventory')).filter(({ key }) => key === router);

  it('agent, aggregator and ML: records processed, inferred, stored; others can read them with headers and key', async () => {
    const on = new OnKafka(tempDir(), kafka.bootstrap, { routers: [{ walk1: { interfaces: ['lo'], polling_interval: 0.2 } }] });
    onTestFinished(() => on.stop());
    const aggregator = await on.start('aggregator', 'central');
    await on.start('ml', 'ml');
    const agent = await on.start('agent', 'edge');
    await until(async () => {
      const response = await fetch(`${aggregator.url}/api/v1/records?router=walk1&stage=inferred&limit=20`);
      return response.ok && ((await response.json()) as { records: unknown[] }).records.length >= 5;
    }, 'inferred records behind the API');
    expect((await fetch(`${aggregator.url}/readyz`)).status).toBe(200);
    await until(async () => {
      const { inventory } = (await (await fetch(`${aggregator.url}/api/v1/routers/walk1`)).json()) as { inventory: object | null };
      return inventory !== null;
    }, 'the inventory behind the API');
    await agent.stop();
    const inventories = await inventoriesOf('walk1');
    expect(inventories).toHaveLength(1);
    const processed = await readCommitted(kafka.bootstrap, 'TP_walk1');
    const seqs = numbersOf([...processed, ...inventories]);
    expect(seqs).toEqual(seqs.map((_, i) => (seqs[0] ?? 0) + i));
    expect(numbersOf(processed)).toEqual(processed.map(({ headers }) => Number(headers['ndt-seq'])));
    expect(processed[0]).toMatchObject({
      key: 'walk1',
      headers: { 'ndt-agent': 'edge', 'ndt-boot': expect.stringMatching(/^[0-9a-f-]{36}$/) },
    });
    const inferred = await until(async () => {
      const all = await readCommitted(kafka.bootstrap, 'ML_walk1');
      return all.length === processed.length && all;
    }, 'an inferred record for each processed one');
    expect(inferred.map(({ headers }) => headers['ndt-seq'])).toEqual(processed.map(({ headers }) => headers['ndt-seq']));
    const metrics = await (await fetch(`${aggregator.url}/metrics`)).text();
    expect(metrics).toMatch(/ndt_bus_lag_messages\{group="ndt-store"\} 0/);
    const ledger = (await (await fetch(`${aggregator.url}/api/v1/ledger`)).json()) as { agents: object[] };
    expect(ledger.agents[0]).toMatchObject({
      agent: 'edge',
      state: 'complete',
      difference: 0,
      received: { records: processed.length + 1, duplicates: 0 },
    });
  }, 90_000);

  it('a seed-style raw record produced by hand comes out processed and inferred, with the figures that the filters give', async () => {
    const on = new OnKafka(tempDir(), kafka.bootstrap, {});
    onTestFinished(() => on.stop());
    await on.start('aggregator', 'central');
    await on.start('ml', 'ml');
    const raw = recording('hand1', 40);
    // The topic appears while the group runs.
    await produce(kafka.bootstrap, 'TD_hand1', keyed('hand1', raw));
    const rates = runOnce('aggregator', ['rates'], { input: raw.join('\n') });
    const wanted = runOnce('ml', ['infer'], { input: rates.stdout }).stdout.trim().split('\n').map(figures);
    expect(wanted).toHaveLength(38);
    const inferred = await until(
      async () => {
        const all = await readCommitted(kafka.bootstrap, 'ML_hand1');
        return all.length >= wanted.length && all;
      },
      'the inferred records',
      40_000,
    );
    expect(inferred.map(({ value }) => figures(value))).toEqual(wanted);
    expect((await readCommitted(kafka.bootstrap, 'TP_hand1')).map(({ value }) => figures(value))).toEqual(
      rates.stdout.trim().split('\n').map(figures),
    );
  }, 90_000);

  it('one topic for all routers works as well; the baselines survive a kill -9 in the middle', async () => {
    const topics = { raw: 'one.raw', processed: 'one.processed', inferred: 'one.inferred' };
    const on = new OnKafka(tempDir(), kafka.bootstrap, { topics });
    onTestFinished(() => on.stop());
    const [a, b] = [recording('one1', 40), recording('one2', 40)];
    const mixed = a.flatMap((record, i) => [record, b[i] ?? '']);
    await on.start('ml', 'ml');
    const first = await on.start('aggregator', 'central');
    await produce(kafka.bootstrap, 'one.raw', keyed('one', mixed.slice(0, 30)));
    await until(async () => (await readCommitted(kafka.bootstrap, 'one.processed')).length >= 28, 'the first half', 40_000);
    await first.kill9();
    await produce(kafka.bootstrap, 'one.raw', keyed('one', mixed.slice(30)));
    await on.start('aggregator', 'central');
    const wanted = runOnce('aggregator', ['rates'], { input: mixed.join('\n') })
      .stdout.trim()
      .split('\n')
      .map(figures);
    const all = await until(
      async () => {
        const found = await readCommitted(kafka.bootstrap, 'one.inferred');
        return found.length >= wanted.length && found;
      },
      'all inferred records',
      40_000,
    );
    expect(all).toHaveLength(wanted.length);
    expect((await readCommitted(kafka.bootstrap, 'one.processed')).map(({ value }) => figures(value))).toEqual(wanted);
  }, 120_000);

  it('ML for one router, as in the seed: --input TP_x --output ML_x', async () => {
    const on = new OnKafka(tempDir(), kafka.bootstrap, {});
    onTestFinished(() => on.stop());
    const dir = tempDir();
    writeFileSync(join(dir, 'ml.json'), JSON.stringify({ bus: 'kafka', kafka: { brokers: [kafka.bootstrap] }, ml: { http: { port: 0 } } }));
    const { Running } = await import('../programs.ts');
    const ml = new Running('ml', ['run', '--config', join(dir, 'ml.json'), '--input', 'TP_solo', '--output', 'other.solo']);
    onTestFinished(async () => void (await ml.stop()));
    await ml.says('ml runs');
    const raw = recording('solo', 6).join('\n');
    await produce(kafka.bootstrap, 'TP_solo', keyed('solo', runOnce('aggregator', ['rates'], { input: raw }).stdout.trim().split('\n')));
    await until(async () => (await readCommitted(kafka.bootstrap, 'other.solo')).length === 4, 'the inferred records', 40_000);
  }, 60_000);

  it('with the broker away: ready says so, health stays well, nothing is lost', async () => {
    const on = new OnKafka(tempDir(), kafka.bootstrap, { routers: [{ away1: { interfaces: ['lo'], polling_interval: 0.2 } }] });
    onTestFinished(() => on.stop());
    const aggregator = await on.start('aggregator', 'central');
    const agent = await on.start('agent', 'edge', { agent: { id: 'away', uplink: 'kafka', http: { port: 0 } } });
    await until(async () => (await readCommitted(kafka.bootstrap, 'TP_away1')).length > 2, 'records', 40_000);
    await kafka.kill9();
    await until(async () => (await fetch(`${aggregator.url}/readyz`)).status === 503, 'not ready without a broker');
    expect((await fetch(`${aggregator.url}/healthz`)).status).toBe(200);
    await agent.says(/uplink: .*127\.0\.0\.1/);
    await kafka.restart();
    await until(async () => (await fetch(`${aggregator.url}/readyz`)).status === 200, 'ready again', 40_000);
    await until(
      async () => (await readCommitted(kafka.bootstrap, 'TP_away1')).some(({ headers }) => headers['ndt-replayed'] === '1'),
      'the backlog',
      40_000,
    );
    await agent.stop();
    const seqs = numbersOf([...(await readCommitted(kafka.bootstrap, 'TP_away1')), ...(await inventoriesOf('away1'))]);
    expect(seqs).toEqual(seqs.map((_, i) => (seqs[0] ?? 0) + i));
  }, 120_000);
});

/** In order. */
function numbersOf(messages: ReadonlyArray<{ headers: { [name: string]: string | undefined } }>): number[] {
  return messages.map(({ headers }) => Number(headers['ndt-seq'])).sort((a, b) => a - b);
}
