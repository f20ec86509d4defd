import { expect, it } from 'vitest';
import { inventoryWith } from '../test/inventory.ts';
import { MOST_INTERFACES, parseInventory, parseMachine } from './inventory.ts';

it('takes an inventory as an agent writes it, and what is missing for null', () => {
  const whole = inventoryWith({});
  expect(parseInventory(JSON.stringify(whole))).toEqual(whole);
  const { interfaces_left_out: _, ...older } = { ...whole, system: {}, interfaces: [{ name: 'eth0' }] };
  expect(parseInventory(JSON.stringify({ ...older, something: 'new' }))).toEqual({
    ...whole,
    system: { manufacturer: null, model: null, virtual: null },
    interfaces: [{ ...inventoryWith({}).interfaces[1], name: 'eth0', mac: null, mtu: null, state: null, virtual: null }],
  });
});

const [first] = inventoryWith({}).interfaces;
it.each([
  ['type: expected', { type: 'ledger' }],
  ['router: expected text', { router: '' }],
  ['agent: expected text', { agent: 7 }],
  ['collected_at: expected Unix seconds', { collected_at: 1745233635.2 }],
  ['collected_at: expected Unix seconds', { collected_at: 'today' }],
  ['system: expected an object', { system: null }],
  ['os.kernel: expected text of 1 to 256', { os: { kernel: 'x'.repeat(257) } }],
  ['cpu.cores: expected a whole number above 0', { cpu: { cores: 1.5 } }],
  ['cpu.speed_ghz: expected a number above 0', { cpu: { speed_ghz: 0 } }],
  ['system.virtual: expected true, false or null', { system: { virtual: 'no' } }],
  ['memory.total_bytes: expected', { memory: { total_bytes: '1' } }],
  ['interfaces: expected a list', { interfaces: {} }],
  ['interfaces: expected a list of at most 1000', { interfaces: Array.from({ length: MOST_INTERFACES + 1 }, () => first) }],
  ['interfaces[1].name: expected text', { interfaces: [first, { ...first, name: '' }] }],
  ['ndt: expected an object', { ndt: undefined }],
])('says what is wrong: %s', (message, change) => {
  expect(() => parseInventory(JSON.stringify({ ...inventoryWith({}), ...change }))).toThrow(message);
});

it('is no inventory: no JSON, no object', () => {
  expect(() => parseInventory('{')).toThrow('not JSON');
  expect(() => parseMachine('[]')).toThrow('expected an object');
});
