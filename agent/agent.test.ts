import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, onTestFinished, test, vi } from 'vitest';
import { loadConfig } from '../common/config.ts';
import { RECEIVED_BYTES, RECEIVED_PACKETS } from '../common/record.ts';
import { writeConfig } from '../test/buffer.ts';
import { serve } from '../test/serve.ts';
import { tempDir } from '../test/tempdir.ts';
import { until } from '../test/until.ts';
import { Agent } from './agent.ts';
import { Figures } from './buffer/running.ts';

const LO = { interfaces: ['lo'], polling_interval: 0.1 };

type Settings = Parameters<typeof writeConfig>[1];

const loadedFrom = (dir: string, settings: Settings) => loadConfig(writeConfig(dir, { inventory: { interval: 0 }, ...settings }), {});

/** An agent within this process; `reload` gives it other settings. */
async function started(settings: Settings) {
  const dir = tempDir();
  const agent = await Agent.start(loadedFrom(dir, settings), pino({ level: 'silent' }));
  onTestFinished(() => agent.stop());
  const polls = async (router: string) =>
    new Figures(await (await fetch(`${agent.url}/metrics`)).text()).get('ndt_polls_total', { router }) ?? 0;
  return {
    agent,
    reload: (next: Settings) => agent.reload(loadedFrom(dir, next)),
    failing: async () => ((await (await fetch(`${agent.url}/readyz`)).json()) as { routers_failing: string[] }).routers_failing,
    /** Resolves when the router was polled some times more, well or not. */
    morePolls: async (router: string) => {
      const before = await polls(router);
      await until(async () => (await polls(router)) > before + 3, `polls of ${router}`, 5000);
    },
  };
}

/** A router that takes requests and answers none; `asked` has how many. */
async function silent(): Promise<{ url: string; asked: () => number }> {
  let requests = 0;
  const { url } = await serve(() => {
    requests += 1;
  });
  return { url: `${url}/metrics`, asked: () => requests };
}

test.each([
  [
    'whose uplink cannot be made',
    { routers: [{ r1: LO }], agent: { uplink: 'kafka' }, kafka: { sasl: { username: 'edge', password_file: 'missing' } } },
    /^kafka\.sasl\.password_file: cannot read .*missing \(ENOENT\)/,
  ],
  [
    'with a router that cannot be made',
    { routers: [{ r1: LO }, { tm: { test_metrics: true } }] },
    /test_metrics_tm\.json: there is no such file/,
  ],
])('a configuration %s is refused, and the old one stays in force', async (_what, next, message) => {
  const { reload, morePolls } = await started({ routers: [{ r1: LO }] });
  await morePolls('r1');
  await expect(reload(next)).rejects.toThrow(message);
  await morePolls('r1');
});

test('a reload does not wait for a router that hangs: the others are polled, and the new ones too', async () => {
  const { url, asked } = await silent();
  const slow = { slow: { url, polling_interval: 0.1 } };
  const { reload, morePolls } = await started({ routers: [{ r1: LO }, slow], agent: { timeout: 60 } });
  await until(() => asked() === 1, 'the slow router to be asked');
  const reloaded = reload({ routers: [{ r1: LO }, slow, { r3: LO }], agent: { timeout: 60 } });
  await Promise.all([morePolls('r1'), morePolls('r3')]);
  await reloaded;
  await until(() => asked() === 2, 'the slow router to be asked again');
});

test('a router that is slow within agent.timeout is no sign of a stuck agent; one that exceeds it by far is', async () => {
  const { url, asked } = await silent();
  const { agent } = await started({ routers: [{ slow: { url, polling_interval: 0.1 } }], agent: { timeout: 300 } });
  await until(() => asked() === 1, 'the router to be asked');
  const now = performance.now.bind(performance);
  const stuckIn = (seconds: number) => {
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now() + seconds * 1000);
    try {
      return agent.stuck().filter((what) => what.startsWith('polling'));
    } finally {
      clock.mockRestore();
    }
  };
  expect(stuckIn(290)).toEqual([]);
  expect(stuckIn(400)).toEqual([expect.stringMatching(/^polling slow has not got on for \d+ s more than it may take$/)]);
});

test('routers whose addresses a reload swaps: the counters of one are no measure for those of the other', async () => {
  let asked = 0;
  const { url } = await serve((request, response) => {
    asked += 1;
    const [bytes, packets] = request.url?.startsWith('/small') ? [1000, 10] : [5e12, 5e9];
    response.end(`${RECEIVED_BYTES}{device="eth0"} ${bytes + asked}\n${RECEIVED_PACKETS}{device="eth0"} ${packets + asked}\n`);
  });
  const at = (r1: string, r2: string) => ({
    routers: [{ r1: { url: `${url}/${r1}`, polling_interval: 0.1 } }, { r2: { url: `${url}/${r2}`, polling_interval: 0.1 } }],
  });
  const { agent, reload, morePolls } = await started(at('small', 'large'));
  const both = () => Promise.all([morePolls('r1'), morePolls('r2')]);
  await both();
  await reload(at('large', 'small'));
  const before = agent.outbox.read('all', 1000).length;
  await both();
  const occupations = agent.outbox.read('all', 1000).map(({ body }) => {
    const { input_ml_metrics } = JSON.parse(body) as { input_ml_metrics: Array<{ value: number }> };
    return input_ml_metrics[2]?.value ?? Number.NaN;
  });
  expect(occupations.length).toBeGreaterThan(before);
  expect(Math.max(...occupations)).toBeLessThan(1);
});

test('a router that a reload takes away no longer counts as failing', async () => {
  const { reload, failing } = await started({
    routers: [{ r1: LO }, { gone: { url: 'http://127.0.0.1:9/metrics', polling_interval: 0.1 } }],
  });
  await until(async () => (await failing()).includes('gone'), 'it to fail');
  await reload({ routers: [{ r1: LO }] });
  expect(await failing()).toEqual([]);
});

test('an empty token file lets nobody in, not even the agent', async () => {
  const dir = tempDir();
  writeFileSync(join(dir, 'token'), '\n');
  const loaded = loadedFrom(dir, { agent: { http: { host: '0.0.0.0', port: 0, token_file: 'token' } } });
  await expect(Agent.start(loaded, pino({ level: 'silent' }))).rejects.toThrow(/^agent\.http\.token_file: .*token is empty/);
});
