import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { HEADER, type Headers } from '../common/bus.ts';
import type { Inventory } from '../common/inventory.ts';
import { Metrics } from '../common/metrics.ts';
import { inventoryWith } from '../test/inventory.ts';
import { delivered, TOPICS } from '../test/telemetry.ts';
import { tempDir } from '../test/tempdir.ts';
import { Live } from './live.ts';
import { Store } from './store.ts';
import { StoreStage, storeTopics } from './store-stage.ts';

function openStore(topics = TOPICS): Store {
  const store = new Store(join(tempDir(), 'store.db'), topics);
  onTestFinished(() => store.close());
  return store;
}

const message = (inventory: Partial<Inventory>, seq: number | undefined, topic = 'ndt.inventory') => {
  const headers: Headers = seq === undefined ? {} : { [HEADER.agent]: inventory.agent ?? 'a1', [HEADER.seq]: String(seq) };
  return delivered(topic, JSON.stringify(inventoryWith(inventory)), headers);
};
const model = (name: string) => ({ system: { manufacturer: null, model: name, virtual: false } });
const modelOf = (store: Store, router = 'r1') => store.inventories.of(router)?.system.model;

it('keeps the newest inventory of each router, whole, once', () => {
  const store = openStore();
  const first = message({}, 7);
  expect(store.take([first, message({ router: 'r2', ...model('other') }, 8)])).toMatchObject({
    inventories: 2,
    deadLetters: [],
    stored: [],
  });
  expect(store.inventories.of('r1')).toEqual(inventoryWith({}));
  expect(store.inventories.of('r3')).toBeUndefined();
  store.take([first]);
  store.take([message(model('newer'), 20)]);
  // It waited out an outage, or its clock was wrong: the agent's numbers tell which is newer.
  store.take([message({ ...model('late'), collected_at: '1999999999' }, 12)]);
  expect(modelOf(store)).toBe('newer');
  expect(modelOf(store, 'r2')).toBe('other');
});

it('of two agents takes the later word', () => {
  const store = openStore();
  store.take([message({ ...model('one'), collected_at: '1000' }, 900)]);
  store.take([message({ ...model('two'), agent: 'a2', collected_at: '2000' }, 1)]);
  store.take([message({ ...model('one again'), collected_at: '1500' }, 901)]);
  expect(modelOf(store)).toBe('two');
});

it('makes dead letters of what is no inventory, or somebody else’s', () => {
  const store = openStore();
  const foreign = delivered('ndt.inventory', JSON.stringify(inventoryWith({ agent: 'a2' })), { [HEADER.agent]: 'a1', [HEADER.seq]: '1' });
  const { deadLetters, inventories } = store.take([foreign, delivered('ndt.inventory', '{"type":"inventory"}'), message({}, undefined)]);
  expect(inventories).toBe(1);
  expect(deadLetters.map(({ headers }) => headers[HEADER.reason])).toEqual([
    'agent: expected "a1", who sent it',
    'collected_at: expected Unix seconds as text, such as "1745233635.217"',
  ]);
});

it('reads a topic for each router as well, and counts them apart from records', () => {
  const topics = { ...TOPICS, inventory: 'INV_{router}' };
  const store = openStore(topics);
  expect(storeTopics(topics).matches('INV_r1')).toBe(true);
  const metrics = new Metrics();
  const live = new Live();
  onTestFinished(() => live.close());
  new StoreStage(store, live, metrics).handle([message({}, 1, 'INV_r1')]);
  expect(modelOf(store)).toBe('apu2');
  const text = metrics.print();
  expect(text).toContain('ndt_store_inventories_total 1\n');
  expect(text).not.toMatch(/ndt_stored_total\{/);
});
