/**
 * Whether a write-ahead log is whole, as far as that can be told: SQLite takes what comes before the first frame that is not right and
 * passes over the rest without a word, so commits that were waited for can be missing.
 *
 * The log's index beside it (`-shm`) says how many frames were committed. It is never waited for, so it tells of a process that was
 * killed and nothing of a machine that went down.
 *
 * The formats: https://www.sqlite.org/fileformat2.html#walformat, https://www.sqlite.org/walformat.html#the_wal_index_file_format
 */
import { readFileSync } from 'node:fs';
import { endianness } from 'node:os';
import { codeOf } from '../../common/errors.ts';

export type LogState =
  /** Missing or empty. */
  | 'none'
  | 'whole'
  /** A frame of the present round is not right, or not there: commits from there on are lost, or one was being written. */
  | 'torn';

const HEADER = 32;
const FRAME = 24;
const INDEX_HEADER = 48;
const INDEX_VERSION = 3_007_000;

/** @param sameBoot whether the machine has been up since the log was written: then its index knows what was committed */
export function logState(file: string, sameBoot = false): LogState {
  let log: Buffer;
  try {
    log = readFileSync(`${file}-wal`);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return 'none';
    throw error;
  }
  if (log.length === 0) return 'none';
  if (log.length < HEADER) return 'torn';
  const magic = log.readUInt32BE(0);
  if (magic !== 0x377f0682 && magic !== 0x377f0683) return 'torn';
  const big = magic === 0x377f0683;
  const pageSize = log.readUInt32BE(8);
  if (pageSize < 512 || pageSize > 65536) return 'torn';
  const sum = checksum(log, 0, 24, [0, 0], big);
  if (sum[0] !== log.readUInt32BE(24) || sum[1] !== log.readUInt32BE(28)) return 'torn';
  const committed = sameBoot ? committedFrames(file, log) : undefined;
  const size = FRAME + pageSize;
  const intact = intactFrames(log, size, sum, big);
  // What comes after the last commit was being written, and nobody was told that it is there.
  if (committed !== undefined) return committed <= intact.frames ? 'whole' : 'torn';
  return intact.state;
}

/** How many frames of this round are right from the first on, and what that says of the log. */
function intactFrames(log: Buffer, size: number, start: [number, number], big: boolean): { frames: number; state: LogState } {
  let sum = start;
  let at = HEADER;
  const frames = () => (at - HEADER) / size;
  for (; at + size <= log.length; at += size) {
    // Frames of an earlier round: the log was begun anew and has not come so far again. None of this round may lie behind the first of them.
    if (!isOfRound(log, at)) return { frames: frames(), state: anyOfRound(log, at, size) ? 'torn' : 'whole' };
    sum = checksum(log, at, 8, sum, big);
    sum = checksum(log, at + FRAME, size - FRAME, sum, big);
    if (sum[0] !== log.readUInt32BE(at + 16) || sum[1] !== log.readUInt32BE(at + 20)) return { frames: frames(), state: 'torn' };
  }
  return { frames: frames(), state: at === log.length ? 'whole' : 'torn' };
}

/** Frames that the index says were committed; undefined where it is not there, not whole, or of another round. */
function committedFrames(file: string, log: Buffer): number | undefined {
  let index: Buffer;
  try {
    index = readFileSync(`${file}-shm`);
  } catch {
    return undefined;
  }
  // Two copies of the header: they differ while one is being written.
  if (index.length < 2 * INDEX_HEADER || !index.subarray(0, INDEX_HEADER).equals(index.subarray(INDEX_HEADER, 2 * INDEX_HEADER)))
    return undefined;
  const big = endianness() === 'BE';
  const word = (at: number) => (big ? index.readUInt32BE(at) : index.readUInt32LE(at));
  const sum = checksum(index, 0, 40, [0, 0], big);
  if (word(0) !== INDEX_VERSION || index[12] !== 1 || sum[0] !== word(40) || sum[1] !== word(44)) return undefined;
  // The salts are kept byte by byte as they are in the log.
  if (!index.subarray(32, 40).equals(log.subarray(16, 24))) return undefined;
  return word(16);
}

/** Whether a frame carries both of the round's salts. */
function isOfRound(log: Buffer, at: number): boolean {
  return log.readUInt32BE(at + 8) === log.readUInt32BE(16) && log.readUInt32BE(at + 12) === log.readUInt32BE(20);
}

/** Whether a frame from `at` on carries one of the round's salts: each round changes both. */
function anyOfRound(log: Buffer, at: number, size: number): boolean {
  for (; at + size <= log.length; at += size) {
    if (log.readUInt32BE(at + 8) === log.readUInt32BE(16) || log.readUInt32BE(at + 12) === log.readUInt32BE(20)) return true;
  }
  return false;
}

function checksum(bytes: Buffer, from: number, length: number, [a, b]: [number, number], big: boolean): [number, number] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = from; at < from + length; at += 8) {
    a = (a + view.getUint32(at, !big) + b) >>> 0;
    b = (b + view.getUint32(at + 4, !big) + a) >>> 0;
  }
  return [a, b];
}
