/**
 * Decompression of record batches. gzip and Zstandard are Node's own zlib; Snappy and LZ4, which others write, it does not know. Snappy
 * comes bare or in the blocks of snappy-java; LZ4 as a frame (its checksums are not looked at: the batch has its own).
 */
import { promisify } from 'node:util';
import { gunzip, gunzipSync, zstdDecompress, zstdDecompressSync } from 'node:zlib';

/** More than any broker lets a batch be, decompressed: a damaged length, or a few KB of nothing, must not take all memory. */
const MOST = 512 * 1024 * 1024;
/** Up to here it takes 0.02 to 0.1 ms at once, and another 0.1 to 0.15 ms by way of another thread; an answer has a batch of each partition. */
const AT_ONCE_BYTES = 16 * 1024;
const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0]);
const XERIAL_HEAD = 16;
const LZ4_MAGIC = 0x184d2204;

class Output {
  private buffer: Buffer;
  private length = 0;

  constructor(size: number) {
    this.buffer = Buffer.allocUnsafe(Math.max(64, Math.min(size, MOST)));
  }

  get bytes(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  append(from: Buffer, start: number, length: number): void {
    if (start + length > from.length) throw damaged();
    this.room(length);
    from.copy(this.buffer, this.length, start, start + length);
    this.length += length;
  }

  /** Repeats what was put out `distance` bytes ago; it may run into what it is putting out itself. */
  repeat(distance: number, length: number): void {
    if (distance < 1 || distance > this.length) throw damaged();
    this.room(length);
    const from = this.length - distance;
    if (distance >= length) this.buffer.copy(this.buffer, this.length, from, from + length);
    else for (let i = 0; i < length; i += 1) this.buffer[this.length + i] = this.buffer[from + i] ?? 0;
    this.length += length;
  }

  private room(more: number): void {
    const needed = this.length + more;
    if (needed > MOST) throw damaged();
    if (needed <= this.buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.min(MOST, Math.max(needed, this.buffer.length * 2)));
    this.buffer.copy(larger, 0, 0, this.length);
    this.buffer = larger;
  }
}

function damaged(): Error {
  return new Error('the compressed data is damaged');
}

/** @throws Error where the data is damaged, or is more than `most` bytes */
export async function ungzip(data: Buffer, most = MOST): Promise<Buffer> {
  const options = { maxOutputLength: most };
  return data.length <= AT_ONCE_BYTES ? gunzipSync(data, options) : await promisify(gunzip)(data, options);
}

/** @throws Error where the data is damaged, or is more than `most` bytes */
export async function unzstd(data: Buffer, most = MOST): Promise<Buffer> {
  const options = { maxOutputLength: most };
  return data.length <= AT_ONCE_BYTES ? zstdDecompressSync(data, options) : await promisify(zstdDecompress)(data, options);
}

/** @throws Error where the data is damaged */
export function unsnappy(data: Buffer): Buffer {
  if (!data.subarray(0, XERIAL.length).equals(XERIAL)) return unsnappyBlock(data);
  const blocks: Buffer[] = [];
  for (let at = XERIAL_HEAD; at + 4 <= data.length; ) {
    const length = data.readUInt32BE(at);
    if (at + 4 + length > data.length) throw damaged();
    blocks.push(unsnappyBlock(data.subarray(at + 4, at + 4 + length)));
    at += 4 + length;
  }
  return Buffer.concat(blocks);
}

function unsnappyBlock(data: Buffer): Buffer {
  let at = 0;
  const byte = () => {
    const value = data[at];
    if (value === undefined) throw damaged();
    at += 1;
    return value;
  };
  const little = (bytes: number) => {
    let value = 0;
    for (let i = 0; i < bytes; i += 1) value += byte() * 2 ** (8 * i);
    return value;
  };
  let size = 0;
  for (let shift = 0; ; shift += 7) {
    const part = byte();
    size += (part & 0x7f) * 2 ** shift;
    if (part < 0x80) break;
    if (shift > 28) throw damaged();
  }
  const output = new Output(size);
  while (at < data.length) {
    const tag = byte();
    const kind = tag & 3;
    if (kind === 0) {
      const short = tag >> 2;
      const length = 1 + (short < 60 ? short : little(short - 59));
      output.append(data, at, length);
      at += length;
    } else if (kind === 1) output.repeat(((tag >> 5) << 8) | byte(), 4 + ((tag >> 2) & 7));
    else output.repeat(little(kind === 2 ? 2 : 4), 1 + (tag >> 2));
  }
  if (output.bytes.length !== size) throw damaged();
  return output.bytes;
}

/** @throws Error where the data is damaged */
export function unlz4(data: Buffer): Buffer {
  const output = new Output(data.length * 4);
  if (data.length < 7 || data.readUInt32LE(0) !== LZ4_MAGIC) throw damaged();
  const flags = data[4] ?? 0;
  const blockChecksums = (flags & 0x10) !== 0;
  // After flags and block size: the content's size and a dictionary's id where there are such, and a checksum of it all.
  let at = 6 + ((flags & 0x08) === 0 ? 0 : 8) + ((flags & 0x01) === 0 ? 0 : 4) + 1;
  for (;;) {
    if (at + 4 > data.length) throw damaged();
    const head = data.readUInt32LE(at);
    at += 4;
    if (head === 0) return output.bytes;
    const length = head & 0x7fffffff;
    if (at + length > data.length) throw damaged();
    if (head >= 0x80000000) output.append(data, at, length);
    else unlz4Block(data.subarray(at, at + length), output);
    at += length + (blockChecksums ? 4 : 0);
  }
}

function unlz4Block(data: Buffer, output: Output): void {
  let at = 0;
  const more = (length: number) => {
    if (length < 15) return length;
    for (;;) {
      const byte = data[at];
      if (byte === undefined) throw damaged();
      at += 1;
      length += byte;
      if (byte !== 255) return length;
    }
  };
  while (at < data.length) {
    const token = data[at] ?? 0;
    at += 1;
    const literals = more(token >> 4);
    output.append(data, at, literals);
    at += literals;
    // The last sequence has literals only.
    if (at === data.length) return;
    if (at + 2 > data.length) throw damaged();
    const distance = data.readUInt16LE(at);
    at += 2;
    output.repeat(distance, more(token & 15) + 4);
  }
}
