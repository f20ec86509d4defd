import { PassThrough, Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Figures } from './figures.ts';
import { type LatestFigures, Live, merge, streamEvents } from './live.ts';

const NOW = Date.UTC(2026, 0, 1);
const figures = (second: number, more: Partial<Figures> = {}): Figures => ({
  router: 'r1',
  stage: 'inferred',
  at: NOW * 1000 + second * 1e6,
  rate: second,
  length: 500,
  occupation: 1,
  power: 700,
  latency: { collected: 1, processed: 2, inferred: 8 },
  replayed: false,
  ...more,
});

beforeEach(() => {
  vi.useFakeTimers({ now: NOW, toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('the hub', () => {
  function watched(live: Live): LatestFigures[] {
    const seen: LatestFigures[] = [];
    live.subscribe((latest) => seen.push(latest));
    return seen;
  }

  it('tells at most four times a second, the last figures always', () => {
    const live = new Live();
    const seen = watched(live);
    for (let i = 0; i < 100; i += 1) {
      live.publish([figures(i / 100)]);
      vi.advanceTimersByTime(10);
    }
    expect(seen.length).toBeGreaterThanOrEqual(4);
    expect(seen.length).toBeLessThanOrEqual(5);
    vi.advanceTimersByTime(250);
    expect(seen.at(-1)?.rate).toBe(0.99);
    const told = seen.length;
    vi.advanceTimersByTime(10_000);
    expect(seen).toHaveLength(told);
  });

  it('paces each router by itself', () => {
    const live = new Live();
    const seen = watched(live);
    live.publish(['r1', 'r2', 'r3'].map((router) => figures(0, { router })));
    vi.advanceTimersByTime(1);
    expect(seen.map(({ router }) => router)).toEqual(['r1', 'r2', 'r3']);
  });

  it('waits a moment for the inference, and tells figures without one when none comes', () => {
    const live = new Live();
    const seen = watched(live);
    const processed = figures(0, { stage: 'processed', power: null, latency: { collected: 1, processed: 2, inferred: null } });
    live.publish([processed]);
    vi.advanceTimersByTime(20);
    live.publish([figures(0)]);
    vi.advanceTimersByTime(1);
    expect(seen).toMatchObject([{ power: 700, latency_ms: 8 }]);
    vi.advanceTimersByTime(1000);
    live.publish([{ ...processed, at: processed.at + 1e6 }]);
    vi.advanceTimersByTime(1000);
    expect(seen).toHaveLength(2);
    expect(seen[1]).toMatchObject({ power: null, latency_ms: null });
  });

  it('does not go back for records that come late, nor for a stage of the same time', () => {
    const live = new Live();
    live.publish([figures(10), figures(5, { replayed: true }), figures(10, { stage: 'processed', power: null })]);
    expect(live.latest()).toMatchObject([{ at: NOW / 1000 + 10, power: 700 }]);
  });

  it('recovers from a record of a clock in the future', () => {
    const live = new Live();
    live.publish([figures(86_400)]);
    live.publish([figures(1)]);
    expect(live.latest()).toMatchObject([{ at: NOW / 1000 + 1 }]);
  });

  it('ends a subscription', () => {
    const live = new Live();
    const seen: unknown[] = [];
    const end = live.subscribe((latest) => seen.push(latest));
    end();
    live.publish([figures(1)]);
    vi.advanceTimersByTime(1000);
    expect([seen.length, live.watchers]).toEqual([0, 0]);
  });
});

it('prefers the newer stage, and the inference of one time', () => {
  const inferred = figures(5);
  const processed = figures(5, { stage: 'processed', power: null });
  expect(merge(processed, inferred)?.power).toBe(700);
  expect(merge({ ...processed, at: processed.at + 1 }, inferred)?.power).toBeNull();
  expect(merge(processed, undefined)?.power).toBeNull();
  expect(merge(undefined, undefined)).toBeUndefined();
});

describe('the stream', () => {
  const events = (text: string) =>
    text
      .split('\n\n')
      .filter((block) => block.startsWith('event: figures'))
      .map((block) => JSON.parse(block.split('data: ')[1] ?? '') as LatestFigures);

  it('begins with the latest of all routers and goes on with every change', () => {
    const live = new Live();
    live.publish([figures(1), figures(1, { router: 'r2' })]);
    vi.advanceTimersByTime(10);
    const out = new PassThrough();
    streamEvents(live, out, new AbortController().signal);
    live.publish([figures(2)]);
    vi.advanceTimersByTime(1000);
    expect(events(String(out.read())).map(({ router, rate }) => [router, rate])).toEqual([
      ['r1', 1],
      ['r2', 1],
      ['r1', 2],
    ]);
    out.destroy();
  });

  it('sends comments when there is nothing to tell', () => {
    const out = new PassThrough();
    streamEvents(new Live(), out, new AbortController().signal, { heartbeatMs: 100 });
    out.read();
    vi.advanceTimersByTime(350);
    expect(String(out.read())).toBe(': still here\n\n'.repeat(3));
    out.destroy();
  });

  it('keeps one event for each router while a reader takes nothing, and sends the latest when it does again', async () => {
    const live = new Live();
    const taken: string[] = [];
    let release = () => {};
    const slow = new Writable({
      highWaterMark: 10,
      decodeStrings: false,
      write: (chunk: string, _encoding, done) => {
        taken.push(chunk);
        release = done;
      },
    });
    streamEvents(live, slow, new AbortController().signal);
    for (let i = 1; i <= 100; i += 1) {
      live.publish([figures(i), figures(i, { router: 'r2' })]);
      vi.advanceTimersByTime(250);
    }
    expect(taken).toEqual(['retry: 2000\n\n']);
    expect(slow.writableLength).toBeLessThan(1000);
    for (let i = 0; i < 4; i += 1) {
      release();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(events(taken.join('')).map(({ router, rate }) => [router, rate])).toEqual([
      ['r1', 100],
      ['r2', 100],
    ]);
    slow.destroy();
  });

  it('cuts off a reader that has taken nothing for a minute', () => {
    const live = new Live();
    const stuck = new Writable({ highWaterMark: 10, write: () => {} });
    streamEvents(live, stuck, new AbortController().signal);
    vi.advanceTimersByTime(59_000);
    expect(stuck.destroyed).toBe(false);
    vi.advanceTimersByTime(20_000);
    expect(stuck.destroyed).toBe(true);
  });

  it('forgets a reader that went away, and ends with the program', async () => {
    const live = new Live();
    const gone = new PassThrough();
    const ending = new AbortController();
    const stays = new PassThrough();
    streamEvents(live, gone, ending.signal);
    streamEvents(live, stays, ending.signal);
    expect(live.watchers).toBe(2);
    gone.destroy();
    await new Promise((resolve) => setImmediate(resolve));
    expect(live.watchers).toBe(1);
    ending.abort();
    expect(stays.writableEnded).toBe(true);
    expect(live.watchers).toBe(0);
  });
});
