/** The least that one writes with kafkajs' own producer and consumer: what the others are measured against. */
import kafkajs from 'kafkajs';
import type { Message } from '../../common/bus.ts';
import { compress, compressionType } from '../../common/kafka/codecs.ts';
import '../../common/kafka/kafkajs-codecs.ts';
import { type Rival, SETTINGS } from './rival.ts';

const { CompressionCodecs, CompressionTypes } = kafkajs;
const { decompress } = CompressionCodecs[CompressionTypes.ZSTD]();
/** kafkajs brings no zstd: it gets the one that ndt compresses with. */
CompressionCodecs[CompressionTypes.ZSTD] = () => ({ compress: ({ buffer }: { buffer: Buffer }) => compress('zstd', buffer), decompress });

export function clientOf(bootstrap: string): InstanceType<typeof kafkajs.Kafka> {
  return new kafkajs.Kafka({ brokers: [bootstrap], clientId: 'bench', logLevel: kafkajs.logLevel.NOTHING });
}

/** As `sendBatch` takes them. */
export function byTopicOf(batch: readonly Message[]) {
  const topics = new Map<string, Array<Pick<Message, 'key' | 'value' | 'headers'>>>();
  for (const { topic, key, value, headers } of batch) {
    const messages = topics.get(topic);
    if (messages === undefined) topics.set(topic, [{ key, value, headers }]);
    else messages.push({ key, value, headers });
  }
  return {
    acks: -1,
    compression: compressionType(SETTINGS.compression),
    topicMessages: [...topics].map(([topic, messages]) => ({ topic, messages })),
  };
}

const idempotent = { idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: false };

export const bareKafkajs: Rival = {
  name: 'kafkajs',

  async producer(bootstrap) {
    const producer = clientOf(bootstrap).producer(idempotent);
    await producer.connect();
    return { send: async (batch) => void (await producer.sendBatch(byTopicOf(batch))), close: () => producer.disconnect() };
  },

  async consumer(bootstrap, group, topics, output) {
    const client = clientOf(bootstrap);
    const consumer = client.consumer({
      groupId: group,
      maxWaitTimeInMs: SETTINGS.maxWaitMs,
      maxBytesPerPartition: SETTINGS.partitionBytes,
      maxBytes: SETTINGS.responseBytes,
      sessionTimeout: SETTINGS.sessionMs,
      readUncommitted: false,
    });
    const producer = client.producer({
      ...idempotent,
      transactionalId: `${group}.0`,
      transactionTimeout: SETTINGS.transactionMs,
    });
    let handled = 0;
    if (output !== undefined) await producer.connect();
    await consumer.connect();
    await consumer.subscribe({ topics: [...topics], fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      eachBatch: async ({ batch: { topic, partition, messages }, resolveOffset, heartbeat }) => {
        for (let i = 0; i < messages.length; i += SETTINGS.batch) {
          const part = messages.slice(i, i + SETTINGS.batch);
          const last = part.at(-1)?.offset ?? '0';
          const position = { topic, partition, offset: String(BigInt(last) + 1n) };
          if (output === undefined) {
            await consumer.commitOffsets([position]);
          } else {
            const transaction = await producer.transaction();
            await transaction.sendBatch({
              acks: -1,
              compression: compressionType(SETTINGS.compression),
              topicMessages: [
                { topic: output, messages: part.map(({ key, value, headers }) => ({ key, value, ...(headers && { headers }) })) },
              ],
            });
            await transaction.sendOffsets({ consumerGroupId: group, topics: [{ topic, partitions: [position] }] });
            await transaction.commit();
          }
          resolveOffset(last);
          handled += part.length;
          await heartbeat();
        }
      },
    });
    return {
      handled: () => handled,
      close: async () => {
        await consumer.disconnect();
        await producer.disconnect();
      },
    };
  },
};
