/** What every bus must do, whatever carries it. An adapter's test calls `busContract` with a way to open a bus of its kind. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Bus, Delivered, Message, Outcome } from '../../common/bus.ts';
import { topicsOf } from '../../common/topics.ts';
import { until } from '../until.ts';

export interface BusUnderTest {
  /** Opens the bus; called again after `close`, it must find what was there. */
  open(): Promise<Bus>;
  /** A name that no other test uses: topics and groups of a test carry it. */
  unique(): string;
  /** Longest that a thing may take to be seen [ms]. */
  patienceMs: number;
}

export function busContract(name: string, setUp: () => Promise<{ under: BusUnderTest; tearDown: () => Promise<void> }>): void {
  describe(`${name}: the bus contract`, () => {
    let under: BusUnderTest;
    let tearDown: () => Promise<void>;
    let bus: Bus;
    let prefix: string;
    const stops: Array<() => Promise<void>> = [];

    const message = (topic: string, key: string | null, text: string, headers = {}): Message => ({
      topic: `${prefix}.${topic}`,
      key,
      headers,
      value: Buffer.from(text),
    });
    const texts = (messages: Delivered[]) => messages.map((m) => m.value.toString());
    const wait = (condition: () => boolean, what: string) => until(condition, what, under.patienceMs);

    /** Runs a consumer until stopped; collects what it was given and committed. */
    function consumer(
      on: Bus,
      group: string,
      topics: string[],
      handle: (batch: Delivered[]) => Outcome | undefined | Promise<Outcome | undefined> = () => undefined,
    ) {
      const got: Delivered[] = [];
      let restored = new Map<string, Buffer>();
      const stop = new AbortController();
      const running = on.consume(
        `${prefix}.${group}`,
        topicsOf(...topics.map((topic) => `${prefix}.${topic}`)),
        {
          restore: (state) => {
            restored = state;
          },
          handle: async (batch) => {
            const outcome = await handle(batch);
            got.push(...batch);
            return outcome;
          },
        },
        stop.signal,
      );
      const end = async () => {
        stop.abort();
        await running;
      };
      stops.push(end);
      return { got, end, state: () => restored };
    }

    beforeEach(async () => {
      ({ under, tearDown } = await setUp());
      prefix = under.unique();
      bus = await under.open();
    });
    afterEach(async () => {
      for (const stop of stops.splice(0)) await stop();
      await bus.close();
      await tearDown();
    });

    it('gives a message as it came: topic, key, headers, bytes, and its time', async () => {
      const value = Buffer.from([0, 1, 2, 254, 255]);
      await bus.append([{ topic: `${prefix}.a`, key: 'r1', headers: { 'ndt-agent': 'x', 'ndt-seq': '7' }, value }]);
      const { got } = consumer(bus, 'g', ['a']);
      await wait(() => got.length === 1, 'the message');
      expect(got[0]).toMatchObject({ topic: `${prefix}.a`, key: 'r1', headers: { 'ndt-agent': 'x', 'ndt-seq': '7' } });
      expect(Buffer.compare(got[0]?.value ?? Buffer.alloc(0), value)).toBe(0);
      expect(Math.abs(Date.now() - (got[0]?.timestamp ?? 0))).toBeLessThan(60_000);
    });

    it('keeps the order of a key', async () => {
      for (let i = 0; i < 20; i += 1) await bus.append(Array.from({ length: 10 }, (_, j) => message('a', 'r1', String(i * 10 + j))));
      const { got } = consumer(bus, 'g', ['a']);
      await wait(() => got.length === 200, '200 messages');
      expect(texts(got)).toEqual(Array.from({ length: 200 }, (_, i) => String(i)));
    });

    it('gives every group every message, and a new group those from before it', async () => {
      await bus.append([message('a', 'k', '1'), message('a', 'k', '2')]);
      const first = consumer(bus, 'g1', ['a']);
      await wait(() => first.got.length === 2, 'the first group');
      const second = consumer(bus, 'g2', ['a']);
      await wait(() => second.got.length === 2, 'the second group');
      await bus.append([message('a', 'k', '3')]);
      await wait(() => first.got.length === 3 && second.got.length === 3, 'both groups');
    });

    it('goes on after the committed position when a consumer comes back, on a bus opened anew', async () => {
      await bus.append([message('a', 'k', '1'), message('a', 'k', '2')]);
      const before = consumer(bus, 'g', ['a']);
      await wait(() => before.got.length === 2, 'the messages');
      await before.end();
      await bus.append([message('a', 'k', '3')]);
      await bus.close();
      bus = await under.open();
      const after = consumer(bus, 'g', ['a']);
      await wait(() => after.got.length >= 1, 'the next message');
      expect(texts(after.got)).toEqual(['3']);
    });

    it('gives a batch again when its handling failed, and nothing of its outcome is seen', async () => {
      await bus.append([message('in', 'k', '1'), message('in', 'k', '2')]);
      let failures = 0;
      const { got } = consumer(bus, 'g', ['in'], (batch) => {
        if (failures < 2) {
          failures += 1;
          throw new Error('not now');
        }
        return { append: batch.map((m) => ({ ...m, topic: `${prefix}.out` })) };
      });
      await wait(() => got.length === 2, 'the second try');
      const out = consumer(bus, 'reader', ['out']);
      await wait(() => out.got.length >= 2, 'the outcome');
      expect(failures).toBe(2);
      expect(texts(out.got)).toEqual(['1', '2']);
    });

    it('commits outcome, state and position together', async () => {
      await bus.append([message('in', 'k', '5'), message('in', 'k', '6')]);
      let sum = 0;
      const adder = () =>
        consumer(bus, 'sum', ['in'], (batch) => {
          for (const m of batch) sum += Number(m.value.toString());
          return { append: [message('out', 'k', String(sum))], state: new Map([['sum', Buffer.from(String(sum))]]) };
        });
      const first = adder();
      await wait(() => first.got.length === 2, 'the first two');
      await first.end();
      await bus.close();
      bus = await under.open();
      await bus.append([message('in', 'k', '7')]);
      const second = consumer(bus, 'sum', ['in']);
      await wait(() => second.got.length === 1, 'the third');
      expect(second.state().get('sum')?.toString()).toBe('11');
    });

    it('deletes state that a stage sets to null', async () => {
      await bus.append([message('in', 'k', '1')]);
      const first = consumer(bus, 'g', ['in'], () => ({
        state: new Map([
          ['a', Buffer.from('1')],
          ['b', Buffer.from('2')],
        ]),
      }));
      await wait(() => first.got.length === 1, 'the first');
      await first.end();
      await bus.append([message('in', 'k', '2')]);
      const second = consumer(bus, 'g', ['in'], () => ({ state: new Map([['a', null]]) }));
      await wait(() => second.got.length === 1, 'the second');
      await second.end();
      const third = consumer(bus, 'g', ['in']);
      await wait(() => third.state().size === 1, 'the state');
      expect([...third.state().keys()]).toEqual(['b']);
    });

    it('shares the messages of a group between its consumers: each goes to one', async () => {
      const one = consumer(bus, 'g', ['t{router}']);
      const two = consumer(bus, 'g', ['t{router}']);
      for (let i = 0; i < 200; i += 1) await bus.append([message(`t${i % 10}`, 'k', String(i))]);
      await wait(() => one.got.length + two.got.length >= 200, '200 messages');
      expect([...texts(one.got), ...texts(two.got)].map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 200 }, (_, i) => i));
    });

    it('picks up topics that appear while it consumes a pattern', async () => {
      const { got } = consumer(bus, 'g', ['TP_{router}']);
      await bus.append([message('TP_r1', 'r1', '1')]);
      await wait(() => got.length === 1, 'the first topic');
      await bus.append([message('TP_r2', 'r2', '2'), message('other', 'x', '3')]);
      await wait(() => got.length === 2, 'the new topic');
      expect(texts(got)).toEqual(['1', '2']);
    });

    it('stops within a moment, whether idle or busy', async () => {
      const { end } = consumer(bus, 'g', ['a']);
      const started = performance.now();
      await end();
      expect(performance.now() - started).toBeLessThan(under.patienceMs);
    });
  });
}
