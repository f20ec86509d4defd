/** @platformatic/kafka in the same roles, as its documentation has them written: a stream of messages, transactions by hand. */
import { Consumer, Producer, type Message as Received, stringDeserializers } from '@platformatic/kafka';
import { type Rival, SETTINGS } from './rival.ts';

const written = { acks: -1, compression: SETTINGS.compression, idempotent: true } as const;

const RETRY_MS = 10;

const serializers = {
  key: (text?: string) => (text === undefined ? undefined : Buffer.from(text)),
  value: (bytes?: Buffer) => bytes,
  headerKey: (text?: string) => (text === undefined ? undefined : Buffer.from(text)),
  headerValue: (text?: string) => (text === undefined ? undefined : Buffer.from(text)),
};
const { key, headerKey, headerValue } = stringDeserializers;

function producerOn(bootstrap: string, transactionalId?: string) {
  return new Producer({
    clientId: 'bench',
    bootstrapBrokers: [bootstrap],
    // A second otherwise, and it waits once a transaction: the coordinator still ends the one before.
    retries: 100,
    retryDelay: RETRY_MS,
    serializers,
    ...written,
    ...(transactionalId === undefined ? {} : { transactionalId }),
  });
}

export const platformatic: Rival = {
  name: '@platformatic/kafka',

  async producer(bootstrap) {
    const producer = producerOn(bootstrap);
    return {
      send: async (batch) => {
        const messages = batch.map((message) => ({ ...message, key: message.key ?? '' }));
        await producer.send({ ...written, messages });
      },
      close: () => producer.close(),
    };
  },

  async consumer(bootstrap, group, topics, output) {
    const consumer = new Consumer({
      clientId: 'bench',
      bootstrapBrokers: [bootstrap],
      groupId: group,
      deserializers: { key, headerKey, headerValue },
      sessionTimeout: SETTINGS.sessionMs,
      rebalanceTimeout: SETTINGS.sessionMs,
      heartbeatInterval: 3000,
      autocommit: false,
      maxWaitTime: SETTINGS.maxWaitMs,
      maxBytes: SETTINGS.responseBytes,
      maxBytesPerPartition: SETTINGS.partitionBytes,
    });
    const producer = producerOn(bootstrap, `${group}.0`);
    const stream = await consumer.consume({ topics: [...topics], mode: 'committed', fallbackMode: 'earliest' });
    let handled = 0;
    const settle = async (batch: Array<Received<string, Buffer, string, string>>) => {
      const last = [...new Map(batch.map((message) => [message.topic, message])).values()];
      if (output === undefined) {
        await consumer.commit({
          offsets: last.map(({ topic, partition, offset }) => ({ topic, partition, offset: offset + 1n, leaderEpoch: 0 })),
        });
      } else {
        const transaction = await producer.beginTransaction(written);
        await transaction.addConsumer(consumer);
        await transaction.send({
          ...written,
          messages: batch.map((message) => ({ topic: output, key: message.key, value: message.value, headers: message.headers })),
        });
        for (const message of last) await transaction.addOffset(message);
        await transaction.commit();
      }
      handled += batch.length;
    };
    let failure: unknown;
    // What is there at once is a batch, as it is for the others.
    const running = (async () => {
      let batch: Array<Received<string, Buffer, string, string>> = [];
      for await (const message of stream) {
        batch.push(message);
        if (batch.length < SETTINGS.batch && stream.readableLength > 0) continue;
        await settle(batch);
        batch = [];
      }
    })().catch((error: unknown) => {
      failure = error;
    });
    return {
      handled: () => {
        if (failure !== undefined) throw failure;
        return handled;
      },
      close: async () => {
        await stream.close();
        await running;
        await consumer.close();
        await producer.close();
      },
    };
  },
};
