import { describe, expect, it } from 'vitest';
import { at, CONTAINER, KeptBus, linesOf, makePublisher, matrix, servePrometheus } from '../../test/pods.ts';
import { until } from '../../test/until.ts';

const TWO = [
  { name: 'a', type: 'gauge', unit: 'bytes' },
  { name: 'b', type: 'counter', unit: 'packets' },
];

describe('a round', () => {
  it('publishes one message per container and metric, keyed by the container, about the last minute at first', async () => {
    const { url, asked } = await servePrometheus((one) => matrix(one, [CONTAINER, 'f'.repeat(64)]));
    const bus = new KeptBus();
    const { publisher, value } = await makePublisher({ prometheus: { url }, metrics: TWO }, { bus });
    const published = await publisher.round(at('10:15:39.500'));
    expect(bus.messages.map(({ value: body, ...rest }) => rest)).toEqual(
      ['a', 'b'].flatMap(() => [CONTAINER, 'f'.repeat(64)].map((key) => ({ topic: 'nfvi.ncsrd.kubernetes', key, headers: {} }))),
    );
    expect(published).toEqual(bus.messages);
    expect(asked.map(({ query }) => query).sort()).toEqual([
      'sum by (id) (avg_over_time(a{image!=""}[1m]))',
      'sum by (id) (rate(b{image!=""}[1m]))',
    ]);
    expect(linesOf(bus.messages[0]!.value)).toEqual(['a 10:14:40=1550052880', 'a 10:15:00=1550052900', 'a 10:15:20=1550052920']);
    expect(value('ndt_pods_messages_total')).toBe(4);
    expect(value('ndt_pods_rounds_total{result="ok"}')).toBe(1);
    expect(value('ndt_pods_last_success_timestamp_seconds')).toBeGreaterThan(1.7e9);
  });

  it('asks for what is new since the last one, and for nothing where nothing is', async () => {
    const { url, asked } = await servePrometheus();
    const bus = new KeptBus();
    const { publisher, value } = await makePublisher({ prometheus: { url } }, { bus });
    await publisher.round(at('10:15:21'));
    await publisher.round(at('10:15:39'));
    expect(publisher.lastResult).toBe('nothing_new');
    await publisher.round(at('10:15:41'));
    expect(asked.map(({ startMs, endMs }) => [startMs, endMs])).toEqual([
      [at('10:14:40'), at('10:15:20')],
      [at('10:15:40'), at('10:15:40')],
    ]);
    expect(value('ndt_pods_rounds_total{result="nothing_new"}')).toBe(1);
  });

  it('waits for values to settle', async () => {
    const { url, asked } = await servePrometheus();
    const { publisher } = await makePublisher({ prometheus: { url }, delay: 5 });
    await publisher.round(at('10:15:24.999'));
    expect(asked[0]?.endMs).toBe(at('10:15:00'));
  });

  it('never overlaps another', async () => {
    let inHand = 0;
    let most = 0;
    const { promise: release, resolve } = Promise.withResolvers<void>();
    const { url, asked } = await servePrometheus(async (one) => {
      inHand += 1;
      most = Math.max(most, inHand);
      await release;
      inHand -= 1;
      return matrix(one);
    });
    const bus = new KeptBus();
    const { publisher } = await makePublisher({ prometheus: { url } }, { bus });
    const rounds = [publisher.round(at('10:15:20')), publisher.round(at('10:15:40')), publisher.round(at('10:16:00'))];
    await until(() => asked.length === 1, 'the first query');
    resolve();
    await Promise.all(rounds);
    expect({ most, asked: asked.length }).toEqual({ most: 1, asked: 1 });
    // What the others would have asked for comes with the next.
    await publisher.round(at('10:16:20'));
    expect(bus.lines().map((line) => line.slice(0, 10))).toEqual(
      ['10:14:40', '10:15:00', '10:15:20', '10:15:40', '10:16:00', '10:16:20'].map((time) => `a ${time}`),
    );
  });
});

describe('time that was missed', () => {
  it('is made up for when Prometheus is back, each value once', async () => {
    let away = false;
    const { url } = await servePrometheus((one, _, response) => {
      if (!away) return matrix(one);
      response.statusCode = 503;
      return 'no';
    });
    const bus = new KeptBus();
    const { publisher, log, value } = await makePublisher({ prometheus: { url } }, { bus });
    await publisher.round(at('10:00:00'));
    away = true;
    for (let s = 20; s < 60; s += 20) await publisher.round(at(`10:00:${s}`));
    expect(publisher.lastResult).toBe('failed');
    away = false;
    await publisher.round(at('10:01:00'));
    expect(bus.lines().slice(3)).toEqual(['a 10:00:20=1550052020', 'a 10:00:40=1550052040', 'a 10:01:00=1550052060']);
    expect(log).toEqual([
      `pods: Prometheus: ${url} answers 503 ("no"): look into the log of Prometheus, or of what stands before it; the time missed is made up for when it works again`,
      'pods: Prometheus: well again after 0 s (2 faults)',
    ]);
    expect(value('ndt_pods_failures_total{reason="busy"}')).toBe(2);
  });

  it('is made up for in slices, and up to a bound', async () => {
    const { url, asked } = await servePrometheus();
    const bus = new KeptBus();
    const { publisher, log, value } = await makePublisher({ prometheus: { url }, max_catch_up: 7200 }, { bus });
    await publisher.round(at('10:00:00'));
    await publisher.round(at('13:00:00'));
    expect(asked.slice(1).map(({ startMs, endMs }) => [startMs, endMs])).toEqual([
      [at('11:00:20'), at('11:33:20')],
      [at('11:33:40'), at('12:06:40')],
      [at('12:07:00'), at('12:40:00')],
      [at('12:40:20'), at('13:00:00')],
    ]);
    expect(new Set(bus.lines()).size).toBe(3 + 360);
    expect(bus.lines()).toHaveLength(3 + 360);
    expect(value('ndt_pods_missed_seconds_total')).toBe(3600);
    expect(log).toEqual(['pods: outage: 3600 s are given up, more was missed than pods.max_catch_up (7200 s)']);
  });

  it('is counted once where a metric goes on failing', async () => {
    let broken = false;
    const { url } = await servePrometheus((one, _, response) => {
      if (broken) response.statusCode = 503;
      return matrix(one);
    });
    const { publisher, value } = await makePublisher({ prometheus: { url }, max_catch_up: 60 }, { bus: new KeptBus() });
    await publisher.round(at('10:00:00'));
    broken = true;
    await publisher.round(at('10:05:00'));
    await publisher.round(at('10:06:00'));
    expect(value('ndt_pods_missed_seconds_total')).toBe(300);
  });

  it('is of each metric by itself: a query that fails holds no other up', async () => {
    let broken = true;
    const { url } = await servePrometheus((one, _, response) => {
      if (!broken || !one.query.includes('(b{')) return matrix(one);
      response.statusCode = 422;
      return { status: 'error', errorType: 'execution', error: 'found duplicate series for the match group' };
    });
    const bus = new KeptBus();
    const { publisher, log, value } = await makePublisher({ prometheus: { url }, metrics: TWO, window: '20s' }, { bus });
    for (const time of ['10:00:00', '10:00:20']) {
      await publisher.round(at(time));
      expect(publisher.lastResult).toBe('partial');
    }
    expect(bus.lines()).toEqual(['a 10:00:00=1550052000', 'a 10:00:20=1550052020']);
    broken = false;
    await publisher.round(at('10:00:40'));
    expect(bus.lines().slice(2).sort()).toEqual([
      'a 10:00:40=1550052040',
      'b 10:00:00=1550052000',
      'b 10:00:20=1550052020',
      'b 10:00:40=1550052040',
    ]);
    expect(log[0]).toBe(
      `pods: b: ${url} answers 422 ("found duplicate series for the match group"): mend the query in pods.queries or pods.metrics; the time missed is made up for when it works again`,
    );
    expect(log).toHaveLength(2);
    expect(value('ndt_pods_failures_total{reason="query"}')).toBe(2);
  });

  it('is asked for in halves where an answer would be too large', async () => {
    const { url, asked } = await servePrometheus((one, _, response) => {
      if (one.endMs - one.startMs <= 40_000) return matrix(one);
      response.statusCode = 422;
      return {
        status: 'error',
        errorType: 'execution',
        error: 'query processing would load too many samples into memory in query execution',
      };
    });
    const bus = new KeptBus();
    const { publisher } = await makePublisher({ prometheus: { url }, window: '20s' }, { bus });
    await publisher.round(at('10:00:00'));
    await publisher.round(at('10:03:00'));
    expect(publisher.lastResult).toBe('ok');
    expect(asked.length).toBeGreaterThan(4);
    expect(bus.lines()).toEqual(
      Array.from({ length: 10 }, (_, i) => 1550052000 + i * 20).map((s) => `a ${new Date(s * 1000).toISOString().slice(11, 19)}=${s}`),
    );
  });

  it('asks no more when nobody answers, and begins with the others next time', async () => {
    const names = Array.from({ length: 10 }, (_, i) => `m${i}`);
    let slow = true;
    const { url, asked } = await servePrometheus((one, _, response) => {
      if (slow) response.statusCode = 503;
      return matrix(one);
    });
    const bus = new KeptBus();
    const { publisher } = await makePublisher({ prometheus: { url }, metrics: names.map((name) => ({ name })) }, { bus });
    await publisher.round(at('10:00:00'));
    const first = asked.length;
    expect(first).toBeLessThan(8);
    slow = false;
    await publisher.round(at('10:00:20'));
    expect(asked[first]?.query).toContain(`(m${first}{`);
    expect(new Set(bus.messages.map(({ value }) => linesOf(value)[0]?.split(' ')[0]))).toEqual(new Set(names));
  });
});
