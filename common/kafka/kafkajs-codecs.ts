/** Teaches kafkajs' reader of record batches what it brings no decompression for: zstd by Node's own zlib, Snappy and LZ4 by ours. */
import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import kafkajs from 'kafkajs';
import { unlz4, unsnappy } from './decompress.ts';

const { CompressionCodecs, CompressionTypes } = kafkajs;

const readOnly = (decompress: (buffer: Buffer) => Buffer | Promise<Buffer>) => () => ({
  compress: () => Promise.reject(new Error('kafkajs writes nothing here')),
  decompress: async (buffer: Buffer) => decompress(buffer),
});
CompressionCodecs[CompressionTypes.ZSTD] = readOnly((buffer) => promisify(zstdDecompress)(buffer));
CompressionCodecs[CompressionTypes.Snappy] = readOnly(unsnappy);
CompressionCodecs[CompressionTypes.LZ4] = readOnly(unlz4);
