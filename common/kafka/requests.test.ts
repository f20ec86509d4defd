import fc from 'fast-check';
import parts from 'kafkajs/src/protocol/requests/index.js';
import { describe, expect, it } from 'vitest';
import type { Outgoing } from './batches.ts';
import { fetchFrom } from './fetch-decoder.ts';
import { encodeBatch } from './record-batch.ts';
import {
  ADD_OFFSETS,
  ADD_PARTITIONS,
  API_VERSIONS,
  type Api,
  CREATE_TOPICS,
  END_TXN,
  END_TXN_V2,
  FIND_COORDINATOR,
  HEARTBEAT,
  INIT_PRODUCER_ID,
  JOIN_GROUP,
  LEAVE_GROUP,
  LIST_OFFSETS,
  METADATA,
  OFFSET_COMMIT,
  OFFSET_FETCH,
  OFFSET_FETCH_UNSTABLE,
  PRODUCE,
  PRODUCE_V2,
  SASL_HANDSHAKE,
  SYNC_GROUP,
  TXN_OFFSET_COMMIT,
} from './requests.ts';
import { Reader, Writer } from './wire.ts';

function written<Question>(api: Api<Question, unknown>, question: Question): Buffer {
  const to = new Writer();
  api.write(to, question);
  return to.bytes;
}

/** What kafkajs writes for the same question, in the same version. */
async function asKafkajs(name: string, api: Pick<Api<never, unknown>, 'key' | 'version'>, args: object): Promise<Buffer> {
  const { request } = parts.requests[name]?.protocol({ version: api.version })(args) ?? expect.fail(`kafkajs does not know ${name}`);
  expect(request.apiKey).toBe(api.key);
  return (await request.encode()).buffer;
}

const text = fc.string({ unit: 'binary', maxLength: 40 }).map((value) => Buffer.from(value).toString());
const number = fc.integer({ min: 0, max: 2 ** 31 - 1 });
const topics = <T>(partition: fc.Arbitrary<T>) =>
  fc.array(fc.record({ topic: text, partitions: fc.array(partition, { maxLength: 4 }) }), { maxLength: 4 });
const producer = fc.record({
  transactionalId: text,
  producerId: fc.constantFrom('0', '-1', '9007199254740993'),
  producerEpoch: fc.integer({ min: -1, max: 32_767 }),
});
const offsets = topics(fc.record({ partition: number, offset: fc.maxSafeNat(), metadata: text }));
const asTexts = (list: Array<{ topic: string; partitions: Array<{ partition: number; offset: number; metadata: string }> }>) =>
  list.map(({ topic, partitions }) => ({ topic, partitions: partitions.map((at) => ({ ...at, offset: String(at.offset) })) }));
const member = fc.record({ group: text, generation: number, memberId: text });

describe('a request is to the byte what kafkajs writes', () => {
  const same = <Question>(
    name: string,
    api: Api<Question, unknown>,
    questions: fc.Arbitrary<Question>,
    args: (question: Question) => object,
  ) => {
    it(name, async () => {
      await fc.assert(
        fc.asyncProperty(questions, async (question) => {
          expect(written(api, question).toString('hex')).toBe((await asKafkajs(name, api, args(question))).toString('hex'));
        }),
      );
    });
  };

  same('SaslHandshake', SASL_HANDSHAKE, fc.record({ mechanism: text }), (question) => question);
  same('Metadata', METADATA, fc.record({ topics: fc.option(fc.array(text, { minLength: 1 })) }), ({ topics: asked }) => ({
    topics: asked ?? [],
    allowAutoTopicCreation: false,
  }));
  same('GroupCoordinator', FIND_COORDINATOR, fc.record({ key: text, kind: fc.constantFrom(0 as const, 1 as const) }), ({ key, kind }) => ({
    groupId: key,
    coordinatorType: kind,
  }));
  same('InitProducerId', INIT_PRODUCER_ID, fc.record({ transactionalId: fc.option(text), timeoutMs: number }), (question) => ({
    transactionalId: question.transactionalId,
    transactionTimeout: question.timeoutMs,
  }));
  same(
    'AddPartitionsToTxn',
    ADD_PARTITIONS,
    fc.tuple(producer, topics(number)).map(([head, list]) => ({ ...head, topics: list })),
    (question) => question,
  );
  same(
    'AddOffsetsToTxn',
    ADD_OFFSETS,
    fc.tuple(producer, text).map(([head, group]) => ({ ...head, group })),
    ({ group, ...head }) => ({ ...head, groupId: group }),
  );
  same(
    'TxnOffsetCommit',
    TXN_OFFSET_COMMIT,
    fc.tuple(producer, text, offsets).map(([head, group, list]) => ({ ...head, group, topics: list })),
    ({ group, topics: list, ...head }) => ({ ...head, groupId: group, topics: asTexts(list as Parameters<typeof asTexts>[0]) }),
  );
  same(
    'EndTxn',
    END_TXN,
    fc.tuple(producer, fc.boolean()).map(([head, commit]) => ({ ...head, commit })),
    ({ commit, ...head }) => ({ ...head, transactionResult: commit }),
  );
  same(
    'OffsetFetch',
    OFFSET_FETCH_UNSTABLE,
    fc.record({ group: text, topics: topics(number).filter((list) => list.length > 0) }),
    ({ group, topics: list }) => ({
      groupId: group,
      topics: list.map(({ topic, partitions }) => ({ topic, partitions: partitions.map((partition) => ({ partition })) })),
    }),
  );
  same(
    'OffsetCommit',
    OFFSET_COMMIT,
    fc.tuple(member, offsets).map(([head, list]) => ({ ...head, topics: list })),
    ({ group, generation, memberId, topics: list }) => ({
      groupId: group,
      groupGenerationId: generation,
      memberId,
      topics: asTexts(list as Parameters<typeof asTexts>[0]),
    }),
  );
  same(
    'ListOffsets',
    LIST_OFFSETS,
    fc.record({ level: fc.constantFrom(0 as const, 1 as const), topics: topics(fc.record({ partition: number, time: fc.maxSafeNat() })) }),
    ({ level, topics: list }) => ({
      isolationLevel: level,
      topics: list.map(({ topic, partitions }) => ({
        topic,
        partitions: partitions.map(({ partition, time }) => ({ partition, timestamp: String(time) })),
      })),
    }),
  );
  same(
    'Fetch',
    fetchFrom(() => 0),
    fc.record({
      maxWaitMs: number,
      maxBytes: number,
      topics: topics(fc.record({ partition: number, offset: fc.maxSafeNat(), maxBytes: number })),
    }),
    ({ maxWaitMs, maxBytes, topics: list }) => ({
      replicaId: -1,
      maxWaitTime: maxWaitMs,
      minBytes: 1,
      maxBytes,
      isolationLevel: 1,
      topics: list.map(({ topic, partitions }) => ({
        topic,
        partitions: partitions.map(({ partition, offset, maxBytes: most }) => ({ partition, fetchOffset: String(offset), maxBytes: most })),
      })),
    }),
  );
  const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
  same(
    'JoinGroup',
    JOIN_GROUP,
    fc.record({
      group: text,
      sessionMs: number,
      rebalanceMs: number,
      memberId: text,
      protocolType: text,
      protocols: fc.array(fc.record({ name: text, metadata: bytes }), { maxLength: 3 }),
    }),
    ({ group, sessionMs, rebalanceMs, memberId, protocolType, protocols }) => ({
      groupId: group,
      sessionTimeout: sessionMs,
      rebalanceTimeout: rebalanceMs,
      memberId,
      protocolType,
      groupProtocols: protocols,
    }),
  );
  same(
    'SyncGroup',
    SYNC_GROUP,
    fc
      .tuple(member, fc.array(fc.record({ memberId: text, share: bytes }), { maxLength: 3 }))
      .map(([head, shares]) => ({ ...head, shares })),
    ({ group, generation, memberId, shares }) => ({
      groupId: group,
      generationId: generation,
      memberId,
      groupAssignment: shares.map(({ memberId: of, share }) => ({ memberId: of, memberAssignment: share })),
    }),
  );
  same('Heartbeat', HEARTBEAT, member, ({ group, generation, memberId }) => ({ groupId: group, groupGenerationId: generation, memberId }));
  same('LeaveGroup', LEAVE_GROUP, fc.record({ group: text, memberId: text }), ({ group, memberId }) => ({
    groupId: group,
    memberId,
  }));
  same(
    'CreateTopics',
    CREATE_TOPICS,
    fc.record({
      topics: fc.array(
        fc.record({
          topic: text,
          partitions: number,
          replication: fc.integer({ min: -1, max: 3 }),
          config: fc.array(fc.record({ name: text, value: text }), { maxLength: 3 }),
        }),
        { maxLength: 3 },
      ),
      timeoutMs: number,
      validateOnly: fc.boolean(),
    }),
    ({ topics: wishes, timeoutMs, validateOnly }) => ({
      topics: wishes.map(({ topic, partitions, replication, config }) => ({
        topic,
        numPartitions: partitions,
        replicationFactor: replication,
        configEntries: config,
      })),
      timeout: timeoutMs,
      validateOnly,
    }),
  );

  it('Produce', async () => {
    const messages = fc.array(
      fc.record({
        topic: fc.constant('t'),
        key: fc.option(text),
        headers: fc.dictionary(text, text, { maxKeys: 4, noNullPrototype: true }),
        value: fc.oneof(fc.constant(null), text, bytes),
      }),
      { minLength: 1, maxLength: 200 },
    );
    const head = { producerId: '9007199254740993', producerEpoch: 12 };
    await fc.assert(
      fc.asyncProperty(messages, fc.option(text), fc.constantFrom(-1, 1_700_000_000_123), async (own, id, timestamp) => {
        const transactionalId = id === '' ? 'x' : id;
        const placed: Array<{ topic: string; partitions: Array<{ partition: number; firstSequence: number; messages: Outgoing[] }> }> = [
          {
            topic: 'TP_ü',
            partitions: [
              { partition: 3, firstSequence: 2 ** 31 - 1, messages: own },
              { partition: 4, firstSequence: 0, messages: own.slice(0, 1) },
            ],
          },
          { topic: 'b', partitions: [{ partition: 0, firstSequence: 7, messages: own }] },
        ];
        const batches = placed.map(async ({ topic, partitions }) => ({
          topic,
          partitions: await Promise.all(
            partitions.map(async ({ partition, firstSequence, messages: list }) => ({
              partition,
              batch: await encodeBatch(list, {
                ...head,
                firstSequence,
                transactional: transactionalId !== null,
                compression: 'none',
                timestamp,
              }),
            })),
          ),
        }));
        const question = { transactionalId, timeoutMs: 30_000, topics: await Promise.all(batches) };
        const theirs = {
          ...head,
          transactionalId,
          timeout: 30_000,
          acks: -1,
          compression: 0,
          topicData: placed.map(({ topic, partitions }) => ({
            topic,
            partitions: partitions.map((at) => ({
              ...at,
              messages: at.messages.map((message) => ({ ...message, timestamp: String(timestamp) })),
            })),
          })),
        };
        expect(written(PRODUCE, question).equals(await asKafkajs('Produce', PRODUCE, theirs))).toBe(true);
      }),
    );
  });
});

/** From the protocol's message definitions, byte by byte. */
describe('the requests that kafkajs does not know', () => {
  const hex = (bytes: string) => Buffer.from(bytes.replaceAll(' ', ''), 'hex');

  it('EndTxn 5', async () => {
    const question = { transactionalId: 'ab', producerId: '5', producerEpoch: 1, commit: true };
    expect(written(END_TXN_V2, question)).toEqual(hex('03 6162 0000000000000005 0001 01 00'));
    const from = new Reader(hex('00000007 0000 0000000000000005 0002 00'));
    expect(await END_TXN_V2.read(from)).toEqual({ errorCode: 0, producerId: '5', producerEpoch: 2 });
    expect(from.throttleMs).toBe(7);
  });

  it('Produce 12, and an answer with record errors, a message and tagged fields', async () => {
    const batch = Buffer.alloc(200, 1);
    const question = { transactionalId: 'ab', timeoutMs: 5, topics: [{ topic: 't', partitions: [{ partition: 3, batch }] }] };
    expect(written(PRODUCE_V2, question)).toEqual(
      Buffer.concat([hex('03 6162 ffff 00000005 02 02 74 02 00000003 c901'), batch, hex('00 00 00')]),
    );
    const partition = '00000003 001d 0000000000000001 0000000000000002 0000000000000003 02 00000009 02 78 00 03 6e6f 01 00 02 abcd';
    const from = new Reader(hex(`02 02 74 02 ${partition} 00 00000000 00`));
    expect(await PRODUCE_V2.read(from)).toEqual({ topics: [{ topic: 't', partitions: [{ partition: 3, errorCode: 29 }] }] });
  });

  it('OffsetFetch 7', async () => {
    const question = { group: 'ab', topics: [{ topic: 't', partitions: [3] }] };
    expect(written(OFFSET_FETCH, question)).toEqual(hex('03 6162 02 02 74 02 00000003 00 01 00'));
    const from = new Reader(hex('00000007 02 02 74 02 00000003 0000000000000005 00000001 03 6d64 0058 00 00 0000 00'));
    const partitions = [{ partition: 3, offset: 5, metadata: 'md', errorCode: 88 }];
    expect(await OFFSET_FETCH.read(from)).toEqual({ errorCode: 0, topics: [{ topic: 't', partitions }] });
    expect(from.throttleMs).toBe(7);
  });

  it('ApiVersions 3, with the features that the cluster has agreed on', async () => {
    const field = `02 14 ${Buffer.from('transaction.version').toString('hex')} 0002 0002 00`;
    const length = hex(field).length.toString(16).padStart(2, '0');
    const answer = `0000 02 0000 0003 000c 00 00000000 01 02 ${length} ${field}`;
    const abilities = await API_VERSIONS.read(new Reader(hex(answer)));
    expect(abilities.versions).toEqual(new Map([[0, { min: 3, max: 12 }]]));
    expect(abilities.features).toEqual(new Map([['transaction.version', 2]]));
  });
});

it('an answer that ends early is an error, wherever it ends', async () => {
  const whole = Buffer.from('00000000 0000 0000 00000001 0009 6c6f63616c686f7374 00002384'.replaceAll(' ', ''), 'hex');
  const answers = Array.from({ length: whole.length }, (_, length) => whole.subarray(0, length));
  for (const part of answers) expect(() => FIND_COORDINATOR.read(new Reader(part))).toThrow(RangeError);
});
