/** kill -9 at a chosen call to the system: before the n-th write, before the n-th wait for the disk, and so on. */
import { closeSync, openSync, statSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { findProgram } from '../../../scripts/programs.ts';
import { type Figures, inTwo, type Row } from './report.ts';
import { type Agent, loopback, Rig } from './rig.ts';

const STRACE = findProgram('strace');
export const needsForKill = STRACE === undefined ? 'needs Debian’s strace' : undefined;

export interface KillPoint {
  call: string;
  /** Before the how many-th of them. */
  n: number;
}

/**
 * The calls that change a file, and those to the uplink; how many of them belong to a start with what comes right after it, and how far to
 * go later. The calls with more places come more often.
 */
const CALLS: ReadonlyArray<{ call: string; start: number; later: number; share: number }> = [
  { call: 'pwrite64', start: 40, later: 500, share: 9 },
  { call: 'fsync', start: 8, later: 50, share: 5 },
  { call: 'ftruncate', start: 4, later: 8, share: 2 },
  { call: 'writev', start: 4, later: 30, share: 2 },
  { call: 'fdatasync', start: 1, later: 2, share: 1 },
  { call: 'unlink', start: 1, later: 1, share: 1 },
];
const LONGEST_MS = 90_000;
/** A repair may have no such call any more; then it is killed at some moment after it. */
const AFTER_REPAIR_MS = 500;

const killAt = ({ call, n }: KillPoint): string[] => [
  STRACE ?? 'strace',
  ...['-f', '-qq', '-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:signal=KILL:when=${n}`],
];

/** Each call again and again: every second time at the start, one place after the other; the other times anywhere later. */
function* points(): Generator<KillPoint> {
  const turns = CALLS.flatMap((entry) => Array.from({ length: entry.share }, () => entry));
  const used = new Map<string, number>();
  for (let i = 0; ; i += 1) {
    // Seven has no factor in common with the number of turns: all of them come, well mixed.
    const { call, start, later } = turns[(i * 7) % turns.length] ?? { call: 'fsync', start: 1, later: 1 };
    const k = used.get(call) ?? 0;
    used.set(call, k + 1);
    yield { call, n: k % 2 === 0 ? 1 + ((k / 2) % start) : start + Math.ceil(Math.random() * (later - start)) };
  }
}

function expectKilled(agent: Agent, how: number | NodeJS.Signals | null): void {
  expect(how === 'SIGKILL' || how === 137, `the agent ended by itself (${String(how)}):\n${agent.log.slice(-3000)}`).toBe(true);
}

/** Starts the agent, which is killed at the call. */
export async function killOnce(rig: Rig, point: KillPoint): Promise<void> {
  const what = `killed before ${point.call} ${point.n}`;
  const agent = rig.launch({ through: killAt(point) });
  const how = await Promise.race([agent.exited, sleep(LONGEST_MS, 'late' as const, { ref: false })]);
  if (how === 'late') throw new Error(`${what}: the call never came;\n${agent.log.slice(-3000)}`);
  expectKilled(agent, how);
  await rig.expectAgreement(what, true);
}

async function killRounds(times: number): Promise<Figures> {
  const rig = await Rig.make({ routers: loopback(4, 0.05) });
  await (await rig.agent()).kill9();
  const at = points();
  for (let round = 0; round < times; round += 1) {
    const point = at.next().value as KillPoint;
    // Now and then nobody takes anything, so that the next rounds have a backlog to settle.
    rig.tap.turn(round % 5 === 3 && point.call !== 'writev' ? 'refuse' : 'pass');
    await killOnce(rig, point);
  }
  return await rig.finish('kill -9', true);
}

/** A damaged file, and a kill at a call of its repair. */
export async function killInRepair(rig: Rig, point: KillPoint, alsoPages: boolean): Promise<void> {
  rig.tap.turn('refuse');
  const before = await rig.agent();
  await rig.grows(10);
  await before.stop();
  const { size } = statSync(rig.file);
  const fd = openSync(rig.file, 'r+');
  // The first page: the file cannot be opened as it is, and every record can be saved.
  writeSync(fd, Buffer.alloc(100, 0xff), 0, 100, 0);
  if (alsoPages) {
    const page = 12 + Math.floor(Math.random() * Math.max(1, size / 4096 - 13));
    writeSync(fd, Buffer.alloc(4096, 0xff), 0, 4096, 4096 * page);
  }
  closeSync(fd);
  const repairing = rig.launch({ through: killAt(point) });
  const how = await Promise.race([repairing.exited, repairing.runs().then(() => sleep(AFTER_REPAIR_MS, 'late' as const))]).catch(
    () => repairing.exited,
  );
  if (how === 'late') await repairing.kill9();
  else expectKilled(repairing, how);
  rig.tap.turn('pass');
  const after = await rig.agent();
  await rig.grows(5);
  await after.kill9();
  await rig.expectAgreement(`killed in a repair before ${point.call} ${point.n}`, false);
}

async function killsInRepair(times: number): Promise<Figures> {
  const rig = await Rig.make({ routers: loopback(4, 0.05) });
  const calls = ['rename', 'fsync', 'unlink', 'pwrite64', 'fdatasync'];
  for (let round = 0; round < times; round += 1) {
    const call = calls[round % calls.length] ?? 'rename';
    const n = 1 + Math.floor(round / calls.length) * (call === 'pwrite64' ? 7 : 1);
    await killInRepair(rig, { call, n }, round % 2 === 1);
  }
  return await rig.finish('kill -9 in a repair', false);
}

export const rows: Row[] = [
  {
    fault: 'kill -9 before a write',
    how: 'strace injects SIGKILL before the n-th pwrite64, fsync, fdatasync, ftruncate, unlink, or writev to the uplink',
    times: 220,
    needs: needsForKill,
    timeoutMs: 900_000,
    run: (times) => inTwo(times, killRounds),
  },
  {
    fault: 'kill -9 during a repair',
    how: 'a damaged file, and SIGKILL before the n-th rename, fsync, unlink or write of its repair',
    times: 20,
    needs: needsForKill,
    timeoutMs: 600_000,
    run: (times) => inTwo(times, killsInRepair),
  },
];
