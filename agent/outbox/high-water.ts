/**
 * How far the sequence numbers have come, kept outside the database: so that they never go backwards, even when the database is lost.
 *
 * Numbers are reserved in blocks: a mark is durable before the first number above the last mark is given out. It carries the whole
 * account, so that a lost database can still be named record by record. The file has two slots, written in turn and each with its
 * checksum: a write that is torn leaves the other one. It is made whole at once and overwritten in place ever after, so that a full disk
 * still takes it. Where the disk takes nothing, a mark goes to a second place in memory (`/dev/shm`), which outlives the process but not
 * the machine.
 */
import { closeSync, constants, fdatasyncSync, fstatSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { type Account, isSound, withoutLongestReason } from './account.ts';

export interface Mark {
  account: Account;
  /** Numbers up to here may have been given out. */
  reserved: number;
  /** Whether numbers above `account.last` may be in use without being in the database. */
  loose: boolean;
  /** Whether the agent ended in order after it. */
  clean: boolean;
  /** Whether the database was in use: then it has a log. */
  opened: boolean;
  /** The durability in force. */
  durability: string;
  /** Identity of the kernel's boot. */
  boot: string;
}

const SLOT = 2048;

/** Where a mark was written: durable on disk, in memory only, or nowhere. */
export type MarkPlace = 'disk' | 'memory' | 'none';

export class HighWater {
  private readonly file: string;
  private readonly fallback: string;
  private slot = 0;
  private usedFallback = true;
  /** The last mark that was written, or found. */
  last: Mark | undefined;

  constructor(file: string, fallback: string) {
    this.file = file;
    this.fallback = fallback;
    const [disk, memory] = [read(file), read(fallback)];
    const best = [disk, memory].filter((found) => found !== undefined).sort((a, b) => b.mark.account.version - a.mark.account.version)[0];
    this.last = best?.mark;
    this.slot = disk === undefined ? 0 : 1 - disk.slot;
  }

  /** Writes a mark; `durable` waits for the disk. */
  write(mark: Mark, durable: boolean): MarkPlace {
    this.last = mark;
    try {
      put(this.file, this.slot, mark, durable);
      this.slot = 1 - this.slot;
      if (this.usedFallback) rmSync(this.fallback, { force: true });
      this.usedFallback = false;
      return 'disk';
    } catch {
      // Full (before the file was there), read-only, failing: the second place.
    }
    this.usedFallback = true;
    try {
      put(this.fallback, 0, mark, false);
      return 'memory';
    } catch {
      return 'none';
    }
  }
}

function put(file: string, slot: number, mark: Mark, durable: boolean): void {
  const bytes = Buffer.alloc(SLOT, 0x20);
  bytes.write(textOf(mark));
  bytes[SLOT - 1] = 0x0a;
  const fd = openSync(file, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  try {
    const isNew = fstatSync(fd).size < 2 * SLOT;
    if (isNew) writeSync(fd, Buffer.alloc(2 * SLOT, 0x20), 0, 2 * SLOT, 0);
    if (writeSync(fd, bytes, 0, SLOT, slot * SLOT) !== SLOT) throw new Error('the mark was written in part');
    if (!durable) return;
    fdatasyncSync(fd);
    if (isNew) syncDir(dirname(file));
  } finally {
    closeSync(fd);
  }
}

/** A mark that fits its slot: reasons are names of somebody else's, and may be long. */
function textOf(mark: Mark): string {
  for (let account: Account | undefined = mark.account; account !== undefined; account = withoutLongestReason(account)) {
    const json = JSON.stringify({ ...mark, account });
    const text = `${crc32(json).toString(16).padStart(8, '0')} ${json}`;
    if (Buffer.byteLength(text) < SLOT) return text;
  }
  throw new Error('the mark does not fit its slot');
}

/** Makes the names in a folder durable. */
export function syncDir(dir: string): void {
  const fd = openSync(dir, constants.O_RDONLY);
  try {
    fdatasyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function read(file: string): { mark: Mark; slot: number } | undefined {
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch {
    return undefined;
  }
  try {
    // Somebody else's file in a folder that everyone may write to is not ours.
    if (process.getuid !== undefined && fstatSync(fd).uid !== process.getuid()) return undefined;
    const slots = [0, 1].flatMap((slot) => {
      const bytes = Buffer.alloc(SLOT);
      if (readSync(fd, bytes, 0, SLOT, slot * SLOT) !== SLOT) return [];
      const mark = parse(bytes.toString('utf8').trimEnd());
      return mark === undefined ? [] : [{ mark, slot }];
    });
    return slots.sort((a, b) => b.mark.account.version - a.mark.account.version)[0];
  } catch {
    return undefined;
  } finally {
    closeSync(fd);
  }
}

function parse(text: string): Mark | undefined {
  const json = text.slice(9);
  if (text[8] !== ' ' || Number.parseInt(text.slice(0, 8), 16) !== crc32(json)) return undefined;
  // The checksum says that it is as we wrote it; an older program may have written less.
  const mark = JSON.parse(json) as Mark;
  return isSound(mark.account) && Number.isSafeInteger(mark.reserved) ? mark : undefined;
}
