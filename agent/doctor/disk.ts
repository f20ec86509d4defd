/** Whether the buffer's disk takes what it has to take: room, permission, and how long it lets a commit wait. */
import { randomBytes } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  openSync,
  type StatsFs,
  statfsSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { codeOf, messageOf } from '../../common/errors.ts';
import { bytesText } from '../buffer/text.ts';
import { type Finding, fail, ok, warning } from './finding.ts';

/** Below this a commit may fail any moment [bytes]. */
const LEAST_FREE = 8 * 1024 * 1024;
const PROBES = 16;
const PROBE_BYTES = 4096;
/** Median wait for the disk at a commit [ms]. */
const SLOW_MS = 100;

/** File systems that live in memory (statfs(2)). */
const IN_MEMORY = new Map([
  [0x01021994, 'tmpfs'],
  [0x858458f6, 'ramfs'],
]);
const OVERLAY = 0x794c7630;

/**
 * @param dir the buffer's folder, which may not be there yet
 * @param maxBytes how large the buffer may become
 * @param bytes how large it is
 */
export function checkDisk(dir: string, maxBytes: number, bytes: number): Finding[] {
  const there = nearest(dir);
  const findings = [room(there, maxBytes, bytes)];
  const writing = there === dir ? probe(dir) : mayMake(dir, there);
  return [...findings, ...writing];
}

/** The folder, or the nearest one above it that there is. */
function nearest(dir: string): string {
  let here = dir;
  while (!existsSync(here) && dirname(here) !== here) here = dirname(here);
  return here;
}

function room(dir: string, maxBytes: number, bytes: number): Finding {
  const check = 'disk space';
  let stat: StatsFs;
  try {
    stat = statfsSync(dir);
  } catch (error) {
    return fail(
      check,
      `${dir} cannot be looked at (${codeOf(error) ?? messageOf(error)})`,
      'run this as the agent’s user, or check data_dir',
    );
  }
  const { bavail, bsize, blocks, files, ffree, type } = stat;
  const free = bavail * bsize;
  const wanted = Math.max(0, maxBytes - bytes);
  const memory = IN_MEMORY.get(type);
  const has = `${bytesText(free)} free of ${bytesText(blocks * bsize)} at ${dir}`;
  if (files > 0 && ffree === 0)
    return fail(check, `${has}, but no file can be made any more: its inodes are used up`, 'delete files that nobody needs');
  if (free < Math.min(LEAST_FREE, wanted)) {
    return fail(
      check,
      `${has}: the buffer cannot grow, records wait in memory only`,
      'delete what is not needed there, or set data_dir to another disk',
    );
  }
  if (memory !== undefined)
    return warning(check, `${dir} is ${memory}, which lives in memory: a reboot loses what waits`, 'set data_dir to a disk');
  if (free < wanted) {
    const room = bytesText(free + bytes);
    return warning(
      check,
      `${has}; the buffer may still grow by ${bytesText(wanted)} up to its cap`,
      `the disk is full before that: lower agent.buffer.max_bytes below ${room}, or free space`,
    );
  }
  const layer = type === OVERLAY ? ' (a container’s own layer: gone with the container unless a volume is mounted here)' : '';
  return ok(check, `${has}, enough for the cap of ${bytesText(maxBytes)}${layer}`);
}

function mayMake(dir: string, parent: string): Finding[] {
  const check = 'disk';
  try {
    accessSync(parent, constants.W_OK | constants.X_OK);
    return [ok(check, `${dir} will be made at the first start`)];
  } catch (error) {
    return [unwritable(check, dir, error)];
  }
}

/** Writes a small file and waits for the disk, several times, as commits do. */
function probe(dir: string): Finding[] {
  const check = 'disk';
  const file = join(dir, `.doctor-${process.pid}-${randomBytes(4).toString('hex')}`);
  const waits: number[] = [];
  let fd: number | undefined;
  try {
    fd = openSync(file, 'wx', 0o600);
    for (let i = 0; i < PROBES; i += 1) {
      const started = performance.now();
      writeSync(fd, randomBytes(PROBE_BYTES));
      fsyncSync(fd);
      waits.push(performance.now() - started);
    }
  } catch (error) {
    return [unwritable(check, dir, error)];
  } finally {
    if (fd !== undefined) {
      closeSync(fd);
      unlinkSync(file);
    }
  }
  waits.sort((a, b) => a - b);
  const [median, most] = [waits[PROBES >> 1] ?? 0, waits.at(-1) ?? 0];
  const text = `${dir} is writable; a commit waits ${ms(median)} for the disk (${ms(most)} at most, of ${PROBES})`;
  if (median <= SLOW_MS) return [ok(check, text)];
  return [warning(check, `${text}, which is slow`, 'is the disk worn out or busy? agent.buffer.durability "normal" waits less often')];
}

function ms(value: number): string {
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}

function unwritable(check: string, dir: string, error: unknown): Finding {
  const code = codeOf(error);
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return fail(
        check,
        `nothing can be written to ${dir} (${code})`,
        code === 'ENOSPC'
          ? 'the disk is full: free space, or set data_dir to another disk'
          : 'the quota is used up: raise it, or free space',
      );
    case 'EROFS':
      return fail(
        check,
        `${dir} is mounted read-only (${code})`,
        'where systemd starts the agent, name the folder in ReadWritePaths= (systemctl edit ndt-agent); else look into the kernel’s log (dmesg) for disk errors, then remount it: mount -o remount,rw',
      );
    case 'EACCES':
    case 'EPERM':
      return fail(
        check,
        `${dir} may not be written by this user (${code})`,
        `run this as the agent’s user${ownerOf(dir)}, or make the folder writable`,
      );
    default:
      return fail(check, `nothing can be written to ${dir} (${code ?? messageOf(error)})`, 'check data_dir and the disk (dmesg)');
  }
}

function ownerOf(dir: string): string {
  const owner = statSync(dir, { throwIfNoEntry: false })?.uid;
  return owner === undefined ? '' : ` (the folder belongs to uid ${owner})`;
}
