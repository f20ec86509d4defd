import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it, onTestFinished, vi } from 'vitest';
import { configWith, testLog } from '../../test/kafka-bus.ts';
import { fakeCluster } from '../../test/kafka-fake.ts';
import { until } from '../../test/until.ts';
import { topicsOf } from '../topics.ts';
import { GroupConsumer } from './consumer.ts';
import { kafkaOptions } from './settings.ts';
import { Writer } from './wire.ts';

setFlagsFromString('--expose-gc');
const gc: (options: { type: 'major'; flavor: 'last-resort' }) => void = runInNewContext('gc');

function consumerOn(bootstrap: string): GroupConsumer {
  return new GroupConsumer({
    kafka: kafkaOptions(configWith(bootstrap), 'test'),
    log: testLog,
    group: 'ndt.g',
    stateTopic: 'ndt.state.g',
    topics: topicsOf('TD_{router}'),
    stage: { handle: async () => undefined },
    batch: 10,
    deadLetter: (message) => message,
    onFault: () => {},
    onBatch: () => {},
  });
}

it('leaves nothing behind of each wait for messages', async () => {
  const consumer = consumerOn('127.0.0.1:1');
  /** Waits so many times for what never has anything; bytes in use afterwards. */
  const wait = async (times: number) => {
    const stop = new AbortController();
    let left = times;
    const fetcher = {
      ready: Promise.resolve(),
      waiting: 1000,
      take: () => {
        left -= 1;
        if (left === 0) stop.abort();
        return { messages: [], positions: [] };
      },
    };
    // @ts-expect-error private: a day of waiting, without the day
    await consumer.work(fetcher, undefined, stop.signal, () => {});
    for (let i = 0; i < 3; i += 1) gc({ type: 'major', flavor: 'last-resort' });
    return process.memoryUsage().heapUsed;
  };
  const times = 200_000;
  await wait(1000);
  const before = await wait(1000);
  // A promise that is pending for long keeps more than 200 bytes of each race that it was in.
  expect(((await wait(times)) - before) / times).toBeLessThan(50);
});

it('asks for the brokers once a minute, also where it does not lead the group', async () => {
  vi.useFakeTimers({ toFake: ['setInterval'] });
  onTestFinished(() => void vi.useRealTimers());
  const { bootstrap, asked } = await fakeCluster({
    topics: { TD_r1: [1] },
    answers: {
      JoinGroup: () =>
        new Writer()
          .int32(0)
          .int16(0)
          .int32(1)
          .string('')
          .string('another')
          .string('we')
          .array([], () => {}).bytes,
      SyncGroup: () => new Writer().int32(0).int16(0).bytes32(Buffer.alloc(0)).bytes,
    },
  });
  const stop = new AbortController();
  const running = consumerOn(bootstrap).run(stop.signal);
  onTestFinished(async () => {
    stop.abort();
    await running;
  });
  await until(() => asked.includes('Heartbeat'), 'it to work');
  await until(() => vi.getTimerCount() > 0, 'it to look');
  const before = asked.filter((name) => name === 'Metadata').length;
  await vi.advanceTimersByTimeAsync(61_000);
  await until(() => asked.filter((name) => name === 'Metadata').length > before, 'it to ask');
});
