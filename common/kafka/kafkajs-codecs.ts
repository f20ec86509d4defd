/** Teaches kafkajs' reader of record batches what it brings no decompression for: zstd by Node's own zlib, Snappy and LZ4 by ours. */
import { promisify } from 'node:util';
import { zstdDecompress, zstdDecompressSync } from 'node:zlib';
import kafkajs from 'kafkajs';
import { unlz4, unsnappy } from './decompress.ts';

const { CompressionCodecs, CompressionTypes } = kafkajs;

/** Up to here it takes 0.02 to 0.1 ms at once, and another 0.1 to 0.15 ms by way of another thread; an answer has a batch of each partition. */
const AT_ONCE_BYTES = 16 * 1024;

const readOnly = (decompress: (buffer: Buffer) => Buffer | Promise<Buffer>) => () => ({
  compress: () => Promise.reject(new Error('kafkajs writes nothing here')),
  decompress: async (buffer: Buffer) => decompress(buffer),
});
CompressionCodecs[CompressionTypes.ZSTD] = readOnly((buffer) =>
  buffer.length <= AT_ONCE_BYTES ? zstdDecompressSync(buffer) : promisify(zstdDecompress)(buffer),
);
CompressionCodecs[CompressionTypes.Snappy] = readOnly(unsnappy);
CompressionCodecs[CompressionTypes.LZ4] = readOnly(unlz4);
