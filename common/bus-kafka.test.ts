import kafkajs from 'kafkajs';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { busContract } from '../test/contract/bus.ts';
import { busOn, configWith, testLog } from '../test/kafka-bus.ts';
import { Pipeline } from '../test/kafka-pipeline.ts';
import { hasKcat, NEEDS_KCAT, produce, readTopic } from '../test/kcat.ts';
import { freePort } from '../test/ports.ts';
import { canStartKafka, externalKafka, hasKafka, type Kafka, NEEDS_KAFKA, NEEDS_OWN_KAFKA, startKafka } from '../test/real/kafka.ts';
import { until } from '../test/until.ts';
import type { Message, Stage } from './bus.ts';
import type { KafkaBus } from './bus-kafka.ts';
import { messageOf } from './errors.ts';
import { Cluster } from './kafka/cluster.ts';
import { initProducerId } from './kafka/producer-id.ts';
import { kafkaOptions } from './kafka/settings.ts';
import { topicsOf } from './topics.ts';

let names = 0;
const unique = () => {
  names += 1;
  return `t${process.pid}-${Date.now()}-${names}`;
};
const message = (topic: string, key: string | null, text: string): Message => ({
  topic,
  key,
  headers: { 'ndt-seq': text.slice(0, 20) },
  value: Buffer.from(text),
});

describe.skipIf(!hasKafka)(`the bus on Kafka${NEEDS_KAFKA}`, () => {
  let kafka: Kafka | undefined;
  let bootstrap = '';

  beforeAll(async () => {
    if (externalKafka === undefined) kafka = await startKafka();
    bootstrap = kafka?.bootstrap ?? externalKafka ?? '';
  }, 60_000);
  afterAll(async () => {
    await kafka?.stop();
  });

  const open = (options: Parameters<typeof busOn>[1] = {}): KafkaBus => {
    const bus = busOn(bootstrap, options);
    onTestFinished(() => bus.close());
    return bus;
  };
  /** Consumes until the bus is closed; what it got. */
  const collect = (bus: KafkaBus, group: string, topic: string, handle: Stage['handle'] = () => undefined) => {
    const got: string[] = [];
    const stage: Stage = {
      handle: async (batch) => {
        const outcome = await handle(batch);
        got.push(...batch.map(({ value }) => value.toString()));
        return outcome;
      },
    };
    void bus.consume(group, topicsOf(topic), stage, new AbortController().signal);
    return got;
  };
  const admin = async (work: (admin: kafkajs.Admin) => Promise<unknown>) => {
    const client = new kafkajs.Kafka({ brokers: [bootstrap], logLevel: kafkajs.logLevel.NOTHING }).admin();
    await client.connect();
    await work(client).finally(() => client.disconnect());
  };

  busContract('Kafka', () => {
    const under = { open: () => Promise.resolve(busOn(bootstrap)), unique, patienceMs: 15_000 };
    return Promise.resolve({ under, tearDown: () => Promise.resolve() });
  });

  it.each(['gzip', 'zstd', 'none'])('writes %s so that it can be read', async (compression) => {
    const topic = unique();
    const bus = open({ kafka: { compression } });
    const texts = Array.from({ length: 50 }, (_, i) => `${i}-${'x'.repeat(500)}`);
    await bus.append(texts.map((text) => message(topic, 'k', text)));
    const got = collect(bus, topic, topic);
    await until(() => got.length === 50, 'the messages');
    expect(got).toEqual(texts);
    if (hasKcat) expect((await readTopic(bootstrap, topic)).map(({ value }) => value)).toEqual(texts);
  });

  it.skipIf(!hasKcat)(`reads what a producer knows nothing of us has written${NEEDS_KCAT}`, async () => {
    const topic = `TD_${unique()}`;
    const bus = open();
    const got = collect(bus, topic, 'TD_{router}', (batch) => {
      expect(batch.every(({ key, headers }) => key === 'r1' && Object.keys(headers).length === 0)).toBe(true);
      return undefined;
    });
    await produce(bootstrap, topic, [
      { key: 'r1', value: '{"a":1}' },
      { key: 'r1', value: '{"a":2}' },
    ]);
    await until(() => got.length === 2, 'both records');
    expect(got).toEqual(['{"a":1}', '{"a":2}']);
  });

  it.skipIf(!hasKcat).each(['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const)(
    `reads what others wrote with %s${NEEDS_KCAT}`,
    async (codec) => {
      const topic = unique();
      const lines = Array.from({ length: 2000 }, (_, i) => ({
        key: 'r1',
        value: `{"i":${i},"text":"${'again and again '.repeat(i % 40)}${Math.sin(i)}"}`,
      }));
      await produce(bootstrap, topic, lines, codec);
      const got = collect(open(), topic, topic);
      await until(() => got.length === lines.length, 'the records');
      expect(got).toEqual(lines.map(({ value }) => value));
    },
  );

  it('gives what was committed and nothing of what was given up, however they interleave', async () => {
    const topic = unique();
    const bus = open();
    await bus.append([message(topic, 'k', 'start')]);
    const client = new kafkajs.Kafka({ brokers: [bootstrap], logLevel: kafkajs.logLevel.NOTHING });
    const writers = ['a', 'b', 'c', 'd'].map((name) =>
      client.producer({ transactionalId: `${topic}-${name}`, idempotent: true, maxInFlightRequests: 1 }),
    );
    const transactions = [];
    for (const writer of writers) {
      await writer.connect();
      transactions.push(await writer.transaction());
    }
    for (let round = 0; round < 3; round += 1) {
      for (const [i, transaction] of transactions.entries())
        await transaction.send({ topic, messages: [{ key: 'k', value: `${'abcd'[i]}${round}` }] });
    }
    const [a, b, c, d] = transactions;
    await a?.abort();
    await b?.commit();
    await c?.abort();
    await d?.commit();
    await bus.append([message(topic, 'k', 'end')]);
    const got = collect(bus, topic, topic);
    await until(() => got.includes('end'), 'the end');
    expect(got).toEqual(['start', 'b0', 'd0', 'b1', 'd1', 'b2', 'd2', 'end']);
    for (const writer of writers) await writer.disconnect();
  });

  it('takes partitions that are added to a topic', async () => {
    const topic = unique();
    const bus = open();
    await bus.append([message(topic, null, '1')]);
    const got = collect(bus, topic, topic);
    await until(() => got.length === 1, 'the first message');
    await admin((client) => client.createPartitions({ topicPartitions: [{ topic, count: 3 }] }));
    const fresh = open();
    for (let i = 2; i <= 7; i += 1) await fresh.append([message(topic, null, String(i))]);
    await until(() => got.length === 7, 'those of the new partitions');
    expect(new Set(got).size).toBe(7);
  });

  it('goes on when somebody took all seats of the group, whoever of its members notices, and doubles nothing', async () => {
    const topic = unique();
    const copies = `${topic}-copies`;
    const writer = open({ kafka: { topics: { create: true, partitions: 2, replication: 1, retention_ms: 0 } } });
    const keys = Array.from({ length: 8 }, (_, i) => `key ${i}`);
    const members: KafkaBus[] = [open(), open()];
    /** Who had which keys last. */
    const holders = new Map<string, KafkaBus>();
    for (const bus of members) {
      collect(bus, topic, topic, (batch) => {
        for (const { key } of batch) holders.set(key ?? '', bus);
        return { append: batch.map(({ key, value }) => message(copies, key, value.toString())) };
      });
    }
    const got = collect(writer, `${topic}-read`, copies);
    let sent = 0;
    const send = async (some: readonly string[]) => {
      await writer.append(some.map((key) => message(topic, key, `${key}, ${sent}`)));
      sent += some.length;
      await until(() => got.length === sent, `${sent} copies`, 10_000);
    };
    await send(keys);
    await until(async () => {
      await send(keys);
      return new Set(holders.values()).size === 2;
    }, 'both members to have a partition');

    const cluster = new Cluster(kafkaOptions(configWith(bootstrap), 'sleeper').client, testLog);
    onTestFinished(() => cluster.close());
    for (const bus of members) {
      // As a leader does that was asleep and goes on where it was.
      for (let seat = 0; seat < 16; seat += 1) await initProducerId(cluster, `ndt.${topic}.${seat}`, 15_000, 10_000);
      await send(keys.filter((key) => holders.get(key) === bus));
    }
    await send(keys);
    expect(new Set(got).size).toBe(got.length);
  });

  it('reads a topic from its start when it was deleted and made again', async () => {
    const topic = unique();
    const bus = open();
    await bus.append(Array.from({ length: 10 }, (_, i) => message(topic, 'k', `old ${i}`)));
    const got = collect(bus, topic, topic);
    await until(() => got.length === 10, 'the old messages');
    await admin(async (client) => {
      await client.deleteTopics({ topics: [topic] });
      await until(async () => !(await client.listTopics()).includes(topic), 'the topic to be gone');
    });
    await bus.append([message(topic, 'k', 'new 0'), message(topic, 'k', 'new 1')]);
    await until(() => got.length === 12, 'the new messages');
    expect(got.slice(10)).toEqual(['new 0', 'new 1']);
  });

  it('refuses an append that is too large, and makes a dead letter of an outcome that is', async () => {
    const topic = unique();
    const faults: string[] = [];
    const bus = open({ kafka: { compression: 'none' }, onFault: (fault) => faults.push(fault) });
    const large = 'y'.repeat(1_200_000);
    const [bad, good] = await Promise.allSettled([bus.append([message(topic, 'k', large)]), bus.append([message(topic, 'k', 'small')])]);
    expect(good.status).toBe('fulfilled');
    expect(bad).toMatchObject({
      status: 'rejected',
      reason: {
        code: 'DATA',
        message: expect.stringMatching(/refuses a record of 1200000 bytes \(MESSAGE_TOO_LARGE\): raise max\.message\.bytes/),
      },
    });
    const got = collect(bus, `${topic}-a`, topic, () => ({
      append: [message(`${topic}-out`, 'k', 'before'), message(`${topic}-out`, 'k', large), message(`${topic}-out`, 'k', 'after')],
    }));
    const out = collect(bus, `${topic}-b`, `${topic}-out`);
    const reasons: unknown[] = [];
    const dead = collect(bus, `${topic}-c`, 'ndt.dead-letters', (batch) => {
      for (const { headers } of batch) reasons.push([headers['ndt-reason'], headers['ndt-origin']]);
      return undefined;
    });
    await until(() => out.length === 2 && dead.length === 1, `the outcome; faults: ${faults.join(' | ')}`);
    expect(got).toEqual(['small']);
    expect(out).toEqual(['before', 'after']);
    expect(reasons).toEqual([['MESSAGE_TOO_LARGE', `${topic}-out`]]);
    expect(faults.some((fault) => /refuses a record of 1200000 bytes.*dead letters/.test(fault))).toBe(true);
  });

  it.each([
    ['takes dead letters of any size', 1_000_000, [['', 'k', 'bad', 'MESSAGE_TOO_LARGE']], /goes to the dead letters/],
    ['takes none but empty dead letters', 300, [['', 'k', '', 'MESSAGE_TOO_LARGE']], /without its value and headers: raise/],
    ['takes no dead letter at all', 100, [], /is dropped/],
  ])('goes on after an outcome whose headers no topic takes, where a topic %s', async (_, most, letters, told) => {
    const topic = unique();
    const deadLetterTopic = `${topic}-dead`;
    const config = [{ name: 'max.message.bytes', value: String(most) }];
    await admin((client) => client.createTopics({ topics: [{ topic: deadLetterTopic, configEntries: config }] }));
    const faults: string[] = [];
    const bus = open({ kafka: { compression: 'none' }, batch: 1, deadLetterTopic, onFault: (fault) => faults.push(fault) });
    await bus.append([message(topic, 'k', 'bad'), message(topic, 'k', 'good')]);
    const got = collect(bus, `${topic}-a`, topic, (batch) => ({
      append: batch.map(({ value }) => ({
        ...message(`${topic}-out`, 'k', value.toString()),
        headers: { small: 'x'.repeat(300), ...(value.toString() === 'bad' ? { large: 'y'.repeat(1_200_000) } : {}) },
      })),
    }));
    const out = collect(open(), `${topic}-b`, `${topic}-out`);
    await until(
      () => out.length === 1 && got.length === 2,
      () => `the good one; faults: ${faults.join(' | ')}`,
    );
    expect(out).toEqual(['good']);
    const dead: unknown[] = [];
    collect(open(), `${topic}-c`, deadLetterTopic, (batch) => {
      for (const { key, headers, value } of batch) dead.push([headers.large ?? '', key, value.toString(), headers['ndt-reason']]);
      return undefined;
    });
    await until(() => dead.length === letters.length, 'the dead letters');
    expect(dead).toEqual(letters);
    expect(faults.at(-1)).toMatch(told);
    expect(new Set(faults).size).toBe(faults.length);
    expect(bus.stats().faults).toBeLessThanOrEqual(3);
  });

  it('refuses an append to a name that no topic can have, and writes the one next to it', async () => {
    const topic = unique();
    const bus = open();
    const [bad, good] = await Promise.allSettled([
      bus.append([message(`${topic}/[2001:db8::1]`, 'k', 'bad')]),
      bus.append([message(topic, 'k', 'good')]),
    ]);
    expect(good.status).toBe('fulfilled');
    expect(bad).toMatchObject({
      status: 'rejected',
      reason: { code: 'DATA', message: expect.stringContaining(`"${topic}/[2001:db8::1]" is no name that Kafka takes for a topic`) },
    });
    const got = collect(bus, topic, topic);
    await until(() => got.length === 1, 'the good one');
    expect(bus.stats().faults).toBe(0);
  });

  it('refuses an append of several only when the others are durable', async () => {
    const topic = unique();
    const faults: string[] = [];
    const bus = open({
      kafka: { topics: { create: false, partitions: 1, replication: -1, retention_ms: 0 } },
      onFault: (fault) => faults.push(fault),
    });
    let refused = '';
    const appending = bus.append([message('a/b', 'k', 'bad'), message(topic, 'k', 'good')]).catch((error: unknown) => {
      refused = messageOf(error);
    });
    await until(() => faults.length > 0, 'the topic of the other one to be missed');
    expect(refused).toBe('');
    await admin((client) => client.createTopics({ topics: [{ topic, numPartitions: 1, replicationFactor: 1 }] }));
    await appending;
    expect(refused).toContain('"a/b" is no name');
    const got = collect(open(), topic, topic);
    await until(() => got.length === 1, 'the other one');
    expect(got).toEqual(['good']);
  });

  it('makes a dead letter of an outcome for a name that no topic can have, and goes on', async () => {
    const topic = unique();
    const bus = open();
    await bus.append([message(topic, 'k', 'one')]);
    const named = `TP_[${topic}::1]`;
    const got = collect(bus, `${topic}-a`, topic, (batch) => ({
      append: batch.flatMap(({ value }) => [message(named, 'k', `${value} bad`), message(`${topic}-out`, 'k', `${value} good`)]),
    }));
    const out = collect(bus, `${topic}-b`, `${topic}-out`);
    const dead: string[] = [];
    collect(bus, `${topic}-c`, 'ndt.dead-letters', (batch) => {
      for (const { headers, value } of batch) if (headers['ndt-origin'] === named) dead.push(`${value}: ${headers['ndt-reason']}`);
      return undefined;
    });
    await until(() => out.length === 1, 'the first outcome');
    await bus.append([message(topic, 'k', 'two')]);
    await until(() => out.length === 2 && dead.length === 2, 'both outcomes');
    expect(got).toEqual(['one', 'two']);
    expect(out).toEqual(['one good', 'two good']);
    expect(dead).toEqual(['one', 'two'].map((value) => `${value} bad: no topic of Kafka can be called "${named}"`));
  });

  it('says that a topic is missing where it must not make it, and goes on when it is there', async () => {
    const topic = unique();
    const faults: string[] = [];
    const bus = open({
      kafka: { topics: { create: false, partitions: 2, replication: -1, retention_ms: 0 } },
      onFault: (fault) => faults.push(fault),
    });
    const appended = bus.append([message(topic, 'k', '1')]);
    await until(() => faults.length > 0, 'the fault');
    expect(faults[0]).toBe(
      `the topic ${topic} is missing and kafka.topics.create is false: kafka-topics.sh --create --topic ${topic} --partitions 2`,
    );
    await admin((client) => client.createTopics({ topics: [{ topic, numPartitions: 2, replicationFactor: 1 }] }));
    await appended;
  });

  it('makes topics as configured', async () => {
    const topic = unique();
    await open({ kafka: { topics: { create: true, partitions: 3, replication: 1, retention_ms: 3_600_000 } } }).append([
      message(topic, 'k', '1'),
    ]);
    await admin(async (client) => {
      const { topics } = await client.fetchTopicMetadata({ topics: [topic] });
      expect(topics[0]?.partitions).toHaveLength(3);
      const { resources } = await client.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configNames: ['retention.ms'] }],
      });
      expect(resources[0]?.configEntries[0]?.configValue).toBe('3600000');
    });
  });

  it('tells how far a group is behind', async () => {
    const topic = unique();
    const bus = open({ batch: 10 });
    await bus.append(Array.from({ length: 100 }, (_, i) => message(topic, 'k', String(i))));
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const got = collect(bus, topic, topic, async () => {
      await held;
      return undefined;
    });
    await until(() => bus.stats().groups[0]?.lag.get(topic) === 90, 'the lag of what is not in hand');
    release();
    // A batch counts when its position is committed, a moment after it was handled.
    await until(() => bus.stats().groups[0]?.messages === 100, 'all to be committed');
    expect(got).toHaveLength(100);
    expect(bus.stats().groups[0]?.lag.get(topic)).toBe(0);
    expect(bus.stats()).toMatchObject({ connected: true, appended: 100, groups: [{ group: topic, messages: 100 }] });
  });
});

describe.skipIf(!canStartKafka)(`the bus on a broker that goes away${NEEDS_OWN_KAFKA}`, () => {
  it.skipIf(!hasKcat)(
    `loses nothing and doubles nothing over two kill -9${NEEDS_KCAT}`,
    async () => {
      const kafka = await startKafka();
      const pipeline = new Pipeline(kafka.bootstrap, 'short');
      try {
        pipeline.work();
        pipeline.work();
        pipeline.send(3000);
        for (const at of [500, 1500]) {
          await until(() => pipeline.sent >= at, `${at} records`);
          await kafka.kill9();
          await kafka.restart();
        }
        await pipeline.expectExactlyOnce(3000);
        expect(pipeline.faults.every((fault) => !/defect|TypeError|undefined/.test(fault))).toBe(true);
      } finally {
        await pipeline.close();
        await kafka.stop();
      }
    },
    90_000,
  );

  it('waits with an append, says once what is wrong, and stops within 5 s', async () => {
    const port = await freePort();
    const faults: string[] = [];
    const bus = busOn(`127.0.0.1:${port}`, { kafka: { timeout: 2 }, onFault: (fault) => faults.push(fault) });
    const appended = bus.append([message('late', 'k', '1')]);
    const got: string[] = [];
    const consumed = bus.consume(
      'late',
      topicsOf('late'),
      { handle: (batch) => void got.push(...batch.map(({ value }) => value.toString())) },
      new AbortController().signal,
    );
    await until(() => bus.stats().faults >= 4, 'several attempts');
    expect(faults.sort()).toEqual([
      `ndt.late: nothing listens at 127.0.0.1:${port}: start the broker there, or set kafka.brokers to where it is`,
      `nothing listens at 127.0.0.1:${port}: start the broker there, or set kafka.brokers to where it is`,
    ]);
    await expect(bus.probe()).rejects.toThrow(/nothing listens/);
    const kafka = await startKafka({ port });
    try {
      await appended;
      await until(() => got.length === 1, 'the message');
      await bus.probe();
      kafka.sigstop();
      const started = performance.now();
      await bus.close();
      await consumed;
      expect(performance.now() - started).toBeLessThan(5000);
    } finally {
      kafka.sigcont();
      await kafka.stop();
    }
  }, 60_000);
});
