import { randomBytes } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ungzip, unlz4, unsnappy, unzstd } from './decompress.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

it('reads Snappy: literals, copies near and far, copies that run into themselves', () => {
  expect(unsnappy(hex('05 10 68656c6c6f')).toString()).toBe('hello');
  // "ab", then 10 bytes from 2 back.
  expect(unsnappy(hex('0c 04 6162 26 0200')).toString()).toBe('abababababab');
  // The same with the short form: 4 + 3 bytes from 2 back.
  expect(unsnappy(hex('09 04 6162 0d 02')).toString()).toBe('ababababa');
  const long = Buffer.alloc(300, 'x');
  expect(unsnappy(Buffer.concat([hex('ac02 f4 2b01'), long])).equals(long)).toBe(true);
});

it('reads the blocks of snappy-java', () => {
  const block = hex('00000007 05 10 68656c6c6f');
  expect(unsnappy(Buffer.concat([hex('82534e4150505900 00000001 00000001'), block, block])).toString()).toBe('hellohello');
});

it('reads LZ4: blocks as they are, and sequences that reach back into the block before', () => {
  const frame = (...blocks: string[]) => hex(`04224d18 60 40 82 ${blocks.join('')} 00000000`);
  expect(unlz4(frame('05000080', '68656c6c6f')).toString()).toBe('hello');
  // "ab", then 4 + 6 bytes from 2 back, then "!" alone.
  expect(unlz4(frame('07000000', '26 6162 0200 10 21')).toString()).toBe('abababababab!');
  expect(unlz4(frame('05000080', '68656c6c6f', '05000000', '01 0500 10 21')).toString()).toBe('hellohello!');
});

it.each([
  ['gzip', gzipSync, ungzip],
  ['Zstandard', zstdCompressSync, unzstd],
])('reads %s, short and long, and takes no more memory than it may', async (_, compress, read) => {
  // What is compressed to more than 16 KB takes another way.
  for (const data of [Buffer.alloc(100_000), randomBytes(100_000)]) {
    const compressed = compress(data);
    expect((await read(compressed)).equals(data)).toBe(true);
    expect((await read(compressed, data.length)).equals(data)).toBe(true);
    await expect(read(compressed, data.length - 1)).rejects.toMatchObject({ code: 'ERR_BUFFER_TOO_LARGE' });
  }
});

it('says that data is damaged, whatever it is, and takes no more memory than there is', () => {
  for (const damaged of ['', '05', '05 10 68', '0c 04 6162 26 0900', 'ffffffff0f 04 6162'])
    expect(() => unsnappy(hex(damaged))).toThrow(/damaged/);
  for (const damaged of ['', '04224d18', '04224d18 60 40 82 05000080 68', '04224d18 60 40 82 04000000 26 61 62 09']) {
    expect(() => unlz4(hex(damaged))).toThrow(/damaged/);
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      for (const read of [unsnappy, (data: Buffer) => unlz4(Buffer.concat([hex('04224d18 60 40 82'), data]))]) {
        try {
          read(Buffer.from(bytes));
        } catch (error) {
          expect(String(error)).toMatch(/damaged/);
        }
      }
    }),
  );
});
