import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { HEADER, type Message } from '../../common/bus.ts';
import { NdtError } from '../../common/errors.ts';
import { at, KeptBus, linesOf, makePublisher, servePrometheus } from '../../test/pods.ts';
import { tempDir } from '../../test/tempdir.ts';
import { until } from '../../test/until.ts';

describe('a restart', () => {
  it('neither repeats nor skips', async () => {
    const { url } = await servePrometheus();
    const dir = tempDir();
    const bus = new KeptBus();
    await (await makePublisher({ prometheus: { url } }, { dir, bus })).publisher.round(at('10:00:00'));
    await (await makePublisher({ prometheus: { url } }, { dir, bus })).publisher.round(at('10:02:05'));
    expect(bus.lines().map((line) => line.slice(2, 10))).toEqual([
      '09:59:20',
      '09:59:40',
      '10:00:00',
      '10:00:20',
      '10:00:40',
      '10:01:00',
      '10:01:20',
      '10:01:40',
      '10:02:00',
    ]);
    expect(JSON.parse(readFileSync(join(dir, 'data/aggregator/pods.json'), 'utf8'))).toEqual({
      published_until: { a: '2019-02-13T10:02:00.000Z' },
    });
  });

  it('after an end between publishing and remembering repeats that to the letter, and nothing else', async () => {
    const { url } = await servePrometheus();
    const dir = tempDir();
    const bus = new KeptBus();
    const start = async () => (await makePublisher({ prometheus: { url } }, { dir, bus })).publisher;
    const state = join(dir, 'data/aggregator/pods.json');
    await (await start()).round(at('10:00:00'));
    copyFileSync(state, join(dir, 'before.json'));
    await (await start()).round(at('10:00:40'));
    copyFileSync(join(dir, 'before.json'), state);
    await (await start()).round(at('10:00:40'));
    const [first, second, third, ...more] = bus.messages;
    expect(linesOf(first!.value)).toHaveLength(3);
    expect(linesOf(second!.value).map((line) => line.slice(2, 10))).toEqual(['10:00:20', '10:00:40']);
    expect({ third, more }).toEqual({ third: second, more: [] });
  });

  it('with a damaged state file starts anew, and says so', async () => {
    const { url, asked } = await servePrometheus();
    const dir = tempDir();
    const bus = new KeptBus();
    await (await makePublisher({ prometheus: { url } }, { dir, bus })).publisher.round(at('10:00:00'));
    for (const text of ['', '{"published_until": 7}', '{"published_until": {"a": "soon"}}']) {
      writeFileSync(join(dir, 'data/aggregator/pods.json'), text);
      const { publisher, log } = await makePublisher({ prometheus: { url } }, { dir, bus });
      await publisher.round(at('12:00:00'));
      expect(asked.at(-1)?.startMs).toBe(at('11:59:20'));
      expect(log).toEqual([expect.stringMatching(/pods\.json is damaged \(.*\): publishing starts anew from now/)]);
    }
  });

  it('after the clock was set back goes on from now', async () => {
    const { url, asked } = await servePrometheus();
    const dir = tempDir();
    const bus = new KeptBus();
    await (await makePublisher({ prometheus: { url } }, { dir, bus })).publisher.round(at('12:00:00'));
    const { publisher, log } = await makePublisher({ prometheus: { url } }, { dir, bus });
    await publisher.round(at('10:00:00'));
    await publisher.round(at('10:00:20'));
    expect(asked.slice(1).map(({ startMs, endMs }) => [startMs, endMs])).toEqual([
      [at('10:00:00'), at('10:00:00')],
      [at('10:00:20'), at('10:00:20')],
    ]);
    expect(log[0]).toMatch(/lies in the future, the clock was set back/);
  });

  it('does not remember what the bus has not taken', async () => {
    const { url } = await servePrometheus();
    const kept = new KeptBus();
    let full = true;
    const bus = {
      append: (messages: Message[]) => (full ? Promise.reject(new Error('disk full')) : kept.append(messages)),
    };
    const { publisher, log, value } = await makePublisher({ prometheus: { url } }, { bus });
    await publisher.round(at('10:00:00'));
    expect(publisher.lastResult).toBe('failed');
    full = false;
    await publisher.round(at('10:00:20'));
    expect(kept.lines().map((line) => line.slice(2, 10))).toEqual(['09:59:20', '09:59:40', '10:00:00', '10:00:20']);
    expect(log[0]).toBe('pods: publishing: disk full; the time missed is made up for when it works again');
    expect(value('ndt_pods_failures_total{reason="publish"}')).toBe(1);
  });

  it('is not held up for ever by a message that the bus refuses', async () => {
    const { url, asked } = await servePrometheus();
    const bus = { append: () => Promise.reject(new NdtError('DATA', 'too large for the topic')) };
    const { publisher, value } = await makePublisher({ prometheus: { url } }, { bus });
    await publisher.round(at('10:00:00'));
    await publisher.round(at('10:00:20'));
    expect(asked.at(-1)?.startMs).toBe(at('10:00:20'));
    expect(value('ndt_pods_refused_batches_total')).toBe(2);
  });
});

describe('run', () => {
  it('goes on round after round, ends at once, and keeps a second publisher off its folder', async () => {
    const { url } = await servePrometheus();
    const bus = new KeptBus();
    const dir = tempDir();
    const pods = { prometheus: { url }, interval: 0.2, step: '200ms', window: '200ms' };
    const { publisher } = await makePublisher(pods, { dir, bus });
    const stop = new AbortController();
    const running = publisher.run(stop.signal);
    await until(() => bus.lines().length >= 5, 'five values');
    const other = await makePublisher(pods, { dir, bus });
    expect(() => other.publisher.run(stop.signal)).toThrow(/another ndt pods is running/);
    stop.abort();
    await running;
    const times = bus.messages.flatMap(({ value }) => (JSON.parse(value.toString()) as { data: Array<{ timestamp: string }> }).data);
    const ms = times.map(({ timestamp }) => Date.parse(timestamp));
    expect(ms).toEqual(ms.map((_, i) => ms[0]! + i * 200));
    expect(bus.messages.every(({ headers }) => headers[HEADER.seq] === undefined)).toBe(true);
  });

  it('ends while Prometheus does not answer, and while the bus does not', async () => {
    const { url, asked } = await servePrometheus(() => undefined);
    const stuck = await makePublisher({ prometheus: { url } }, { bus: new KeptBus() });
    const stop = new AbortController();
    const running = stuck.publisher.run(stop.signal);
    await until(() => asked.length === 1, 'a query');
    stop.abort();
    await running;

    const { url: well } = await servePrometheus();
    const appends = { begun: 0 };
    const silent = {
      append: () => {
        appends.begun += 1;
        return new Promise<void>(() => {});
      },
    };
    const waiting = await makePublisher({ prometheus: { url: well } }, { bus: silent });
    const stop2 = new AbortController();
    const running2 = waiting.publisher.run(stop2.signal);
    await until(() => appends.begun === 1, 'an append');
    stop2.abort();
    await running2;
    expect(stuck.log.concat(waiting.log)).toEqual([]);
  });
});
