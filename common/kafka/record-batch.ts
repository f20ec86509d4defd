/**
 * Records written in Kafka's format (record batch, magic 2). kafkajs makes several objects for each record and header and copies each byte
 * a few times; here a batch is measured first and then written into one buffer.
 */

import type { Outgoing } from './batches.ts';
import { type Codec, compress, compressionType } from './codecs.ts';
import { crc32c } from './crc32c.ts';

export interface BatchHead {
  producerId: string;
  producerEpoch: number;
  /** Of the batch's first record. */
  firstSequence: number;
  transactional: boolean;
  compression: Codec;
  /** Of all its records, Unix ms; -1 is none. */
  timestamp: number;
}

/** After offset and length: leader epoch, magic and checksum; what the checksum covers begins behind them. */
const SUMMED_AT = 21;
const HEAD_BYTES = 61;
const TRANSACTIONAL = 0x10;

/** One batch, from its first offset (0: the broker sets it) to its last record. */
export async function encodeBatch(messages: readonly Outgoing[], head: BatchHead): Promise<Buffer> {
  const { compression } = head;
  const batch =
    compression === 'none'
      ? encodeRecords(messages, HEAD_BYTES)
      : Buffer.concat([Buffer.alloc(HEAD_BYTES), await compress(compression, encodeRecords(messages, 0))]);
  batch.writeBigInt64BE(0n, 0);
  batch.writeInt32BE(batch.length - 12, 8);
  batch.writeInt32BE(0, 12);
  batch.writeInt8(2, 16);
  batch.writeInt16BE(compressionType(compression) | (head.transactional ? TRANSACTIONAL : 0), SUMMED_AT);
  batch.writeInt32BE(messages.length - 1, 23);
  batch.writeBigInt64BE(BigInt(head.timestamp), 27);
  batch.writeBigInt64BE(BigInt(head.timestamp), 35);
  batch.writeBigInt64BE(BigInt(head.producerId), 43);
  batch.writeInt16BE(head.producerEpoch, 51);
  batch.writeInt32BE(head.firstSequence, 53);
  batch.writeInt32BE(messages.length, 57);
  batch.writeUInt32BE(crc32c(batch.subarray(SUMMED_AT)), 17);
  return batch;
}

/** @param room bytes left free at the front */
function encodeRecords(messages: readonly Outgoing[], room: number): Buffer {
  // The number of each record first, as many as there are: measured once, written with the same measures.
  const sizes = messages.map(sizeOf);
  let total = room;
  for (const size of sizes) total += varintSize(size) + size;
  const buffer = Buffer.allocUnsafe(total);
  let at = room;
  const varint = (n: number) => {
    // Zigzag, of what is never below -1.
    let rest = n < 0 ? 1 : n * 2;
    while (rest > 0x7f) {
      buffer[at++] = (rest & 0x7f) | 0x80;
      rest = Math.floor(rest / 128);
    }
    buffer[at++] = rest;
  };
  const text = (value: string) => {
    varint(Buffer.byteLength(value));
    at += buffer.write(value, at);
  };
  messages.forEach(({ key, value, headers }, i) => {
    varint(sizes[i] ?? 0);
    buffer[at++] = 0;
    // All records of a batch have its time.
    varint(0);
    varint(i);
    if (key === null) varint(-1);
    else text(key);
    if (value === null) varint(-1);
    else if (typeof value === 'string') text(value);
    else {
      varint(value.length);
      at += value.copy(buffer, at);
    }
    const names = Object.keys(headers);
    varint(names.length);
    for (const name of names) {
      text(name);
      text(headers[name] ?? '');
    }
  });
  return buffer;

  function sizeOf({ key, value, headers }: Outgoing, i: number): number {
    const names = Object.keys(headers);
    let size = 2 + varintSize(i) + bytesSize(key) + bytesSize(value) + varintSize(names.length);
    for (const name of names) size += bytesSize(name) + bytesSize(headers[name] ?? '');
    return size;
  }
}

function bytesSize(value: Buffer | string | null): number {
  if (value === null) return 1;
  const bytes = typeof value === 'string' ? Buffer.byteLength(value) : value.length;
  return varintSize(bytes) + bytes;
}

function varintSize(n: number): number {
  let size = 1;
  for (let rest = n * 2; rest > 0x7f; rest = Math.floor(rest / 128)) size += 1;
  return size;
}
