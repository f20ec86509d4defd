/**
 * Whether a write-ahead log is whole, as far as that can be told: SQLite takes what comes before the first frame that is not right and
 * passes over the rest without a word, so commits that were waited for can be missing.
 *
 * The format: https://www.sqlite.org/fileformat2.html#walformat
 */
import { readFileSync } from 'node:fs';
import { codeOf } from '../../common/errors.ts';

export type LogState =
  /** Missing or empty. */
  | 'none'
  | 'whole'
  /** A frame of the present round is not right: commits from there on are lost, or one was being written. */
  | 'torn';

const HEADER = 32;
const FRAME = 24;

export function logState(file: string): LogState {
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
  let sum = checksum(log, 0, 24, [0, 0], big);
  if (sum[0] !== log.readUInt32BE(24) || sum[1] !== log.readUInt32BE(28)) return 'torn';
  const size = FRAME + pageSize;
  let at = HEADER;
  for (; at + size <= log.length; at += size) {
    // Frames of an earlier round: the log was begun anew and has not come so far again. None of this round may lie behind the first of them.
    if (!isOfRound(log, at)) return anyOfRound(log, at, size) ? 'torn' : 'whole';
    sum = checksum(log, at, 8, sum, big);
    sum = checksum(log, at + FRAME, pageSize, sum, big);
    if (sum[0] !== log.readUInt32BE(at + 16) || sum[1] !== log.readUInt32BE(at + 20)) return 'torn';
  }
  return at === log.length ? 'whole' : 'torn';
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
