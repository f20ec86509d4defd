import { expect, it, onTestFinished } from 'vitest';
import { configWith, testLog } from '../../test/kafka-bus.ts';
import { fakeCluster } from '../../test/kafka-fake.ts';
import { Cluster } from './cluster.ts';
import { kafkaOptions } from './settings.ts';
import { TopicMaker } from './topic-maker.ts';
import { Writer } from './wire.ts';

const NOT_CONTROLLER = 41;

it('asks the controller for topics, and no other broker', async () => {
  const { bootstrap, topics, asked } = await fakeCluster({
    controller: 2,
    answers: {
      CreateTopics: ({ node, from }) => {
        const wanted = from.array(() => {
          const name = from.string() ?? '';
          from.int32();
          from.int16();
          from.array(() => {});
          from.array(() => [from.string(), from.string()]);
          return name;
        });
        // As a broker with ZooKeeper does, of versions up to 3.9.
        if (node === 2) for (const name of wanted) topics.set(name, [1]);
        const to = new Writer().int32(0);
        to.array(wanted, (name) => {
          to.string(name)
            .int16(node === 2 ? 0 : NOT_CONTROLLER)
            .string(null);
        });
        return to.bytes;
      },
    },
  });
  const options = kafkaOptions(configWith(bootstrap), 'test');
  const cluster = new Cluster(options.client, testLog);
  onTestFinished(() => cluster.close());
  await new TopicMaker(cluster, options.topics).ensure(['new']);
  expect(cluster.leaderOf('new', 0)).toBe(1);
  expect(asked.filter((name) => name === 'CreateTopics')).toHaveLength(1);
});
