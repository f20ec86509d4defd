import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { busContract } from '../test/contract/bus.ts';
import { tempDir } from '../test/tempdir.ts';
import { until } from '../test/until.ts';
import { HEADER, type Message } from './bus.ts';
import { EmbeddedBus } from './bus-embedded.ts';
import { topicsOf } from './topics.ts';

let names = 0;

busContract('embedded', () => {
  const dir = mkdtempSync(join(tmpdir(), 'ndt-bus-'));
  const under = {
    open: () => Promise.resolve(new EmbeddedBus({ file: join(dir, 'bus.db') })),
    unique: () => {
      names += 1;
      return `t${names}`;
    },
    patienceMs: 10_000,
  };
  const tearDown = () => {
    rmSync(dir, { recursive: true });
    return Promise.resolve();
  };
  return Promise.resolve({ under, tearDown });
});

const record = (agent: string, seq: number): Message => ({
  topic: 'TP_r1',
  key: 'r1',
  headers: { [HEADER.agent]: agent, [HEADER.seq]: String(seq) },
  value: Buffer.from(`${agent}-${seq}`),
});

it('takes each (agent, seq) in once, in any order, and knows what is missing', async () => {
  const bus = new EmbeddedBus({ file: join(tempDir(), 'bus.db') });
  expect(await bus.ingest([record('a', 10), record('a', 11), record('b', 10)])).toHaveLength(3);
  expect(await bus.ingest([record('a', 11), record('a', 14), record('a', 14)])).toHaveLength(1);
  expect(bus.log.seen.agents()).toEqual([
    { agent: 'a', lowest: 10, highest: 14, received: 3, duplicates: 2, missing: [{ first: 12, last: 13 }] },
    { agent: 'b', lowest: 10, highest: 10, received: 1, duplicates: 0, missing: [] },
  ]);
  await bus.ingest([record('a', 13), record('a', 12)]);
  expect(bus.log.seen.agents()[0]).toMatchObject({ received: 5, missing: [] });
  await bus.close();
});

it('another process on the same file sees appends, and a position moves once', async () => {
  const file = join(tempDir(), 'bus.db');
  const [one, two] = [new EmbeddedBus({ file }), new EmbeddedBus({ file })];
  const stop = new AbortController();
  const got: string[] = [];
  const stage = { handle: (batch: Message[]) => ({ append: batch.map((m) => ({ ...m, topic: 'out' })) }) };
  const consumers = [one.consume('g', topicsOf('in'), stage, stop.signal), two.consume('g', topicsOf('in'), stage, stop.signal)];
  consumers.push(
    one.consume(
      'reader',
      topicsOf('out'),
      {
        handle: (batch) => {
          got.push(...batch.map((m) => m.value.toString()));
          return undefined;
        },
      },
      stop.signal,
    ),
  );
  for (let i = 0; i < 100; i += 1)
    await (i % 2 === 0 ? one : two).append([{ topic: 'in', key: 'k', headers: {}, value: Buffer.from(String(i)) }]);
  await until(() => got.length >= 100, '100 messages through two processes');
  expect(got.map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
  stop.abort();
  await Promise.all(consumers);
  await one.close();
  await two.close();
});

it('keeps a topic within its size, and what is unread up to twice that', async () => {
  const bus = new EmbeddedBus({ file: join(tempDir(), 'bus.db') });
  const messages = (topic: string) =>
    Array.from({ length: 100 }, (_, i) => ({ topic, key: 'k', headers: {}, value: Buffer.alloc(1000, i) }));
  await bus.append([...messages('read'), ...messages('unread')]);
  const unread = bus.log.topics().find(({ name }) => name === 'unread')?.id ?? 0;
  bus.log.setPosition('g', unread, 0);
  const { deleted, unread: lost } = bus.log.retain({ maxBytes: 40_000, maxAgeMs: 0 }, Date.now());
  expect(bus.log.topics().map(({ name, bytes }) => [name, bytes])).toEqual([
    ['read', 40_000],
    ['unread', 80_000],
  ]);
  expect([deleted, lost]).toEqual([80, 20]);
  await bus.close();
});

it('drops by age, but not what a group has still to handle', async () => {
  const bus = new EmbeddedBus({ file: join(tempDir(), 'bus.db') });
  await bus.append([record('a', 1), record('a', 2)]);
  const later = Date.now() + 10_000;
  const topic = bus.log.topics()[0]?.id ?? 0;
  bus.log.setPosition('g', topic, 2);
  expect(bus.log.retain({ maxBytes: 2 ** 30, maxAgeMs: 5000 }, later)).toEqual({ deleted: 1, unread: 0 });
  await bus.close();
});

it('closed under a consumer lets it end', async () => {
  const idle = new EmbeddedBus({ file: join(tempDir(), 'bus.db') });
  const signal = new AbortController().signal;
  const waiting = idle.consume('g', topicsOf('in'), { handle: () => undefined }, signal);
  await idle.close();
  await waiting;

  const bus = new EmbeddedBus({ file: join(tempDir(), 'bus.db') });
  await bus.append([{ topic: 'in', key: 'k', headers: {}, value: Buffer.from('1') }]);
  const { promise: begun, resolve } = Promise.withResolvers<void>();
  const slow = Promise.withResolvers<undefined>();
  const stage = {
    handle: () => {
      resolve();
      return slow.promise;
    },
  };
  const busy = bus.consume('g', topicsOf('in'), stage, signal);
  await begun;
  await bus.close();
  slow.resolve(undefined);
  await busy;
});
