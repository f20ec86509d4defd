import fc from 'fast-check';
import { expect, it } from 'vitest';
import { prometheusMs } from './duration.ts';
import { halves, type Span, slices, wantedSpan } from './spans.ts';

const options = { stepMs: 20_000, lookbackMs: 60_000, maxCatchUpMs: 3_600_000 };
const timesOf = (spans: Span[], stepMs: number) =>
  spans.flatMap(({ startMs, endMs }) => Array.from({ length: Math.round((endMs - startMs) / stepMs) + 1 }, (_, i) => startMs + i * stepMs));

it('rounds follow each other without a gap and without an overlap, whenever they come', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 100_000 }),
      fc.integer({ min: 1, max: 7 }),
      // In hundredths of a step: with milliseconds beside a step of one, a run would be about millions of times.
      fc.array(fc.integer({ min: 0, max: 2500 }), { minLength: 2, maxLength: 20 }),
      (stepMs, maxPoints, pauses) => {
        let nowMs = 1_550_000_000_000;
        let last: number | undefined;
        const times: number[] = [];
        for (const pause of pauses) {
          nowMs += Math.round((pause * stepMs) / 100);
          const wanted = wantedSpan(last, { ...options, nowMs, stepMs, lookbackMs: 3 * stepMs, maxCatchUpMs: 30 * stepMs });
          expect(wanted).toMatchObject({ missedMs: 0, clockWentBack: false });
          if (wanted.span === undefined) continue;
          const parts = [...slices(wanted.span, stepMs, maxPoints)].map((slice) => timesOf([slice], stepMs));
          expect(Math.max(...parts.map((part) => part.length))).toBeLessThanOrEqual(maxPoints);
          times.push(...parts.flat());
          last = wanted.span.endMs;
        }
        expect(times).toEqual(times.map((_, i) => times[0]! + i * stepMs));
        expect(times.every((ms) => ms % stepMs === 0)).toBe(true);
        expect(nowMs - times.at(-1)!).toBeLessThan(stepMs);
      },
    ),
  );
});

it('a month missed at a step of a millisecond is asked for slice by slice', () => {
  const { span } = wantedSpan(0, { nowMs: 30 * 86_400_000, stepMs: 1, lookbackMs: 60_000, maxCatchUpMs: 30 * 86_400_000 });
  const all = slices(span ?? { startMs: 0, endMs: 0 }, 1, 100);
  expect([all.next().value, all.next().value]).toEqual([
    { startMs: 1, endMs: 100 },
    { startMs: 101, endMs: 200 },
  ]);
});

it('a longer step goes on behind what the shorter one published', () => {
  const { span } = wantedSpan(1_020_000, { ...options, nowMs: 1_100_000, stepMs: 30_000 });
  expect(span).toEqual({ startMs: 1_050_000, endMs: 1_080_000 });
});

it('what lies beyond the bound is given up, and the rest asked for', () => {
  const wanted = wantedSpan(0, { ...options, nowMs: 200_000, maxCatchUpMs: 60_000 });
  expect(wanted).toEqual({ span: { startMs: 160_000, endMs: 200_000 }, missedMs: 140_000, clockWentBack: false });
  expect(wantedSpan(0, { ...options, nowMs: 200_000, maxCatchUpMs: 1 }).span).toEqual({ startMs: 200_000, endMs: 200_000 });
});

it('halves meet', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 1, max: 50 }), (stepMs, points) => {
      const span = { startMs: 5 * stepMs, endMs: (4 + points) * stepMs };
      const two = halves(span, stepMs);
      if (points === 1) expect(two).toBeUndefined();
      else expect(timesOf(two ?? [], stepMs)).toEqual(timesOf([span], stepMs));
    }),
  );
});

it('durations are Prometheus’ own', () => {
  const texts = ['20s', '1m30s', '500ms', '1h', '2d', '1w', '15', '0.5', '0', '0s', '', '20 s', '-1s', '1x', 's'];
  expect(texts.map(prometheusMs)).toEqual([
    20_000,
    90_000,
    500,
    3_600_000,
    172_800_000,
    604_800_000,
    15_000,
    500,
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});
