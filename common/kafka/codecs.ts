/** Compression of record batches. kafkajs brings only gzip: zstd comes from Node's own zlib, what others write in Snappy or LZ4 is read. */
import { promisify } from 'node:util';
import { gzip, zstdCompress, zstdDecompress } from 'node:zlib';
import kafkajs from 'kafkajs';
import { unlz4, unsnappy } from './decompress.ts';

export type Codec = 'gzip' | 'zstd' | 'none';

const { CompressionCodecs, CompressionTypes } = kafkajs;

const writes = (codec: Exclude<Codec, 'none'>) => ({ compress: ({ buffer }: { buffer: Buffer }) => compress(codec, buffer) });
const readOnly = (decompress: (buffer: Buffer) => Buffer) => () => ({
  compress: () => Promise.reject(new Error('ndt writes gzip, zstd or no compression')),
  decompress: (buffer: Buffer) => Promise.resolve(decompress(buffer)),
});
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  ...writes('zstd'),
  decompress: (buffer: Buffer) => promisify(zstdDecompress)(buffer),
});
CompressionCodecs[CompressionTypes.Snappy] = readOnly(unsnappy);
CompressionCodecs[CompressionTypes.LZ4] = readOnly(unlz4);
const { decompress: ungzip } = CompressionCodecs[CompressionTypes.GZIP]();
CompressionCodecs[CompressionTypes.GZIP] = () => ({ ...writes('gzip'), decompress: ungzip });

const TYPES = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, zstd: CompressionTypes.ZSTD } as const;

export function compressionType(codec: Codec): number {
  return TYPES[codec];
}

/** Level 1 of gzip takes a third of the time of the usual one and gives a tenth away. */
export async function compress(codec: Exclude<Codec, 'none'>, bytes: Buffer): Promise<Buffer> {
  return codec === 'gzip' ? await promisify(gzip)(bytes, { level: 1 }) : await promisify(zstdCompress)(bytes);
}
