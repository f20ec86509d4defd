/** An outbox in a folder of a test's own, and what its promises are checked with. */
import { copyFileSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type NewRecord, Outbox, type OutboxEvent, type OutboxOptions } from '../agent/outbox.ts';
import type { Entry } from '../agent/uplink.ts';

/** The wall clock's ms at which the tests begin: the first sequence number as well. */
export const FIRST = 1_700_000_000_000;

export interface Gap {
  from: number;
  to: number;
  count: number;
  reason: string;
}

export function openOutbox(dir: string, change: Partial<OutboxOptions> = {}): Outbox {
  return new Outbox({
    file: join(dir, 'outbox.db'),
    agentId: 'a1',
    boot: 'b1',
    noticeTopic: 'ndt.notices',
    maxBytes: 2 ** 30,
    maxAgeMs: 0,
    nowMs: () => FIRST,
    kernelBoot: 'k1',
    fallbackMark: join(dir, 'fallback.seq'),
    ...change,
  });
}

/** Collects what an outbox reports. */
export function reports(): { events: OutboxEvent[]; report: (event: OutboxEvent) => void; text: () => string } {
  const events: OutboxEvent[] = [];
  return { events, report: (event) => events.push(event), text: () => events.map(({ message }) => message).join('\n') };
}

export const record = (body: string, key = 'r1'): NewRecord => ({ topic: `TP_${key}`, key, body });
export const records = (n: number, bytes = 10): NewRecord[] => Array.from({ length: n }, (_, i) => record(String(i).padEnd(bytes, '.')));

export function sum(counts: { [reason: string]: number }): number {
  return Object.values(counts).reduce((a, b) => a + b, 0);
}

/** The identities that hold at every moment; counts the rows as well. */
export function expectBalanced(outbox: Outbox): void {
  const { produced, delivered, pending, dropped, rejected } = outbox.ledger();
  expect({ produced, waits: outbox.count() }).toEqual({ produced: delivered + pending + sum(dropped) + sum(rejected), waits: pending });
}

/** Everything that waits, a batch at a time, without settling it. */
export function drainAll(outbox: Outbox, batch = 1000): Entry[] {
  const found: Entry[] = [];
  for (let above = 0; ; ) {
    const entries = outbox.read('all', batch, above);
    const last = entries.at(-1);
    if (last === undefined) return found;
    found.push(...entries);
    above = last.seq;
  }
}

export function gapsOf(outbox: Outbox): Gap[] {
  return outbox
    .notices(100_000)
    .map(({ body }) => JSON.parse(body) as Gap & { type: string })
    .filter(({ type }) => type === 'gap');
}

/** The files as they stand, in a new folder: what a power cut leaves. */
export function copyFiles(from: string, to: string): string {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from)) {
    if (/^(outbox\.db(-wal|\.seq)?|fallback\.seq)$/.test(name) && existsSync(join(from, name)))
      copyFileSync(join(from, name), join(to, name));
  }
  return to;
}
