/**
 * The promise, checked: every record an agent ever produced is in the store exactly once, processed and inferred, and nothing else is.
 * Inventories have numbers of the same row, and are not among those: each of them came in exactly once as well.
 */
import { expect } from 'vitest';
import type { Pair } from './programs.ts';
import { until } from './until.ts';

/** Waits until the outbox is empty and the store has caught up, then compares number by number. Returns how many records it were, inventories among them. */
export async function expectExactlyOnce(pair: Pair, timeoutMs = 30_000): Promise<number> {
  await until(() => pair.ledger().pending === 0, 'the outbox to be empty', timeoutMs);
  const { first, last } = pair.ledger();
  const produced = last - first + 1;
  const numbers = (stage: 'processed' | 'inferred') => pair.stored(stage).map(({ seq }) => seq);
  const inventories = () => pair.inventories().map(({ seq }) => seq);
  await until(() => numbers('inferred').length + inventories().length >= produced, `${produced} inferred records in the store`, timeoutMs);
  const others = inventories();
  expect(others).toEqual([...new Set(others)]);
  const wanted = Array.from({ length: produced }, (_, i) => first + i).filter((seq) => !others.includes(seq));
  expect(numbers('processed')).toEqual(wanted);
  expect(numbers('inferred')).toEqual(wanted);
  return produced;
}

/** Event times of each router strictly increase with the sequence numbers. */
export function expectOrder(pair: Pair): void {
  const last = new Map<string, number>();
  for (const { router, at } of pair.stored('processed')) {
    expect(at).toBeGreaterThan(last.get(router) ?? 0);
    last.set(router, at);
  }
}
