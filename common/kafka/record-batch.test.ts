import fc from 'fast-check';
import kafkajsDecoder from 'kafkajs/src/protocol/decoder.js';
import decodeRecordBatch from 'kafkajs/src/protocol/recordBatch/v0/decoder.js';
import parts from 'kafkajs/src/protocol/requests/index.js';
import { describe, expect, it } from 'vitest';
import type { Outgoing } from './batches.ts';
import './codecs.ts';
import { encodeBatch, encodeProduce } from './record-batch.ts';

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

/** What kafkajs writes for the same request, uncompressed. */
async function asKafkajs(args: Parameters<typeof encodeProduce>[0]): Promise<Buffer> {
  const topicData = args.topicData.map(({ topic, partitions }) => ({
    topic,
    partitions: partitions.map(({ partition, sequence, messages: own }) => ({
      partition,
      firstSequence: sequence,
      messages: own.map((message) => ({ ...message, timestamp: String(args.timestamp) })),
    })),
  }));
  const { request } = parts.requests.Produce?.protocol({ version: 7 })({ ...args, acks: -1, compression: 0, topicData }) ?? {};
  return (await (request as { encode(): Promise<{ buffer: Buffer }> }).encode()).buffer;
}

describe('a Produce request', () => {
  it('is to the byte what kafkajs writes', async () => {
    await fc.assert(
      fc.asyncProperty(messages, fc.option(text), fc.constantFrom(-1, 1_700_000_000_123), async (own, transactionalId, timestamp) => {
        const { firstSequence: sequence, transactional: _, ...more } = head;
        const args = {
          ...more,
          timestamp,
          transactionalId: transactionalId === '' ? 'x' : transactionalId,
          timeout: 30_000,
          compression: 'none' as const,
          topicData: [
            {
              topic: 'TP_ü',
              partitions: [
                { partition: 3, sequence, messages: own },
                { partition: 4, sequence: 0, messages: own.slice(0, 1) },
              ],
            },
            { topic: 'b', partitions: [{ partition: 0, sequence: 7, messages: own }] },
          ],
        };
        expect((await encodeProduce(args)).equals(await asKafkajs(args))).toBe(true);
      }),
    );
  });
});

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
