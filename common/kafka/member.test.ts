import { expect, it, onTestFinished } from 'vitest';
import { configWith, testLog } from '../../test/kafka-bus.ts';
import { fakeCluster } from '../../test/kafka-fake.ts';
import { Cluster } from './cluster.ts';
import { Member } from './member.ts';
import { kafkaOptions } from './settings.ts';
import { Writer } from './wire.ts';

const REBALANCE_IN_PROGRESS = 27;
const MEMBER_ID_REQUIRED = 79;

it('joins again under the id that it was given, however the join ended', async () => {
  const ids: string[] = [];
  const { bootstrap } = await fakeCluster({
    answers: {
      JoinGroup: ({ from }) => {
        from.string();
        from.int32();
        from.int32();
        const id = from.string() ?? '';
        ids.push(id);
        if (ids.length === 2) return 'cut';
        const to = new Writer().int32(0).int16(id === '' ? MEMBER_ID_REQUIRED : REBALANCE_IN_PROGRESS);
        return to
          .int32(-1)
          .string('')
          .string('')
          .string(`m${ids.length}`)
          .array([], () => {}).bytes;
      },
    },
  });
  const cluster = new Cluster(kafkaOptions(configWith(bootstrap), 'test').client, testLog);
  onTestFinished(() => cluster.close());
  const member = new Member(cluster, 'g', 6000);
  const join = () => member.join(['t'], async () => new Map());
  await expect(join()).rejects.toThrow(/closed/);
  await expect(join()).rejects.toThrow(/REBALANCE_IN_PROGRESS/);
  expect(ids).toEqual(['', 'm1', 'm1']);
});
