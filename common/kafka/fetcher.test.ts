import { expect, it, onTestFinished } from 'vitest';
import { configWith, testLog } from '../../test/kafka-bus.ts';
import { fakeCluster, fetched, wantedIn } from '../../test/kafka-fake.ts';
import { Cluster } from './cluster.ts';
import { fetchFrom } from './fetch-decoder.ts';
import { Fetcher } from './fetcher.ts';
import { encodeBatch } from './record-batch.ts';
import { kafkaOptions } from './settings.ts';
import { Reader } from './wire.ts';

const NOT_LEADER = 6;

async function open(bootstrap: string, topics: string[]): Promise<Fetcher> {
  const cluster = new Cluster(kafkaOptions(configWith(bootstrap), 'test').client, testLog);
  onTestFinished(() => cluster.close());
  await cluster.refresh(topics);
  const from = topics.map((topic) => ({ topic, partition: 0, offset: 0 }));
  const fetcher = new Fetcher(cluster, from, 1000, { fault: () => {}, notice: () => {} });
  onTestFinished(() => fetcher.stop());
  return fetcher;
}

/** A batch of one record. */
async function batchAt(offset: number, value: string): Promise<Buffer> {
  const head = { producerId: '-1', producerEpoch: -1, firstSequence: -1, transactional: false, compression: 'none', timestamp: 1 } as const;
  const batch = await encodeBatch([{ topic: 't', key: 'k', headers: {}, value }], head);
  batch.writeBigInt64BE(BigInt(offset), 0);
  return batch;
}

it('asks once who leads the partitions that have moved, and gives what came of the others at once', async () => {
  const moving = Array.from({ length: 30 }, (_, i) => `r${i}`);
  const all = [...moving, 'stays'];
  const here = await batchAt(0, 'here');
  const { bootstrap, topics, asked } = await fakeCluster({
    topics: Object.fromEntries(all.map((topic) => [topic, [1]])),
    answers: {
      Fetch: ({ node, from }) => {
        if (node === 2) return 'silence';
        for (const topic of moving) topics.set(topic, [2]);
        return fetched(
          wantedIn(from).map(({ topic, offset }) =>
            topic !== 'stays' ? { topic, errorCode: NOT_LEADER } : offset === 0 ? { topic, records: here } : { topic },
          ),
        );
      },
    },
  });
  const fetcher = await open(bootstrap, all);
  await fetcher.ready;
  expect(fetcher.take(10).messages.map(({ value }) => value.toString())).toEqual(['here']);
  // Once before the first fetch, and once for all of them.
  expect(asked.filter((name) => name === 'Metadata').length).toBeLessThanOrEqual(2);
});

it('reads a large batch of one partition though another one always has something', async () => {
  const large = await batchAt(0, 'x'.repeat(1_500_000));
  const { bootstrap } = await fakeCluster({
    topics: { busy: [1], large: [1] },
    answers: {
      Fetch: async ({ from }) => {
        // As Kafka's ReplicaManager does: its limits are overstepped for the first partition that has something, and for no other.
        let first = true;
        const given: Array<{ topic: string; records: Buffer }> = [];
        for (const { topic, offset } of wantedIn(from)) {
          const there = topic === 'busy' ? await batchAt(offset, 'small') : offset === 0 ? large : Buffer.alloc(0);
          const records = first || there.length <= 1024 * 1024 ? there : Buffer.alloc(0);
          given.push({ topic, records });
          if (records.length > 0) first = false;
        }
        return fetched(given);
      },
    },
  });
  const fetcher = await open(bootstrap, ['busy', 'large']);
  const seen = new Set<string>();
  for (let i = 0; i < 100 && seen.size < 2; i += 1) {
    await fetcher.ready;
    for (const { topic } of fetcher.take(1000).messages) seen.add(topic);
  }
  expect([...seen].sort()).toEqual(['busy', 'large']);
});

it('takes no damaged batch for records, and those before it it does', async () => {
  const answer = fetched([{ topic: 't', records: Buffer.concat([await batchAt(0, 'whole'), await batchAt(1, '{"value":2434326851}')]) }]);
  answer[answer.indexOf('2434326851')] = 0x39;
  const { partitions } = await fetchFrom(() => 0).read(new Reader(answer));
  expect(partitions).toMatchObject([{ next: 1, unreadable: 'its checksum is wrong' }]);
  expect(partitions[0]?.records.map(({ value }) => value?.toString())).toEqual(['whole']);
});
