import { expect, it, onTestFinished } from 'vitest';
import { configWith, testLog } from '../../test/kafka-bus.ts';
import { fakeCluster } from '../../test/kafka-fake.ts';
import { Cluster } from './cluster.ts';
import { committedPositions } from './positions.ts';
import { kafkaOptions } from './settings.ts';
import { type Reader, Writer } from './wire.ts';

const UNSTABLE_OFFSET_COMMIT = 88;
const AT = { topic: 't', partition: 3 };

function open(bootstrap: string): Cluster {
  const cluster = new Cluster(kafkaOptions(configWith(bootstrap), 'test').client, testLog);
  onTestFinished(() => cluster.close());
  return cluster;
}

it('waits for a transaction that is being ended, and takes the position that it has set', async () => {
  const stable: boolean[] = [];
  const { bootstrap } = await fakeCluster({
    newest: { OffsetFetch: 8 },
    answers: {
      OffsetFetch: ({ version, from }) => {
        expect(version).toBe(7);
        stable.push(requiresStable(from));
        const code = stable.length < 3 ? UNSTABLE_OFFSET_COMMIT : 0;
        const to = new Writer().int32(0);
        to.compactArray([AT], ({ topic, partition }) => {
          to.compactString(topic).compactArray([partition], () => {
            to.int32(partition)
              .int64(code === 0 ? 42 : -1)
              .int32(-1)
              .compactString('seven')
              .int16(code)
              .tags();
          });
          to.tags();
        });
        return to.int16(0).tags().bytes;
      },
    },
  });
  const positions = await committedPositions(open(bootstrap), 'g', [AT]);
  expect([...positions.values()]).toEqual([{ ...AT, offset: 42, metadata: 'seven' }]);
  expect(stable).toEqual([true, true, true]);
});

function requiresStable(from: Reader): boolean {
  from.compactString();
  from.compactArray(() => {
    from.compactString();
    from.compactArray(() => from.int32());
    from.tags();
  });
  return from.bool();
}

it('asks a broker of before 2.5 in the older way', async () => {
  const versions: number[] = [];
  const { bootstrap } = await fakeCluster({
    newest: { OffsetFetch: 6 },
    answers: {
      OffsetFetch: ({ version }) => {
        versions.push(version);
        const to = new Writer().int32(0);
        to.array([AT], ({ topic, partition }) => {
          to.string(topic).array([partition], () => to.int32(partition).int64(41).string('four').int16(0));
        });
        return to.int16(0).bytes;
      },
    },
  });
  const positions = await committedPositions(open(bootstrap), 'g', [AT]);
  expect([...positions.values()]).toEqual([{ ...AT, offset: 41, metadata: 'four' }]);
  expect(versions).toEqual([4]);
});
