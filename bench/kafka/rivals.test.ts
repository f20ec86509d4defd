/** What is measured has to work: each client in each of its roles, over a handful of records. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canStartKafka, type Kafka, NEEDS_OWN_KAFKA, startKafka } from '../../test/real/kafka.ts';
import { until } from '../../test/until.ts';
import { bareKafkajs } from './bare-kafkajs.ts';
import { ours } from './ours.ts';
import { platformatic } from './platformatic.ts';
import { processedMessages, Source } from './source.ts';

const RECORDS = 70;

describe.skipIf(!canStartKafka)(`clients that are measured${NEEDS_OWN_KAFKA}`, () => {
  let kafka: Kafka;
  let source: Source;
  beforeAll(async () => {
    kafka = await startKafka();
    source = await Source.open(kafka.bootstrap);
  }, 60_000);
  afterAll(async () => {
    await source?.close();
    await kafka.stop();
  });

  it.each([bareKafkajs, ours, platformatic])(
    '$name writes, reads, and reads with an output in transactions',
    async (rival) => {
      const topics = await source.fresh();
      const out = `${topics[0]}.out`;
      await source.topics([out]);
      const producer = await rival.producer(kafka.bootstrap);
      await producer.send(processedMessages(topics, RECORDS));
      await producer.close();
      for (const [group, from, output] of [
        ['plain', topics, undefined],
        ['transactions', topics, out],
        ['output', [out], undefined],
      ] as const) {
        const consumer = await rival.consumer(kafka.bootstrap, `${topics[0]}.${group}`, from, output);
        await until(() => consumer.handled() >= RECORDS, `${rival.name} to read (${group})`, 30_000);
        expect(consumer.handled()).toBe(RECORDS);
        await consumer.close();
      }
    },
    60_000,
  );
});
