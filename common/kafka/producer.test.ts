import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { configWith, testLog } from '../../test/kafka-bus.ts';
import { hasKcat, NEEDS_KCAT, readTopic } from '../../test/kcat.ts';
import { canStartKafka, type Kafka, NEEDS_OWN_KAFKA, startKafka } from '../../test/real/kafka.ts';
import { Cluster } from './cluster.ts';
import { committedPositions, keyOf } from './positions.ts';
import { Producer } from './producer.ts';
import { initProducerId } from './producer-id.ts';
import type { Api, Code } from './requests.ts';
import { kafkaOptions } from './settings.ts';
import { TopicMaker } from './topic-maker.ts';

/** What the brokers agree on: how high a feature may be. */
const UPDATE_FEATURE: Api<{ feature: string; level: number }, Code & { message: string | null }> = {
  name: 'UpdateFeatures',
  key: 57,
  version: 1,
  flexible: true,
  write(to, { feature, level }) {
    to.int32(10_000).compactArray([feature], (name) =>
      to
        .compactString(name)
        .int16(level)
        .int8(level < 2 ? SAFE_DOWNGRADE : UPGRADE)
        .tags(),
    );
    to.bool(false).tags();
  },
  read(from) {
    from.throttle();
    return { errorCode: from.int16(), message: from.compactString() };
  },
};

const UPGRADE = 1;
const SAFE_DOWNGRADE = 2;

const LAST_EPOCH = 2 ** 15 - 1;
const WITHIN_MS = 20_000;
const TRANSACTION_MS = 60_000;

describe.skipIf(!canStartKafka || !hasKcat)(`transactions of version 2${NEEDS_OWN_KAFKA}${NEEDS_KCAT}`, () => {
  let kafka: Kafka;
  beforeAll(async () => {
    kafka = await startKafka();
  }, 60_000);
  afterAll(() => kafka.stop());

  function open(id: string) {
    const options = kafkaOptions(configWith(kafka.bootstrap), id);
    const cluster = new Cluster(options.client, testLog);
    onTestFinished(() => cluster.close());
    const producer = new Producer(cluster, new TopicMaker(cluster, options.topics), options, id);
    const topic = `TP_${id}`;
    const at = { topic, partition: 0 };
    const send = async (from: number, to: number) => {
      if (!producer.ready) await producer.init(WITHIN_MS);
      const messages = Array.from({ length: to - from + 1 }, (_, i) => ({ topic, key: 'r1', headers: {}, value: String(from + i) }));
      await producer.transaction(messages, { group: id, positions: [{ ...at, offset: to + 1 }] }, WITHIN_MS);
    };
    /** Of the next identity; taking it ends ours. */
    const epoch = async () => (await initProducerId(cluster, id, TRANSACTION_MS, WITHIN_MS)).producerEpoch;
    const values = async () => (await readTopic(kafka.bootstrap, topic)).map(({ value }) => Number(value));
    const position = async () => (await committedPositions(cluster, id, [at])).get(keyOf(at))?.offset;
    return { cluster, producer, send, epoch, values, position };
  }
  const numbers = (to: number) => Array.from({ length: to }, (_, i) => i + 1);

  it('commits records and position together, each transaction under an epoch of its own', async () => {
    const { send, epoch, values, position } = open('v2');
    for (let seq = 1; seq <= 30; seq += 3) await send(seq, seq + 2);
    expect(await values()).toEqual(numbers(30));
    expect(await position()).toBe(31);
    // Epoch 0 was that of the start.
    expect(await epoch()).toBeGreaterThan(10);
  });

  it('goes on where the brokers go back to the older transactions, and forward again, while it runs', async () => {
    const { cluster, send, epoch, values, position } = open('v1');
    const level = async (to: number) => {
      const answer = await cluster.ask('any', 'main', UPDATE_FEATURE, { feature: 'transaction.version', level: to });
      expect(answer).toMatchObject({ errorCode: 0 });
    };
    /** As the agent does: what failed is sent again, unless the position tells that it is there. */
    const persist = async (from: number, to: number) => {
      for (let tries = 0; ; tries += 1) {
        try {
          return await send(from, to);
        } catch (error) {
          if (tries > 5) throw error;
          if ((await position()) === to + 1) return;
        }
      }
    };
    await persist(1, 5);
    await level(1);
    for (let seq = 6; seq <= 15; seq += 1) await persist(seq, seq);
    expect(await values()).toEqual(numbers(15));
    await level(2);
    for (let seq = 16; seq <= 25; seq += 1) await persist(seq, seq);
    expect(await values()).toEqual(numbers(25));
    expect(await position()).toBe(26);
    expect(await epoch()).toBeGreaterThan(0);
  });

  it('goes on when the epochs of its id run out, and shuts out who still has one of them', async () => {
    const { cluster, producer, send, values, position } = open('epochs');
    const take = () => initProducerId(cluster, 'epochs', TRANSACTION_MS, WITHIN_MS);
    const first = await take();
    for (let epoch = first.producerEpoch; epoch < LAST_EPOCH - 8; ) epoch = (await take()).producerEpoch;
    for (let seq = 1; seq <= 20; seq += 1) await send(seq, seq);
    expect((await take()).producerId).not.toBe(first.producerId);
    producer.adopt({ ...first, producerEpoch: LAST_EPOCH - 1 });
    await expect(send(21, 21)).rejects.toThrow(/INVALID_PRODUCER_EPOCH|PRODUCER_FENCED|INVALID_PRODUCER_ID_MAPPING/);
    await send(21, 21);
    expect(await values()).toEqual(numbers(21));
    expect(await position()).toBe(22);
  }, 60_000);

  it('is refused where another process took its identity, and goes on when it takes it back', async () => {
    const { producer, send, values } = open('twice');
    await send(1, 2);
    const other = open('twice');
    await other.send(3, 4);
    await expect(send(5, 6)).rejects.toThrow(/INVALID_PRODUCER_EPOCH|PRODUCER_FENCED/);
    expect(producer.ready).toBe(false);
    await send(5, 6);
    expect(await values()).toEqual(numbers(6));
  });
});
