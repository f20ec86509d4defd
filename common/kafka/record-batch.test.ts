import fc from 'fast-check';
import kafkajsDecoder from 'kafkajs/src/protocol/decoder.js';
import decodeRecordBatch from 'kafkajs/src/protocol/recordBatch/v0/decoder.js';
import { describe, expect, it } from 'vitest';
import type { Outgoing } from './batches.ts';
import './kafkajs-codecs.ts';
import { encodeBatch } from './record-batch.ts';

const text = fc.string({ unit: 'binary', maxLength: 40 }).map((value) => Buffer.from(value).toString());
const messages = fc.array(
  fc.record({
    topic: fc.constant('t'),
    key: fc.option(text),
    // kafkajs' decoder trips over names such as `valueOf`.
    headers: fc.dictionary(
      text.map((name) => `h-${name}`),
      text,
      { maxKeys: 4, noNullPrototype: true },
    ),
    value: fc.oneof(
      fc.constant(null),
      text,
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    ),
  }),
  { minLength: 1, maxLength: 200 },
);
const head = {
  producerId: '9007199254740993',
  producerEpoch: 12,
  firstSequence: 2 ** 31 - 1,
  transactional: true,
  timestamp: 1_700_000_000_123,
};

describe('a batch', () => {
  it.each(['gzip', 'zstd', 'none'] as const)('comes back with %s', async (compression) => {
    await fc.assert(
      fc.asyncProperty(messages, async (own) => {
        const batch = await decodeRecordBatch(new kafkajsDecoder(await encodeBatch(own, { ...head, compression })));
        expect(batch).toMatchObject({
          producerId: head.producerId,
          inTransaction: true,
          isControlBatch: false,
          lastOffsetDelta: own.length - 1,
        });
        expect(batch.records.map(({ key, value }) => [key, value])).toEqual(own.map(({ key, value }) => [bytes(key), bytes(value)]));
        expect(batch.records.map(({ offset }) => Number(offset))).toEqual(own.map((_, i) => i));
        expect(
          batch.records.map(({ headers }) =>
            Object.entries(headers)
              .map(([name, one]) => [name, String(one)])
              .sort(),
          ),
        ).toEqual(own.map(({ headers }) => Object.entries(headers).sort()));
      }),
      { numRuns: 30 },
    );
  });
});

const bytes = (value: Outgoing['value']) => (typeof value === 'string' ? Buffer.from(value) : value);
