import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { expectExactlyOnce, expectOrder } from '../exactly-once.ts';
import { Pair } from '../programs.ts';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

const AWAY_MS = 60_000;
const INTERVAL_S = 0.25;

it('the aggregator is away for 60 s: everything arrives, at its own time and in order, and is marked as replayed', async () => {
  const pair = await Pair.make(tempDir(), {
    polling_interval: INTERVAL_S,
    routers: [{ r1: { interfaces: ['lo'] } }, { r2: { interfaces: ['lo'] } }],
  });
  onTestFinished(() => pair.stop());
  const before = await pair.aggregator();
  const agent = await pair.agent();
  await until(() => pair.stored('inferred').length > 4, 'records before the outage');
  await before.stop();
  const away = Date.now();
  await sleep(AWAY_MS);
  expect(pair.ledger().pending).toBeGreaterThan((2 * AWAY_MS) / 1000 / INTERVAL_S - 20);
  const back = Date.now();
  await pair.aggregator();
  // The agent waits 15 s between tries at most.
  await until(() => pair.ledger().pending < 5, 'the backlog to drain', 30_000);
  await agent.stop();
  const produced = await expectExactlyOnce(pair);
  expectOrder(pair);
  const during = pair.stored('inferred').filter(({ router, at }) => router === 'r1' && at > away * 1000 && at < back * 1000);
  // One record an interval all through the outage; a busy machine may skip a tick, never two in a row.
  expect(during.length).toBeGreaterThanOrEqual((AWAY_MS / 1000 / INTERVAL_S) * 0.95);
  during.slice(1).forEach(({ at }, i) => {
    expect(at - (during[i]?.at ?? 0)).toBeLessThan(INTERVAL_S * 1e6 * 2.5);
  });
  const { records } = await pair.get<{ records: unknown[] }>(
    `/api/v1/records?router=r1&stage=processed&from=${away / 1000}&to=${back / 1000}&limit=1000`,
  );
  expect(records.length).toBe(during.length);
  const { agents } = await pair.get<{ agents: Array<{ received: { records: number }; difference: number; missing: { count: number } }> }>(
    '/api/v1/ledger',
  );
  expect(agents[0]).toMatchObject({ received: { records: produced }, difference: 0, missing: { count: 0 } });
  const router = await pair.get<{ processed: { replayed: boolean } }>('/api/v1/routers/r1');
  expect(router.processed.replayed).toBe(false);
}, 180_000);
