import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Loaded, loadConfig } from '../common/config.ts';
import { type Machine, parseInventory } from '../common/inventory.ts';
import { inventoryWith } from '../test/inventory.ts';
import { testLog } from '../test/mqtt-rig.ts';
import { tempDir } from '../test/tempdir.ts';
import { InventoryTaker } from './inventory.ts';
import type { NewRecord } from './outbox.ts';

const { type: _type, router: _router, agent: _agent, collected_at: _at, ndt: _ndt, ...machine } = inventoryWith({});
const DAY_MS = 86_400_000;

function loaded(settings: object): Loaded {
  const file = join(tempDir(), 'ndt.json');
  writeFileSync(file, JSON.stringify(settings));
  return loadConfig(file, {});
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

async function taker(read: (root: string, signal: AbortSignal) => Promise<Machine> = () => Promise.resolve(machine)) {
  const { log, lines } = await testLog();
  const taken: NewRecord[][] = [];
  const roots: string[] = [];
  const inventory = new InventoryTaker({
    agentId: 'edge',
    clock: { nowMicros: () => Date.now() * 1000, monotonicNs: () => BigInt(Math.round(performance.now() * 1e6)) },
    log,
    append: (records) => void taken.push(records),
    read: (root, signal) => {
      roots.push(root);
      return read(root, signal);
    },
  });
  const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
  return { inventory, taken, roots, lines, pass };
}

describe('when inventories are made', () => {
  it('after the first poll and a moment, then once in every interval', async () => {
    const { inventory, taken, pass } = await taker();
    inventory.configure(loaded({ routers: [{ r1: {} }] }));
    await pass(DAY_MS);
    expect(taken).toHaveLength(0);
    inventory.polled();
    await pass(1900);
    expect(taken).toHaveLength(0);
    for (let i = 0; i < 100; i += 1) inventory.polled();
    await pass(200);
    expect(taken).toHaveLength(1);
    await pass(DAY_MS);
    expect(taken).toHaveLength(2);
    inventory.stop();
    await pass(5 * DAY_MS);
    expect(taken).toHaveLength(2);
  });

  it('never with an interval of 0, and never of routers that are other machines', async () => {
    for (const settings of [
      { routers: [{ r1: {} }], inventory: { interval: 0 } },
      {
        routers: [
          { r1: { url: 'http://192.0.2.1:9100/metrics' } },
          { r2: { test_metrics: true } },
          { r3: { collector_url: 'http://192.0.2.1/x' } },
        ],
      },
    ]) {
      const { inventory, roots, pass } = await taker();
      inventory.configure(loaded(settings));
      inventory.polled();
      await pass(3 * DAY_MS);
      expect(roots).toEqual([]);
    }
  });

  it('anew when the routers of this machine change, and not when anything else does', async () => {
    const { inventory, taken, pass } = await taker();
    const first = { routers: [{ r1: {} }] };
    inventory.configure(loaded(first));
    inventory.polled();
    await pass(3000);
    inventory.configure(loaded({ ...first, experiment_id: '2', polling_interval: 1 }));
    inventory.configure(loaded({ routers: [{ r1: { interfaces: ['eth0'] } }, { r2: { test_metrics: true } }] }));
    await pass(3000);
    expect(taken).toHaveLength(1);
    inventory.configure(loaded({ routers: [{ r1: {} }, { r3: {} }] }));
    await pass(3000);
    expect(taken.map((records) => records.map(({ key }) => key))).toEqual([['r1'], ['r1', 'r3']]);
    // A shorter interval counts from the last one.
    inventory.configure(loaded({ routers: [{ r1: {} }, { r3: {} }], inventory: { interval: 60 } }));
    await pass(61_000);
    expect(taken).toHaveLength(3);
  });

  it('at the change also where it comes while one is under way', async () => {
    const gate = Promise.withResolvers<Machine>();
    const { inventory, taken, pass } = await taker(() => gate.promise);
    inventory.configure(loaded({ routers: [{ r1: {} }] }));
    inventory.polled();
    await pass(3000);
    inventory.configure(loaded({ routers: [{ r2: {} }] }));
    await pass(5000);
    gate.resolve(machine);
    await pass(10);
    expect(taken.map((records) => records.map(({ key }) => key))).toEqual([['r1'], ['r2']]);
  });
});

describe('what they are', () => {
  it('records of every router that is this machine, the machine read once for each proc file system', async () => {
    const { inventory, taken, roots, pass } = await taker();
    inventory.configure(
      loaded({
        topics: { inventory: 'INV_{router}' },
        routers: [{ r1: {} }, { r2: { node_exporter: '192.0.2.7:9100' } }, { r3: { procfs_root: '/host/proc/1' } }],
      }),
    );
    inventory.polled();
    await pass(3000);
    expect(roots).toEqual(['/proc', '/host/proc/1']);
    const [records = []] = taken;
    expect(records.map(({ topic, key }) => ({ topic, key }))).toEqual(['r1', 'r2', 'r3'].map((key) => ({ topic: `INV_${key}`, key })));
    // Under the name that its records have.
    expect(records.map(({ body }) => parseInventory(body).router)).toEqual(['r1', '192.0.2.7', 'r3']);
    expect(parseInventory(records[0]?.body ?? '')).toMatchObject({ agent: 'edge', ...machine, ndt: { node: process.versions.node } });
  });
});

describe('a failure', () => {
  it('is one line, is tried again within the hour, and is over when it works', async () => {
    let broken = true;
    const { inventory, taken, lines, pass } = await taker(() =>
      broken ? Promise.reject(new Error('it ended with code 3')) : Promise.resolve(machine),
    );
    inventory.configure(loaded({ routers: [{ r1: {} }] }));
    inventory.polled();
    await pass(3000);
    const warnings = () => lines.filter((line) => line.includes('failed'));
    expect(warnings()).toHaveLength(1);
    expect(warnings()[0]).toContain(
      "inventory: the process that reads this machine failed, and the routers' records go on without it: it ended with code 3",
    );
    await pass(3_600_000);
    expect(warnings()).toHaveLength(1);
    broken = false;
    await pass(3_600_000);
    expect(taken).toHaveLength(1);
    expect(lines.join('\n')).toContain('well again');
    await pass(DAY_MS);
    expect(taken).toHaveLength(2);
  });

  it('at the end of the agent is none', async () => {
    const { inventory, taken, lines, pass } = await taker(
      (_root, signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('the agent stops')))),
    );
    inventory.configure(loaded({ routers: [{ r1: {} }] }));
    inventory.polled();
    await pass(3000);
    inventory.stop();
    await pass(10 * DAY_MS);
    expect([taken, lines.filter((line) => line.includes('failed'))]).toEqual([[], []]);
  });
});
