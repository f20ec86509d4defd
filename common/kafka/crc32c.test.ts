import fc from 'fast-check';
import kafkajsCrc32c from 'kafkajs/src/protocol/recordBatch/crc32C/index.js';
import { expect, it } from 'vitest';
import { crc32c } from './crc32c.ts';

it('gives what RFC 3720 says', () => {
  expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
  expect(crc32c(Buffer.from(Array.from({ length: 32 }, (_, i) => i)))).toBe(0x46dd794e);
});

it('gives what kafkajs does, of any length from any place', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(20), (bytes, from) => {
      const some = Buffer.from(bytes).subarray(from);
      expect(crc32c(some)).toBe(kafkajsCrc32c(some));
    }),
  );
});
