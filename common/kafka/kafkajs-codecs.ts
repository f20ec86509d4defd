/** Teaches kafkajs' reader of record batches our decompression: it brings none but gzip's, and that without a bound. */
import kafkajs from 'kafkajs';
import { ungzip, unlz4, unsnappy, unzstd } from './decompress.ts';

const { CompressionCodecs, CompressionTypes } = kafkajs;

const readOnly = (decompress: (buffer: Buffer) => Buffer | Promise<Buffer>) => () => ({
  compress: () => Promise.reject(new Error('kafkajs writes nothing here')),
  decompress: async (buffer: Buffer) => decompress(buffer),
});
CompressionCodecs[CompressionTypes.GZIP] = readOnly((buffer) => ungzip(buffer));
CompressionCodecs[CompressionTypes.ZSTD] = readOnly((buffer) => unzstd(buffer));
CompressionCodecs[CompressionTypes.Snappy] = readOnly(unsnappy);
CompressionCodecs[CompressionTypes.LZ4] = readOnly(unlz4);
