/** The released binaries: built once for a test file, and run as on a machine that has nothing of ours. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findProgram } from '../scripts/programs.ts';
import { hasGlibc } from '../scripts/setup/node.mjs';
import type { Origin } from './programs.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

/** This machine's, as the folder of its binaries has it. */
export const ARCH = process.arch === 'arm64' ? 'arm64' : 'x64';

/** Where binaries can be made. */
export const canPackage = process.platform === 'linux' && hasGlibc() && ['x64', 'arm64'].includes(process.arch);

/**
 * Runs `npm run package` into a folder of its own, which the caller deletes: in a hook Vitest takes no others.
 * @param options `in`: the copy of the project to build; by default ours
 */
export function buildPackage(args: string[] = [], options: { in?: string } = {}): string {
  const output = mkdtempSync(join(tmpdir(), 'ndt-package-'));
  const { status, stderr, stdout } = spawnSync(process.execPath, ['scripts/ndt.mjs', 'package', '--output', output, ...args], {
    cwd: options.in ?? root,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`the package could not be built (${status}): ${stdout}${stderr}`);
  return output;
}

/** Mount namespaces and other users are root's. */
export const canConfine = process.getuid?.() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0;

/** Some user that is nobody in particular. */
const USER = 65534;

/** Where a confined program sees the folder that it is given. */
export const CONFINED = '/mnt/ndt';
/** A folder that is its own and allows execution, where nobody would look for one. */
export const RUNTIME = '/mnt/runtime';

/**
 * A binary as an ordinary user without any environment: HOME is read-only, `/tmp` and the like allow no execution, `/run` may not be
 * written to. Of the test's folders it sees two, at `/mnt/ndt/bin` and `/mnt/ndt/own`; the latter is its own.
 * @param options `noexec`: not even from its own folder; `env`: `NAME=value`
 */
export function confined(bin: string, own: string, program: string, options: { noexec?: boolean; env?: string } = {}): Origin {
  execFileSync('chown', ['-R', `${USER}:${USER}`, own]);
  const script = `
    mount -t tmpfs -o mode=755 tmpfs /mnt
    mkdir -p ${CONFINED}/bin ${CONFINED}/own /mnt/home ${RUNTIME}
    chown ${USER} ${RUNTIME}
    mount --bind "$0" ${CONFINED}/bin
    mount --bind "$1" ${CONFINED}/own
    ${options.noexec === true ? `mount -o remount,bind,noexec ${CONFINED}/own` : ''}
    mount -t tmpfs -o ro tmpfs /mnt/home
    for folder in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o noexec,mode=1777 tmpfs "$folder"; done
    shift
    cd /
    exec setpriv --reuid=${USER} --regid=${USER} --clear-groups --no-new-privs \
      env -i HOME=/mnt/home ${options.env ?? ''} ${CONFINED}/bin/${program} "$@"
  `;
  return { command: ['unshare', '-m', 'sh', '-ec', script, bin, own], env: { PATH: process.env.PATH } };
}

/** A binary in a folder that holds it, the libraries that it is linked against, and nothing else but `/proc` and an empty `/data`. */
export function alone(dir: string, binary: string): Origin {
  for (const folder of ['proc', 'data', 'lib64', 'lib', 'bin']) mkdirSync(join(dir, folder));
  const libraries = execFileSync('ldd', [binary], { encoding: 'utf8' }).match(/\/\S+(?= \(0x)/g) ?? [];
  for (const library of libraries) execFileSync('cp', ['-L', library, join(dir, library.startsWith('/lib64/') ? 'lib64' : 'lib')]);
  execFileSync('cp', [binary, join(dir, 'bin')]);
  const script = 'mount --rbind /proc "$0/proc"; exec env -i /usr/sbin/chroot "$0" "$@"';
  return { command: ['unshare', '-m', 'sh', '-ec', script, dir, `/bin/${basename(binary)}`], env: { PATH: process.env.PATH } };
}

/** Debian's libraries for arm64, beside an emulator. */
const ARM64 = '/usr/aarch64-linux-gnu';
const emulator = findProgram('qemu-aarch64-static');

export const hasArm64 = emulator !== undefined && existsSync(ARM64);

/** An arm64 binary under emulation. */
export function emulated(binary: string): Origin {
  return { command: [emulator ?? 'qemu-aarch64-static', '-L', ARM64, binary], env: {} };
}
