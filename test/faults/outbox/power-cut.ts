/**
 * Power cuts: the agent's files as they stand at some moment, put back after the kill, and a kernel that says it was booted anew.
 *
 * Copied while the agent stands still, the files are what a power cut leaves of a disk that keeps what it was told to keep. Copied one after
 * the other while it runs, they are of different moments: worse than a disk does, and still nothing may be lost without a word.
 */
import { randomUUID } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { tempDir } from '../../tempdir.ts';
import { canMount } from './machine.ts';
import type { Figures, Row } from './report.ts';
import { Rig } from './rig.ts';

const FILES = ['outbox.db', 'outbox.db-wal', 'outbox.db.seq'];

/** Another boot's identity over the kernel's, for the agent alone. */
const booted = (file: string): string[] => [
  'unshare',
  '-m',
  'sh',
  '-c',
  'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"',
  file,
];

async function copyFiles(from: string, to: string, pause: () => Promise<void>): Promise<void> {
  mkdirSync(to, { recursive: true });
  for (const name of FILES.toSorted(() => Math.random() - 0.5)) {
    if (existsSync(join(from, name))) copyFileSync(join(from, name), join(to, name));
    await pause();
  }
}

function putBack(copy: string, folder: string): void {
  for (const name of readdirSync(folder)) if (name.startsWith('outbox.db')) rmSync(join(folder, name));
  for (const name of readdirSync(copy)) copyFileSync(join(copy, name), join(folder, name));
}

/**
 * @param still whether the files are of one moment
 * @param exact whether nothing may be lost
 */
export async function cutPower(rig: Rig, still: boolean, what: string, exact: boolean): Promise<void> {
  const kernel = join(tempDir(), 'boot_id');
  writeFileSync(kernel, `${randomUUID()}\n`);
  const agent = await rig.agent({ through: booted(kernel) });
  await rig.grows(1);
  await sleep(Math.random() * 900);
  const copy = tempDir();
  if (still) agent.signal('SIGSTOP');
  await copyFiles(rig.folder, copy, async () => {
    if (!still) await sleep(Math.random() * 60);
  });
  await agent.kill9();
  const highest = rig.arrived().at(-1) ?? 0;
  putBack(copy, rig.folder);
  // The machine comes up again.
  writeFileSync(kernel, `${randomUUID()}\n`);
  const after = await rig.agent({ through: booted(kernel) });
  expect(rig.books().last, `${what}: numbers go on above what has arrived`).toBeGreaterThanOrEqual(highest);
  await rig.grows(2);
  await after.stop();
  await rig.expectAgreement(what, exact);
}

async function powerCuts(times: number, still: boolean, durability: string): Promise<Figures> {
  const rig = await Rig.make({ buffer: { durability, memory_seconds: 0.5 } });
  // With `full`, what a process was told to be on the disk is there: only the torn files may lack any of it.
  const exact = still && durability === 'full';
  for (let round = 0; round < times; round += 1) {
    rig.tap.turn(round % 3 === 2 ? 'refuse' : 'pass');
    const what = `power cut ${round + 1} (${still ? 'files of one moment' : 'files of different moments'}, durability ${durability})`;
    await cutPower(rig, still, what, exact);
  }
  return await rig.finish('power cuts', exact);
}

const needs = canMount ? undefined : 'needs root, to give the agent another boot’s identity';

export const rows: Row[] = [
  {
    fault: 'power cut',
    how: 'files copied at a random moment while the agent stands still, put back after a kill, another boot id',
    times: 12,
    needs,
    timeoutMs: 600_000,
    run: (times) => powerCuts(times, true, 'full'),
  },
  {
    fault: 'power cut, torn',
    how: 'the same with the files copied one after the other while records flow',
    times: 12,
    needs,
    timeoutMs: 600_000,
    run: (times) => powerCuts(times, false, 'full'),
  },
  {
    fault: 'power cut, durability normal',
    how: 'as the first, with durability `normal`',
    times: 6,
    needs,
    timeoutMs: 600_000,
    run: (times) => powerCuts(times, true, 'normal'),
  },
  {
    fault: 'power cut, durability on-outage',
    how: 'as the first, with durability `on-outage`: what is in memory is lost, and named',
    times: 6,
    needs,
    timeoutMs: 600_000,
    run: (times) => powerCuts(times, true, 'on-outage'),
  },
];
