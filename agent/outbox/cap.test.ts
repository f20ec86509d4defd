import { describe, expect, it } from 'vitest';
import { LOCKED, planWrites, underTest } from '../../test/failing-disk.ts';
import { expectBalanced, openOutbox, record, records } from '../../test/outbox.ts';
import { tempDir } from '../../test/tempdir.ts';
import type { Outbox } from '../outbox.ts';

const MIB = 2 ** 20;
function fillBeyond(outbox: Outbox, text: string): void {
  const enough = () => (outbox.ledger().dropped.buffer_full ?? 0) >= 500;
  for (let i = 0; i < 2000 && !enough(); i += 1) outbox.append(Array(20).fill(record(text)));
  expect(enough()).toBe(true);
}

describe.each([
  ['of which a page takes one, and half of it stays empty', 'x', 2050, 32, 700],
  ['that are not ASCII', '漢', 300, 8, 300],
  ['that are longer than a page, and not ASCII', '漢', 1400, 8, 300],
])('a buffer at its cap, of records %s', (_name, letter, length, mib, waiting) => {
  it('takes in what waited in memory, for as long as it goes on', () => {
    const dir = tempDir();
    const { options, clock, told } = underTest(dir);
    const outbox = openOutbox(dir, { ...options, maxBytes: mib * MIB });
    const text = letter.repeat(length);
    fillBeyond(outbox, text);
    planWrites(LOCKED);
    for (let i = 0; i < waiting; i += 5) outbox.append(Array(5).fill(record(text)));
    expect(outbox.stats().memory.records).toBe(waiting);
    for (let i = 0; i < 10; i += 1) {
      clock.monotonic += 40_000;
      outbox.maintain();
      expect(outbox.whereabouts(), told.text()).toEqual({ where: 'disk', cause: undefined });
      for (let k = 0; k < 10; k += 1) outbox.append(Array(5).fill(record(text)));
    }
    expectBalanced(outbox);
    expect(Object.keys(outbox.ledger().dropped)).toEqual(['buffer_full']);
    expect(outbox.stats().bytes).toBeLessThanOrEqual(mib * MIB);
    outbox.close();
  });
});

describe('a record that would not fit an empty buffer', () => {
  it('is dropped itself, and drives nothing out of the memory', () => {
    const dir = tempDir();
    const { options, disk } = underTest(dir);
    disk.mounted = false;
    const outbox = openOutbox(dir, { ...options, memoryBytes: 100_000 });
    outbox.append(records(100, 100));
    outbox.append([record('x'.repeat(200_000))]);
    expect(outbox.ledger()).toMatchObject({ pending: 100, dropped: { memory_full: 1 } });
    expectBalanced(outbox);
  });

  it('nor off the disk', () => {
    const dir = tempDir();
    const outbox = openOutbox(dir, { ...underTest(dir).options, maxBytes: MIB });
    outbox.append(records(100, 100));
    outbox.append([record('x'.repeat(2_000_000))]);
    expect(outbox.ledger()).toMatchObject({ pending: 100, dropped: { buffer_full: 1 } });
    expectBalanced(outbox);
  });

  it('is kept where only the memory is too small for it and the disk is well', () => {
    const dir = tempDir();
    const outbox = openOutbox(dir, { ...underTest(dir).options, durability: 'on-outage', memoryBytes: 100_000 });
    outbox.append(records(3));
    outbox.append([record('x'.repeat(200_000))]);
    expect(outbox.ledger()).toMatchObject({ pending: 4, dropped: {} });
    expectBalanced(outbox);
  });
});
