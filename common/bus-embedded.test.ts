import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished, vi } from 'vitest';
import { busContract } from '../test/contract/bus.ts';
import { tempDir } from '../test/tempdir.ts';
import { until } from '../test/until.ts';
import { type Delivered, HEADER, type Message } from './bus.ts';
import { EmbeddedBus } from './bus-embedded.ts';
import { openDb } from './sqlite.ts';
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

const text = (topic: string, value: string): Message => ({ topic, key: 'k', headers: {}, value: Buffer.from(value) });
/** Takes in all of a topic template; what it got. */
function collect(bus: EmbeddedBus, group: string, template: string, signal: AbortSignal): { got: string[]; running: Promise<void> } {
  const got: string[] = [];
  const handle = (batch: Message[]) => {
    got.push(...batch.map(({ topic, value }) => `${topic} ${value}`));
    return undefined;
  };
  return { got, running: bus.consume(group, topicsOf(template), { handle }, signal) };
}

it('drops nothing that a group has still to begin with', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'Date'] });
  onTestFinished(() => void vi.useRealTimers());
  const faults: string[] = [];
  const bus = new EmbeddedBus({
    file: join(tempDir(), 'bus.db'),
    retention: { maxBytes: 2 ** 30, maxAgeMs: 1000 },
    onFault: (fault) => faults.push(fault),
  });
  await bus.append([text('TP_r1', '1')]);
  const stop = new AbortController();
  const quick = collect(bus, 'quick', 'TP_{router}', stop.signal);
  const stuck = () => {
    throw new Error('disk full');
  };
  const slow = bus.consume('slow', topicsOf('TP_{router}'), { handle: stuck }, stop.signal);
  const left = () => bus.log.topics().reduce((sum, { bytes }) => sum + bytes, 0);
  await until(() => bus.log.lag().some(({ group, lag }) => group === 'quick' && lag === 0) && faults.length > 0, 'one to be done');
  vi.advanceTimersByTime(60_000);
  expect(left()).toBe(1);
  stop.abort();
  await Promise.all([quick.running, slow]);

  const again = new AbortController();
  const { got, running } = collect(bus, 'slow', 'TP_{router}', again.signal);
  await until(() => bus.log.lag().some(({ group, lag }) => group === 'slow' && lag === 0), 'the other one');
  vi.advanceTimersByTime(60_000);
  expect([got, left()]).toEqual([['TP_r1 1'], 0]);
  expect(faults.filter((fault) => !fault.startsWith('slow: disk full'))).toEqual([]);
  again.abort();
  await running;
  await bus.close();
});

/** A disk that is full from now on, until `room`. */
function fill({ log: { db } }: EmbeddedBus): { room: () => void } {
  db.pragma(`max_page_count = ${String(db.pragma('page_count', { simple: true }))}`);
  return { room: () => void db.pragma('max_page_count = 1000000') };
}
const large = 'x'.repeat(100_000);

it('gives a topic a number of its own although a full disk refused its first message', async () => {
  const bus = new EmbeddedBus({ file: join(tempDir(), 'bus.db') });
  await bus.append([text('TP_r0', '0')]);
  const { room } = fill(bus);
  await expect(bus.append([text('TP_r1', large)])).rejects.toThrow('full');
  room();
  await bus.append([text('TP_r1', '1')]);
  await bus.append([text('TP_r2', '2')]);
  const stop = new AbortController();
  const { got, running } = collect(bus, 'g', 'TP_{router}', stop.signal);
  await until(() => got.length === 3, 'all three');
  expect(got.sort()).toEqual(['TP_r0 0', 'TP_r1 1', 'TP_r2 2']);
  stop.abort();
  await running;
  await bus.close();
});

it('refuses all of a commit that a full disk ended, and has written none of it', async () => {
  const bus = new EmbeddedBus({ file: join(tempDir(), 'bus.db') });
  await bus.append([text('in', '0')]);
  const { room } = fill(bus);
  const together = ['1', large, '2'].map((value) => bus.append([text('in', value)]));
  expect((await Promise.allSettled(together)).map((result) => result.status === 'rejected' && String(result.reason))).toEqual(
    together.map(() => expect.stringContaining('full') as string),
  );
  room();
  await bus.append([text('in', '3')]);
  const stop = new AbortController();
  const { got, running } = collect(bus, 'g', 'in', stop.signal);
  await until(() => got.includes('in 3'), 'what came after it');
  expect(got).toEqual(['in 0', 'in 3']);
  stop.abort();
  await running;
  await bus.close();
});

it('reads again what it could not read, and so do the other topics of the batch', async () => {
  const faults: string[] = [];
  const bus = new EmbeddedBus({ file: join(tempDir(), 'bus.db'), onFault: (fault) => faults.push(fault) });
  await bus.append([text('TP_r1', '1'), text('TP_r2', '2')]);
  const headers = bus.log.db.prepare('UPDATE log SET headers = ? WHERE id = 2');
  headers.run('{');
  const stop = new AbortController();
  const { got, running } = collect(bus, 'g', 'TP_{router}', stop.signal);
  await until(() => faults.length > 0, 'the fault');
  expect(faults[0]).toMatch(/^g: .*JSON.*; reading is tried again$/);
  headers.run('{}');
  await until(() => got.length === 2, 'both');
  stop.abort();
  await running;
  await bus.close();
});

it('outlives a look for new messages that fails', async () => {
  const file = join(tempDir(), 'bus.db');
  const faults: string[] = [];
  const bus = new EmbeddedBus({ file, onFault: (fault) => faults.push(fault) });
  const other = openDb(file);
  const stop = new AbortController();
  const { got, running } = collect(bus, 'g', 'in', stop.signal);
  other.exec('ALTER TABLE log RENAME TO elsewhere');
  await until(() => faults.includes('looking for new messages failed: no such table: log'), 'the fault');
  other.exec('ALTER TABLE elsewhere RENAME TO log');
  await bus.append([text('in', '1')]);
  await until(() => got.length === 1, 'the message');
  stop.abort();
  await running;
  other.close();
  await bus.close();
});

it('hands large messages over a few at a time, from one topic or several', async () => {
  const bus = new EmbeddedBus({ file: join(tempDir(), 'bus.db') });
  const large = (topic: string): Message => ({ topic, key: 'k', headers: {}, value: Buffer.alloc(6 * 2 ** 20) });
  await bus.append([large('TP_r1'), large('TP_r1'), large('TP_r1'), large('TP_r1'), large('TP_r2')]);
  const sizes: number[] = [];
  const stop = new AbortController();
  const stage = { handle: (batch: Delivered[]) => void sizes.push(batch.length) };
  const running = bus.consume('g', topicsOf('TP_{router}'), stage, stop.signal);
  await until(() => sizes.reduce((sum, n) => sum + n, 0) === 5, 'all of them');
  stop.abort();
  await running;
  await bus.close();
  expect(Math.max(...sizes)).toBe(3);
});

it('knows what waits for a group that has handled nothing of a topic yet', async () => {
  const bus = new EmbeddedBus({ file: join(tempDir(), 'bus.db') });
  const stop = new AbortController();
  const stage = {
    handle: () => {
      throw new Error('disk full');
    },
  };
  const running = bus.consume('g', topicsOf('TP_{router}'), stage, stop.signal);
  await bus.append([text('TP_r1', '1'), text('TP_r1', '2'), text('other', '3')]);
  expect(bus.lag()).toEqual([{ group: 'g', topic: 'TP_r1', lag: 2 }]);
  stop.abort();
  await running;
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
