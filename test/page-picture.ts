/** Makes docs/page.png anew: `node test/page-picture.ts`. Real store, API, page and model; the traffic is made up, and the same every time. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../common/config.ts';
import { loadModels } from '../ml/worker.ts';
import { inventoryWith } from './inventory.ts';
import { PageBackend } from './page-backend.ts';
import { launchChromium } from './real/chromium.ts';
import { delivered, deliveredPair, TOPICS } from './telemetry.ts';

const HISTORY_S = 900;
const MBIT = 1e6;

interface Router {
  router: string;
  agent: string;
  /** Packets/s in the middle, and how far it goes up and down. */
  middle: number;
  swing: number;
  /** Average packet length [bytes]. */
  length: number;
  capacityMbps: number;
  /** Seconds ago between which nothing came. */
  outages: Array<[number, number]>;
}

const ROUTERS: Router[] = [
  { router: 'core-1', agent: 'rack-7', middle: 24_000, swing: 14_000, length: 492, capacityMbps: 1000, outages: [[480, 420]] },
  { router: 'edge-a', agent: 'pop-west', middle: 14, swing: 6, length: 789, capacityMbps: 1000, outages: [] },
  { router: 'edge-b', agent: 'rack-7', middle: 70_000, swing: 9000, length: 1110, capacityMbps: 1000, outages: [] },
];

let seed = 7;
function random(): number {
  seed = (seed * 48_271) % 2_147_483_647;
  return seed / 2_147_483_647;
}

const dir = mkdtempSync(join(tmpdir(), 'ndt-picture-'));
const loaded = loadConfig(undefined, {});
const model = (await loadModels(loaded)).get(loaded.config.ml.default_type);
const backend = new PageBackend(dir);
const numbers = new Map<string, number>();
const walks = new Map<string, number>();

async function report(agoS: number): Promise<void> {
  for (const { router, agent, middle, swing, length, capacityMbps, outages } of ROUTERS) {
    // A walk that is drawn back to the middle.
    const walk = (walks.get(router) ?? 0) * 0.97 + (random() - 0.5) * 0.35;
    walks.set(router, walk);
    if (outages.some(([from, to]) => agoS <= from && agoS >= to)) continue;
    const seq = (numbers.get(agent) ?? 0) + 1;
    numbers.set(agent, seq);
    if (agent === 'pop-west' && seq > 40 && seq <= 42) continue;
    backend.seen.add(agent, seq);
    const rate = Math.max(0.01 * middle, middle + walk * swing);
    const bytes = length * (1 + (random() - 0.5) * 0.1);
    const occupation = (rate * bytes * 8 * 100) / (capacityMbps * MBIT);
    const [inference] = (await model?.infer([{ occupation: occupation / 100, packetLength: bytes }])) ?? [];
    const latency = { collected: 0.8 + random(), processed: 2 + random(), inferred: 5 + 8 * random() ** 3 };
    const at = Math.round((Date.now() - agoS * 1000) * 1000);
    backend.stage.handle(
      deliveredPair({ router, at, rate, length: bytes, occupation, power: inference?.power ?? 0, latency }, seq, { agent }),
    );
  }
}

function notice(fields: object): void {
  backend.stage.handle([delivered(TOPICS.notices, JSON.stringify({ ...fields, boot: 'b1', at: Date.now() }))]);
}

for (let ago = HISTORY_S; ago > 0; ago -= 1) await report(ago);
for (const { router, agent } of ROUTERS) {
  backend.stage.handle([
    delivered(TOPICS.inventory, JSON.stringify(inventoryWith({ router, agent, collected_at: String(Date.now() / 1000) }))),
  ]);
}
for (const [agent, last] of numbers) {
  const lost = agent === 'pop-west' ? 2 : 0;
  if (lost > 0) notice({ type: 'gap', agent, from: 41, to: 42, count: lost, reason: 'buffer_full' });
  const dropped = lost > 0 ? { buffer_full: lost } : {};
  notice({
    type: 'ledger',
    agent,
    first: 1,
    last: last + 3,
    produced: last + 3,
    delivered: last - lost,
    pending: 3,
    dropped,
    rejected: {},
  });
}

await backend.start();
const browser = await launchChromium();
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 984 }, colorScheme: 'light' });
  await page.goto(backend.url);
  const last = setInterval(() => void report(0), 1000);
  await page.getByText('live', { exact: true }).waitFor();
  await page.getByRole('button', { name: '15 min' }).click();
  // Some live records are on the charts by then.
  await page.waitForTimeout(5000);
  clearInterval(last);
  await page.screenshot({ path: fileURLToPath(new URL('../docs/page.png', import.meta.url)), fullPage: true });
} finally {
  await browser.close();
  await backend.close();
  rmSync(dir, { recursive: true });
}
