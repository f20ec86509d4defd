import { describe, expect, it, onTestFinished } from 'vitest';
import { busOn } from '../../test/kafka-bus.ts';
import { fakeCluster, produced, type Written, writtenIn } from '../../test/kafka-fake.ts';
import { until } from '../../test/until.ts';

const TOO_LARGE = 10;
const NOT_ENOUGH_REPLICAS = 19;
const NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20;

const message = (topic: string, value: string) => ({ topic, key: 'k', headers: {}, value: Buffer.from(value) });

function open(bootstrap: string, kafka: object = {}) {
  const faults: string[] = [];
  const bus = busOn(bootstrap, { kafka: { compression: 'none', ...kafka }, onFault: (fault) => void faults.push(fault) });
  onTestFinished(() => bus.close());
  return { bus, faults };
}

/** What has become of it so far. */
function fate(promise: Promise<void>) {
  const seen = { is: 'pending' };
  promise.then(
    () => {
      seen.is = 'appended';
    },
    (error: unknown) => {
      seen.is = String(error);
    },
  );
  return seen;
}

it('what one topic refuses does not double what another has appended and could not confirm', async () => {
  const log: Written[] = [];
  let unsure = true;
  const { bootstrap } = await fakeCluster({
    topics: { good: [1], small: [2] },
    answers: {
      Produce: ({ from }) => {
        const batches = writtenIn(from);
        for (const batch of batches) {
          const known = log.some(({ producerId, sequence }) => producerId === batch.producerId && sequence === batch.sequence);
          if (batch.topic === 'good' && !known) log.push(batch);
        }
        // Appended, and not yet everywhere: under the same numbers it would be known again.
        const first = unsure && batches.some(({ topic }) => topic === 'good');
        if (first) unsure = false;
        return produced(batches, ({ topic }) => (topic === 'small' ? TOO_LARGE : first ? NOT_ENOUGH_REPLICAS_AFTER_APPEND : 0));
      },
    },
  });
  const { bus } = open(bootstrap);
  const [good, small] = await Promise.allSettled([bus.append([message('good', 'once')]), bus.append([message('small', 'too large')])]);
  expect([good.status, small.status]).toEqual(['fulfilled', 'rejected']);
  expect(log.map(({ topic, count }) => [topic, count])).toEqual([['good', 1]]);
});

it('goes on with the other topics while one cannot be had, and has kept the order when it can', async () => {
  const values: string[] = [];
  const { bootstrap, topics } = await fakeCluster({
    topics: { good: [1] },
    answers: {
      Produce: ({ from }) => {
        const batches = writtenIn(from);
        for (const { topic, bytes } of batches) if (topic === 'late') values.push(...(bytes.toString('latin1').match(/value \d/g) ?? []));
        return produced(batches);
      },
    },
  });
  const { bus, faults } = open(bootstrap, { topics: { create: false, partitions: 1, replication: -1, retention_ms: 0 } });
  const late = [bus.append([message('late', 'value 1')])];
  await until(() => faults.length > 0, 'the fault');
  late.push(bus.append([message('late', 'value 2')]));
  await bus.append([message('good', 'x')]);
  expect(faults).toEqual([expect.stringMatching(/^the topic late is missing/)]);
  topics.set('late', [1]);
  late.push(bus.append([message('late', 'value 3')]));
  await Promise.all(late);
  expect(values).toEqual(['value 1', 'value 2', 'value 3']);
  expect(bus.stats().appended).toBe(4);
});

it('gives a topic whole batches again that refused one record', async () => {
  const counts: number[] = [];
  const { bootstrap } = await fakeCluster({
    topics: { good: [1] },
    answers: {
      Produce: ({ from }) => {
        const batches = writtenIn(from);
        counts.push(...batches.map(({ count }) => count));
        return produced(batches, ({ bytes }) => (bytes.includes('huge') ? TOO_LARGE : 0));
      },
    },
  });
  const { bus } = open(bootstrap);
  const outcomes = await Promise.allSettled(['a', 'b', 'huge', 'c', 'd'].map((value) => bus.append([message('good', value)])));
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled', 'fulfilled']);
  counts.length = 0;
  await bus.append(Array.from({ length: 100 }, () => message('good', 'fine')));
  expect(counts.length).toBeLessThan(10);
});

describe('says that one record cannot be written when the others of the same append are durable, and not before', () => {
  it.each([
    ['its topic refuses it', message('good', 'huge'), /good refuses a record of 4 bytes \(MESSAGE_TOO_LARGE\)/],
    ['no topic can have the name', message('fe80::1', 'x'), /"fe80::1" is no name that Kafka takes/],
  ])('%s', async (_, bad, reason) => {
    let well = false;
    const { bootstrap, asked } = await fakeCluster({
      topics: { good: [1] },
      answers: {
        Produce: ({ from }) =>
          produced(writtenIn(from), ({ bytes }) => (bytes.includes('huge') ? TOO_LARGE : well ? 0 : NOT_ENOUGH_REPLICAS)),
      },
    });
    const { bus } = open(bootstrap);
    const seen = fate(bus.append([bad, message('good', 'fine')]));
    await until(() => asked.filter((name) => name === 'Produce').length >= 5, 'several attempts');
    expect(seen.is).toBe('pending');
    well = true;
    await until(() => seen.is !== 'pending', 'the outcome');
    expect(seen.is).toMatch(reason);
  });
});

it('rejects at once where none of them can be written', async () => {
  const { bus } = open('127.0.0.1:1');
  await expect(bus.append([message('fe80::1', 'x'), message('..', 'x')])).rejects.toThrow(/"fe80::1" is no name/);
});

it('writes what is appended in the very moment in which the last write ends', async () => {
  const { bootstrap } = await fakeCluster({ topics: { good: [1] } });
  for (let ticks = 0; ticks < 12; ticks += 1) {
    const { bus } = open(bootstrap);
    await bus.append([message('good', 'a')]);
    for (let i = 0; i < ticks; i += 1) await undefined;
    const seen = fate(bus.append([message('good', 'b')]));
    await until(() => seen.is === 'appended', `the append ${ticks} steps after the one before`, 2000);
  }
});

describe('rejects what waits at once when the bus is closed', () => {
  it.each([
    ['for the brokers', () => Promise.resolve({ bootstrap: '127.0.0.1:1' })],
    ['for a topic', () => fakeCluster({})],
  ])('%s', async (_, cluster) => {
    const { bootstrap } = await cluster();
    const { bus } = open(bootstrap, { topics: { create: false, partitions: 1, replication: -1, retention_ms: 0 } });
    const seen = fate(bus.append([message('good', 'a')]));
    // From here on it would sleep for 1.6 s.
    await until(() => bus.stats().faults >= 5, 'several attempts');
    await bus.close();
    await until(() => seen.is !== 'pending', 'the rejection', 700);
    expect(seen.is).toBe('Error: the bus is closed');
  });
});
