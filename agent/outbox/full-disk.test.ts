import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { drainAll, expectBalanced, FIRST, gapsOf, openOutbox, record, records, reports, sum } from '../../test/outbox.ts';
import { tempDir } from '../../test/tempdir.ts';
import { OutboxDb } from './database.ts';
import { Keeper } from './keeper.ts';

/** A file system of a test's own can be mounted. */
const canMount = (() => {
  if (process.getuid?.() !== 0) return false;
  const dir = '/tmp/ndt-mount-probe';
  mkdirSync(dir, { recursive: true });
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir]).status === 0;
  if (mounted) spawnSync('umount', [dir]);
  rmSync(dir, { recursive: true, force: true });
  return mounted;
})();

function smallDisk(size: string): { dir: string; remount: (options: string) => void; fill: () => void; free: () => void } {
  const dir = join(tempDir(), 'disk');
  mkdirSync(dir);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', dir]);
  onTestFinished(() => void spawnSync('umount', ['-l', dir]));
  const filler = join(dir, 'filler');
  return {
    dir,
    remount: (options) => execFileSync('mount', ['-o', `remount,${options}`, dir]),
    fill: () => {
      spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=4096'], { stdio: 'ignore' });
    },
    free: () => rmSync(filler, { force: true }),
  };
}

const settings = (dir: string) => {
  const told = reports();
  const clock = { monotonic: 0 };
  return {
    told,
    clock,
    options: {
      report: told.report,
      monotonicMs: () => clock.monotonic,
      fallbackMark: join(tempDir(), 'fallback.seq'),
      file: join(dir, 'outbox.db'),
    },
  };
};

describe.skipIf(!canMount)('a disk that takes nothing (needs root, to mount a file system)', () => {
  it('full: records go on in memory, what waits on disk is still sent, and everything is on disk again when there is room', () => {
    const disk = smallDisk('6m');
    const { told, clock, options } = settings(disk.dir);
    const outbox = openOutbox(disk.dir, options);
    for (let i = 0; i < 10; i += 1) outbox.append(records(20, 500));
    disk.fill();
    for (let i = 0; i < 400 && outbox.whereabouts().where === 'disk'; i += 1) outbox.append(records(20, 500));
    expect(outbox.whereabouts()).toEqual({ where: 'memory', cause: 'full' });
    outbox.append(records(10, 500));
    expectBalanced(outbox);
    const { produced } = outbox.ledger();
    // Sent from the full disk, and from memory.
    const waiting = drainAll(outbox);
    expect(waiting.map(({ seq }) => seq - FIRST)).toEqual(Array.from({ length: produced }, (_, i) => i));
    outbox.settle({ acked: waiting.slice(0, 50).map(({ seq }) => seq), rejected: [{ seq: FIRST + 60, reason: 'no' }] });
    outbox.settle({ acked: waiting.slice(-5).map(({ seq }) => seq), rejected: [] });
    expect(outbox.ledger()).toMatchObject({ delivered: 55, pending: produced - 56, rejected: { no: 1 } });
    expect(drainAll(outbox).length).toBe(produced - 56);
    expectBalanced(outbox);
    disk.free();
    clock.monotonic += 60_000;
    outbox.maintain();
    expect(outbox.whereabouts(), told.text()).toEqual({ where: 'disk', cause: undefined });
    expect(outbox.stats().memory.records).toBe(0);
    outbox.append([record('after')]);
    expect(outbox.ledger()).toMatchObject({ produced: produced + 1, pending: produced - 55, dropped: {} });
    expectBalanced(outbox);
    outbox.close();
    const again = openOutbox(disk.dir, options);
    expect(again.ledger()).toMatchObject({
      produced: produced + 1,
      delivered: 55,
      pending: produced - 55,
      dropped: {},
      rejected: { no: 1 },
    });
    expectBalanced(again);
    again.close();
  });

  it('the ring in memory is bounded: what it cannot hold is named', () => {
    const disk = smallDisk('4m');
    const { clock, options } = settings(disk.dir);
    const outbox = openOutbox(disk.dir, { ...options, memoryBytes: 65_536 });
    disk.fill();
    let onDisk = 0;
    for (; outbox.whereabouts().where === 'disk'; onDisk += 10) outbox.append(records(10, 500));
    for (let i = 0; i < 30; i += 1) outbox.append(records(10, 500));
    const { memory, dropped } = outbox.stats();
    expect(memory.bytes).toBeLessThanOrEqual(65_536);
    expect(dropped.memory_full).toBe(310 - memory.records);
    disk.free();
    clock.monotonic += 60_000;
    outbox.maintain();
    expectBalanced(outbox);
    const gaps = gapsOf(outbox);
    expect(gaps.reduce((all, { count }) => all + count, 0)).toBe(dropped.memory_full);
    expect(gaps[0]).toMatchObject({ from: FIRST + onDisk - 10, reason: 'memory_full' });
    outbox.close();
  });

  it.each(['full', 'read-only'])('%s: numbers given out in memory are not used again after a kill', (how) => {
    const disk = smallDisk('3m');
    const { options } = settings(disk.dir);
    const start = openOutbox(disk.dir, options);
    start.append(records(5));
    start.close();
    if (how === 'full') disk.fill();
    else disk.remount('ro');
    const outbox = openOutbox(disk.dir, options);
    for (let i = 0; i < 300 && outbox.whereabouts().where === 'disk'; i += 1) outbox.append(records(20, 500));
    const onDisk = outbox.count() - outbox.stats().memory.records;
    outbox.append(records(20));
    const sent = outbox.read('fresh', 1000).filter(({ seq }) => seq > outbox.ledger().last - 10);
    outbox.settle({ acked: sent.map(({ seq }) => seq), rejected: [] });
    const before = outbox.ledger();
    // The process is gone, and the disk is well at the next start.
    if (how === 'full') disk.free();
    else disk.remount('rw');
    const after = openOutbox(disk.dir, { ...options, boot: 'b2' });
    expect(after.ledger().last).toBeGreaterThanOrEqual(before.last);
    expect(after.ledger().dropped.lost_in_memory).toBeGreaterThanOrEqual(before.pending - Math.max(onDisk, 5));
    expect(gapsOf(after).map(({ reason }) => reason)).toContain('lost_in_memory');
    expectBalanced(after);
    expect(after.append([record('x')])).toBeGreaterThan(before.last);
    after.close();
    outbox.close();
  });

  it.each(['full', 'read-only'])('%s from the start: the outbox runs in memory, and takes the disk when it can', (how) => {
    const disk = smallDisk('3m');
    const { told, clock, options } = settings(disk.dir);
    if (how === 'full') disk.fill();
    else disk.remount('ro');
    const outbox = openOutbox(disk.dir, options);
    expect(outbox.whereabouts().where).toBe('memory');
    const first = outbox.append(records(30));
    outbox.settle({ acked: outbox.read('fresh', 10).map(({ seq }) => seq), rejected: [] });
    expect(outbox.ledger()).toMatchObject({ produced: 30, delivered: 10, pending: 20 });
    clock.monotonic += 60_000;
    outbox.maintain();
    expect(outbox.whereabouts().where).toBe('memory');
    if (how === 'full') disk.free();
    else disk.remount('rw');
    clock.monotonic += 60_000;
    outbox.maintain();
    expect(outbox.whereabouts(), told.text()).toEqual({ where: 'disk', cause: undefined });
    expect(outbox.append([record('more')])).toBe(first + 30);
    expect(outbox.ledger()).toMatchObject({ produced: 31, delivered: 10, pending: 21, dropped: {} });
    expectBalanced(outbox);
    outbox.close();
    const again = openOutbox(disk.dir, options);
    expect(again.ledger()).toMatchObject({ produced: 31, delivered: 10, pending: 21, dropped: {} });
    again.close();
  });

  it('read-only from the start with a backlog on it: the backlog is there again, and numbers go on above it', () => {
    const disk = smallDisk('4m');
    const { clock, options } = settings(disk.dir);
    const before = openOutbox(disk.dir, options);
    before.append(records(40));
    before.settle({ acked: before.read('all', 10).map(({ seq }) => seq), rejected: [] });
    before.close();
    disk.remount('ro');
    const outbox = openOutbox(disk.dir, options);
    const first = outbox.append(records(10));
    expect(first).toBeGreaterThanOrEqual(FIRST + 40);
    disk.remount('rw');
    clock.monotonic += 60_000;
    outbox.maintain();
    expect(outbox.ledger()).toMatchObject({ produced: 50, delivered: 10, pending: 40, dropped: {} });
    expect(drainAll(outbox).map(({ body }) => body.replaceAll('.', ''))).toEqual([
      ...Array.from({ length: 30 }, (_, i) => String(i + 10)),
      ...Array.from({ length: 10 }, (_, i) => String(i)),
    ]);
    expectBalanced(outbox);
    outbox.close();
  });

  it('no room to repair a damaged file: in memory until there is, and nothing is lost twice', () => {
    const disk = smallDisk('3m');
    const { told, clock, options } = settings(disk.dir);
    const outbox = openOutbox(disk.dir, options);
    for (let i = 0; i < 30; i += 1) outbox.append(records(50, 500));
    const before = outbox.ledger();
    outbox.close();
    writeFileSync(join(disk.dir, 'outbox.db'), Buffer.alloc(100), { flag: 'r+' });
    disk.fill();
    const after = openOutbox(disk.dir, options);
    expect(after.whereabouts().where).toBe('memory');
    after.append(records(5));
    disk.free();
    disk.remount('size=16m');
    clock.monotonic += 60_000;
    after.maintain();
    expect(after.whereabouts(), told.text()).toEqual({ where: 'disk', cause: undefined });
    expect(after.ledger().last).toBeGreaterThan(before.last);
    expect(after.ledger()).toMatchObject({ pending: before.pending + 5, dropped: {} });
    expectBalanced(after);
    expect(readdirSync(disk.dir).filter((name) => name.startsWith('.salvage') || name.endsWith('.new'))).toEqual([]);
    after.close();
  });

  it('damaged while nothing could be written: the repair is told like any other', () => {
    const disk = smallDisk('4m');
    const { clock, options } = settings(disk.dir);
    const outbox = openOutbox(disk.dir, options);
    disk.fill();
    for (let i = 0; i < 300 && outbox.whereabouts().where === 'disk'; i += 1) outbox.append(records(20, 500));
    for (const name of ['outbox.db', 'outbox.db-wal', 'outbox.db-shm']) rmSync(join(disk.dir, name));
    disk.free();
    clock.monotonic += 60_000;
    outbox.maintain();
    expect(outbox.whereabouts()).toEqual({ where: 'disk', cause: undefined });
    expect(outbox.notices(100).map(({ body }) => (JSON.parse(body) as { type: string }).type)).toContain('repair');
    expectBalanced(outbox);
    outbox.close();
  });
});

it('a disk that fails in the moment after it came back is tried again', () => {
  const dir = tempDir();
  const { told, clock, options } = settings(dir);
  const before = openOutbox(dir, options);
  before.append(records(20));
  before.close();
  writeFileSync(join(dir, 'outbox.db'), 'not a database');
  let mounted = false;
  const prepare = () => {
    if (!mounted) throw Object.assign(new Error('the folder is not there'), { code: 'ENOENT' });
  };
  const outbox = openOutbox(dir, { ...options, prepare });
  outbox.append(records(5));
  mounted = true;
  // The first commit after the repair: no real disk fails so exactly.
  const { addNotice } = OutboxDb.prototype;
  let failures = 0;
  const spy = vi.spyOn(OutboxDb.prototype, 'addNotice').mockImplementation(function (this: OutboxDb, body) {
    if (!body.includes('"type":"repair"') || failures > 0) return addNotice.call(this, body);
    failures += 1;
    throw Object.assign(new Error('disk I/O error'), { code: 'SQLITE_IOERR_WRITE' });
  });
  onTestFinished(() => spy.mockRestore());
  clock.monotonic += 60_000;
  outbox.maintain();
  expect(failures).toBe(1);
  expect(outbox.whereabouts()).toEqual({ where: 'memory', cause: 'io' });
  outbox.append(records(5));
  clock.monotonic += 60_000;
  outbox.maintain();
  expect(outbox.whereabouts(), told.text()).toEqual({ where: 'disk', cause: undefined });
  expect(outbox.stats().memory.records).toBe(0);
  expect(outbox.append(records(1))).toBe(outbox.ledger().last);
  expect(outbox.stats().memory.records).toBe(0);
  expectBalanced(outbox);
  outbox.close();
});

it('a mark that can be written nowhere is told of', () => {
  const told = reports();
  const dir = tempDir();
  const outbox = openOutbox(join(dir, 'gone/deeper'), {
    report: told.report,
    fallbackMark: '/dev/null/nowhere/mark',
    file: '/dev/null/nowhere/outbox.db',
  });
  outbox.append(records(3));
  expect(outbox.whereabouts().where).toBe('memory');
  expect(told.text()).toContain('sequence numbers cannot be written down anywhere');
  expect(sum(outbox.ledger().dropped)).toBe(0);
  expect(existsSync('/dev/null/nowhere')).toBe(false);
  outbox.close();
});

describe('a slow disk', () => {
  it('is used again when it is quick again, also where all that waited in memory was sent from there', () => {
    const dir = tempDir();
    let monotonic = 1000;
    const keeper = new Keeper({
      file: join(dir, 'outbox.db'),
      agentId: 'a1',
      boot: 'b1',
      noticeTopic: 'ndt.notices',
      maxBytes: 2 ** 24,
      maxAgeMs: 0,
      kernelBoot: 'k1',
      fallbackMark: join(dir, 'fallback.seq'),
      monotonicMs: () => monotonic,
    });
    keeper.disk.noteSpeed(1500);
    keeper.maintain();
    expect(keeper.whereabouts()).toEqual({ where: 'memory', cause: 'slow' });
    expect(keeper.memory.size).toBe(0);
    monotonic += 15_001;
    keeper.maintain();
    expect(keeper.whereabouts()).toEqual({ where: 'disk', cause: undefined });
    keeper.close();
  });

  it('is noticed by polls that bring no rate too: each would wait for the disk, come too late for the next one, and bring none again', () => {
    const dir = tempDir();
    const { told, clock, options } = settings(dir);
    let took = 0;
    const monotonicMs = () => {
      clock.monotonic += took;
      return clock.monotonic;
    };
    const outbox = openOutbox(dir, { ...options, monotonicMs });
    took = 1200;
    outbox.append([], new Map([['r1', { epoch: '1700000000.0', devices: {} }]]));
    took = 0;
    expect(outbox.whereabouts()).toEqual({ where: 'memory', cause: 'slow' });
    expect(told.text()).toContain('ms for a commit');
    clock.monotonic += 60_001;
    outbox.maintain();
    expect(outbox.whereabouts()).toEqual({ where: 'disk', cause: undefined });
    outbox.close();
  });
});
