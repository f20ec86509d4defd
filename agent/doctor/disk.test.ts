import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { examined, lines } from '../../test/doctor.ts';
import { Pair } from '../../test/programs.ts';
import { tempDir } from '../../test/tempdir.ts';
import { checkDisk } from './disk.ts';
import type { Finding } from './finding.ts';

const isRoot = process.getuid?.() === 0;

describe('disk', () => {
  /** A file system of its own. */
  const mounted = (size: string) => {
    const dir = tempDir();
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'ndt', dir]);
    onTestFinished(() => void execFileSync('umount', [dir]));
    return dir;
  };
  const find = (findings: Finding[], check: string) => findings.find((finding) => finding.check === check);

  it('is well: room, and how long a commit waits', () => {
    const findings = checkDisk(tempDir(), 2 ** 20, 0);
    expect(find(findings, 'disk space')).toMatchObject({ health: 'ok' });
    expect(find(findings, 'disk')).toMatchObject({
      text: expect.stringMatching(/is writable; a commit waits [\d.]+ ms for the disk \([\d.]+ ms at most, of 16\)/),
    });
  });

  it('has less room than the cap', () => {
    expect(find(checkDisk(tempDir(), 2 ** 50, 0), 'disk space')).toMatchObject({
      health: 'warning',
      text: expect.stringContaining('the buffer may still grow by 1024 TiB'),
      remedy: expect.stringContaining('lower agent.buffer.max_bytes below'),
    });
  });

  it.skipIf(!isRoot)('is full (needs root)', () => {
    const dir = mounted('2m');
    try {
      writeFileSync(join(dir, 'filler'), Buffer.alloc(4 * 2 ** 20));
    } catch {
      // As much as there is room for.
    }
    const findings = checkDisk(dir, 2 ** 30, 0);
    expect(find(findings, 'disk space')).toMatchObject({ health: 'fail', text: expect.stringContaining('records wait in memory only') });
    expect(find(findings, 'disk')).toMatchObject({
      health: 'fail',
      text: expect.stringContaining('ENOSPC'),
      remedy: expect.stringContaining('the disk is full'),
    });
  });

  it.skipIf(!isRoot)('is in memory, and then read-only (needs root)', () => {
    const dir = mounted('64m');
    expect(find(checkDisk(dir, 2 ** 20, 0), 'disk space')).toMatchObject({
      health: 'warning',
      text: expect.stringContaining('a reboot loses what waits'),
    });
    execFileSync('mount', ['-o', 'remount,ro', dir]);
    expect(find(checkDisk(dir, 2 ** 20, 0), 'disk')).toMatchObject({
      health: 'fail',
      text: expect.stringContaining('is mounted read-only (EROFS)'),
      remedy: expect.stringContaining('dmesg'),
    });
    expect(find(checkDisk(join(dir, 'not/there'), 2 ** 20, 0), 'disk')).toMatchObject({
      health: 'fail',
      text: expect.stringContaining('EROFS'),
    });
  });

  it.skipIf(!isRoot)('an agent on a full disk runs on, and the doctor says so (needs root)', async () => {
    const disk = mounted('3m');
    const pair = await Pair.make(tempDir(), { data_dir: disk, routers: [{ r1: { interfaces: ['lo'], polling_interval: 0.1 } }] });
    onTestFinished(() => pair.stop());
    const agent = await pair.agent();
    try {
      writeFileSync(join(disk, 'filler'), Buffer.alloc(8 * 2 ** 20));
    } catch {
      // Full.
    }
    await agent.says('the disk does not take the buffer');
    const told = examined(pair.config);
    expect(told.status).toBe(1);
    expect(lines(told, 'buffer')[0]).toMatchObject({
      health: 'fail',
      text: expect.stringContaining('keeps new records in memory only: its disk does not take them (full)'),
    });
    expect(lines(told, 'disk')[0]).toMatchObject({ health: 'fail', text: expect.stringContaining('ENOSPC') });
  });
});
