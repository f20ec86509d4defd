/** A disk that is full, read-only, failing or slow for some seconds while records flow, with and without a kill meanwhile. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { findProgram } from '../../../scripts/programs.ts';
import { until } from '../../until.ts';
import { canMount, mountSmallDisk, type SmallDisk } from './machine.ts';
import type { Row } from './report.ts';
import { type Agent, loopback, Rig } from './rig.ts';

const STRACE = findProgram('strace');

/** Makes calls of a running agent fail, until `heal`; `check` throws where the tracer has ended by itself. */
async function failing(agent: Agent, calls: string, how: string): Promise<{ check: () => true; heal: () => Promise<void> }> {
  const tracer = spawn(
    STRACE ?? 'strace',
    ['-f', '-o', '/dev/null', '-p', String(agent.pid), '-e', `trace=${calls}`, '-e', `inject=${calls}:${how}`],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  tracer.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const exited = new Promise((resolve) => tracer.once('close', resolve));
  await until(() => said.includes('attached'), 'strace to attach', 60_000);
  return {
    check: () => {
      if (tracer.exitCode === null && tracer.signalCode === null) return true;
      throw new Error(`strace has ended (${tracer.exitCode ?? tracer.signalCode}): ${said}`);
    },
    heal: async () => {
      tracer.kill('SIGINT');
      await exited;
    },
  };
}

const onDisk = (rig: Rig, where: string) => until(async () => (await rig.where()) === where, `the buffer to be kept in ${where}`, 150_000);

/** Fills the disk until records are kept in memory, and frees it again. Returns the agent that runs then. */
export async function fillOnce(rig: Rig, disk: SmallDisk, agent: Agent, killed: boolean, pass: boolean, what: string): Promise<Agent> {
  // What is delivered at once needs no more room: only a backlog meets the full disk.
  rig.tap.turn('refuse');
  disk.fill();
  await onDisk(rig, 'memory');
  rig.tap.turn(pass ? 'pass' : 'refuse');
  await sleep(1000);
  if (killed) await agent.kill9();
  disk.free();
  const after = killed ? await rig.agent() : agent;
  await onDisk(rig, 'disk');
  await rig.expectAgreement(what, !killed);
  return after;
}

async function fullDisk(times: number, killed: boolean) {
  const rig = await Rig.make({ routers: loopback(8, 0.05), buffer: { max_bytes: 2 ** 23 } });
  const disk = mountSmallDisk(rig.folder, '3m');
  let agent = await rig.agent();
  for (let round = 0; round < times; round += 1)
    agent = await fillOnce(rig, disk, agent, killed, round % 2 === 0, `full disk ${round + 1}`);
  await agent.stop();
  return await rig.finish('full disk', !killed);
}

/** The ring in memory is too small for the time that the disk is full and nobody takes anything. */
async function fullRing(times: number) {
  const rig = await Rig.make({ routers: loopback(8, 0.05), buffer: { max_bytes: 2 ** 23, memory_bytes: 65_536 } });
  const disk = mountSmallDisk(rig.folder, '3m');
  const agent = await rig.agent();
  for (let round = 0; round < times; round += 1) {
    rig.tap.turn('refuse');
    disk.fill();
    await onDisk(rig, 'memory');
    const full = 'ndt_records_dropped_total{reason="memory_full"}';
    const before = await rig.metric(full);
    await until(async () => (await rig.metric(full)) > before + 50, 'the memory to be full', 150_000);
    disk.free();
    await onDisk(rig, 'disk');
    rig.tap.turn('pass');
    await rig.expectAgreement(`full disk and full memory ${round + 1}`, false);
  }
  await agent.stop();
  const figures = await rig.finish('full disk and full memory', false);
  expect(figures.dropped.memory_full).toBeGreaterThan(0);
  expect(figures.produced - figures.arrived, 'exactly those that are named').toBe(figures.dropped.memory_full);
  return figures;
}

/** Starts the agent on a read-only disk, which turns read-write while it runs. */
export async function startReadOnly(rig: Rig, disk: SmallDisk, what: string): Promise<void> {
  disk.remount('ro');
  const agent = await rig.agent();
  await sleep(1000);
  expect(await rig.where()).toBe('memory');
  disk.remount('rw');
  await onDisk(rig, 'disk');
  await agent.stop();
  await rig.expectAgreement(what, true);
}

async function readOnlyAtStart(times: number) {
  const rig = await Rig.make();
  const disk = mountSmallDisk(rig.folder, '8m');
  const first = await rig.agent();
  await rig.grows(10);
  await first.stop();
  for (let round = 0; round < times; round += 1) {
    rig.tap.turn(round % 2 === 0 ? 'pass' : 'refuse');
    await startReadOnly(rig, disk, `read-only disk ${round + 1}`);
  }
  return await rig.finish('read-only disk', true);
}

/** Lets calls of a running agent fail until records are kept in memory, and some seconds more. */
export async function failOnce(rig: Rig, agent: Agent, calls: string, how: string, seconds: number): Promise<void> {
  const { check, heal } = await failing(agent, calls, how);
  await until(
    async () => check() && (await rig.where()) === 'memory',
    () => `records to be kept in memory; the agent says:\n${agent.log.slice(-2000)}`,
    150_000,
  );
  await sleep(seconds * 1000);
  await heal();
  await onDisk(rig, 'disk');
  await rig.expectAgreement(`${calls} with ${how}`, true);
}

async function failingCalls(times: number, calls: string, how: string) {
  const rig = await Rig.make();
  const agent = await rig.agent();
  await rig.grows(10);
  for (let round = 0; round < times; round += 1) {
    rig.tap.turn(round % 2 === 0 ? 'pass' : 'refuse');
    await failOnce(rig, agent, calls, how, 2);
  }
  await agent.stop();
  return await rig.finish(`${calls} with ${how}`, true);
}

const root = canMount ? undefined : 'needs root, to mount a small disk';
const traced = STRACE === undefined ? 'needs Debian’s strace' : undefined;
export const WRITES = 'pwrite64,fsync,fdatasync,ftruncate';

export const rows: Row[] = [
  {
    fault: 'full disk (ENOSPC)',
    how: 'a tmpfs of 3 MB filled up for 2 s and more while records flow, then freed',
    times: 6,
    needs: root,
    timeoutMs: 600_000,
    run: (times) => fullDisk(times, false),
  },
  {
    fault: 'full disk, and kill -9 meanwhile',
    how: 'the same, with the agent killed while it keeps records in memory',
    times: 4,
    needs: root,
    timeoutMs: 600_000,
    run: (times) => fullDisk(times, true),
  },
  {
    fault: 'full disk, full memory, no uplink',
    how: 'the same with 64 KiB of memory and the connection refused, until records are dropped',
    times: 2,
    needs: root,
    timeoutMs: 600_000,
    run: fullRing,
  },
  {
    fault: 'read-only disk',
    how: 'mounted read-only when the agent starts, remounted read-write while it runs',
    times: 4,
    needs: root,
    timeoutMs: 600_000,
    run: readOnlyAtStart,
  },
  {
    fault: 'disk turns read-only',
    how: 'strace makes every write of a running agent fail with EROFS for 2 s and more',
    times: 4,
    needs: traced,
    timeoutMs: 600_000,
    run: (times) => failingCalls(times, WRITES, 'error=EROFS'),
  },
  {
    fault: 'disk fails (EIO)',
    how: 'the same with EIO',
    times: 4,
    needs: traced,
    timeoutMs: 600_000,
    run: (times) => failingCalls(times, WRITES, 'error=EIO'),
  },
  {
    fault: 'slow disk',
    how: 'each fsync takes 1.2 s longer for some seconds',
    times: 2,
    needs: traced,
    timeoutMs: 600_000,
    run: (times) => failingCalls(times, 'fsync,fdatasync', 'delay_enter=1200000'),
  },
];
