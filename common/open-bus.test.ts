import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tempDir } from '../test/tempdir.ts';
import { until } from '../test/until.ts';
import { EmbeddedBus } from './bus-embedded.ts';
import { watched } from './open-bus.ts';
import { Progress } from './progress.ts';
import { topicsOf } from './topics.ts';

test('a stage that keeps a batch for too long is stuck, one that waits for messages is not', async () => {
  let now = 0;
  const progress = new Progress(() => now);
  const embedded = new EmbeddedBus({ file: join(tempDir(), 'bus.db') });
  const bus = watched(embedded, progress, 120_000);
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  let handled = 0;
  const stop = new AbortController();
  const handle = async () => {
    await released;
    handled += 1;
    return undefined;
  };
  const consuming = bus.consume('slow', topicsOf('t'), { handle }, stop.signal);
  now = 1e9;
  expect(progress.stuck()).toEqual([]);
  await bus.append([{ topic: 't', key: null, headers: {}, value: Buffer.from('x') }]);
  await until(() => {
    now += 120_001;
    return progress.stuck().length > 0;
  }, 'the stage to be stuck');
  expect(progress.stuck()[0]).toMatch(/^stage slow has not got on/);
  release();
  await until(() => handled === 1 && progress.stuck().length === 0, 'the stage to get on');
  stop.abort();
  await consuming;
  await bus.close();
});
