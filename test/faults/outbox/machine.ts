/** What this machine lets a test do to it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

const isRoot = process.getuid?.() === 0;

/** File systems can be mounted. */
export const canMount = isRoot && mounts();
/** Network namespaces can be made. */
export const canNamespace = isRoot && spawnSync('ip', ['netns', 'list']).status === 0;

function mounts(): boolean {
  const dir = mkdtempSync(join(tmpdir(), 'ndt-mount-'));
  const ok = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir]).status === 0;
  if (ok) spawnSync('umount', [dir]);
  rmSync(dir, { recursive: true, force: true });
  return ok;
}

export interface SmallDisk {
  fill(): void;
  free(): void;
  remount(how: 'ro' | 'rw'): void;
}

/** A small disk at a folder; gone with the test. */
export function mountSmallDisk(dir: string, size: string): SmallDisk {
  mkdirSync(dir, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', dir]);
  onTestFinished(() => {
    spawnSync('umount', ['-l', dir]);
  });
  const filler = join(dir, 'filler');
  return {
    fill: () => {
      spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=4096', 'oflag=append', 'conv=notrunc'], { stdio: 'ignore' });
    },
    free: () => rmSync(filler, { force: true }),
    remount: (how) => {
      execFileSync('mount', ['-o', `remount,${how}`, dir]);
    },
  };
}
