import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { expectExactlyOnce, expectOrder } from '../exactly-once.ts';
import { Pair } from '../programs.ts';
import { tempDir } from '../tempdir.ts';

const ROUNDS = 20;

/** Eight routers, all of them this machine's loopback, ten times a second. */
const routers = Array.from({ length: 8 }, (_, i) => ({ [`r${i}`]: { interfaces: ['lo'], polling_interval: 0.1 } }));

it(`kill -9 of agent and aggregator at random moments, ${ROUNDS} rounds while records flow: every record once`, async () => {
  const pair = await Pair.make(tempDir(), { routers });
  onTestFinished(() => pair.stop());
  let aggregator = await pair.aggregator();
  let agent = await pair.agent();
  for (let round = 0; round < ROUNDS; round += 1) {
    await sleep(100 + Math.random() * 700);
    const which = round % 3;
    if (which !== 1) await agent.kill9();
    if (which !== 0) await aggregator.kill9();
    if (which !== 0) aggregator = await pair.aggregator();
    if (which !== 1) agent = await pair.agent();
  }
  await sleep(500);
  expect(await agent.stop()).toEqual({ code: 0, signal: null });
  const produced = await expectExactlyOnce(pair).catch(async () => {
    // What the last stop left in the outbox goes out with the next start.
    agent = await pair.agent();
    await sleep(1000);
    await agent.stop();
    return expectExactlyOnce(pair);
  });
  expect(produced).toBeGreaterThan(ROUNDS * 8);
  expectOrder(pair);
  expect(await aggregator.stop()).toEqual({ code: 0, signal: null });
}, 180_000);
