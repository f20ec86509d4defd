import { expect, it } from 'vitest';
import { Progress } from './progress.ts';

it('tells share, rate and time left, over the last ten seconds', () => {
  const progress = new Progress();
  progress.add(0, 1000);
  expect(progress.line({ left: 1000, fresh: 0 })).toBe(`[${'-'.repeat(30)}]   0 %  1,000 left · measuring`);
  for (let s = 1; s <= 30; s += 1) progress.add(s * 1000, 1000 - s * 10);
  // Faster from now on: ten seconds later nothing of the old rate is left in it.
  for (let s = 31; s <= 40; s += 1) progress.add(s * 1000, 700 - (s - 30) * 20);
  expect(progress.rate).toBeCloseTo(20, 6);
  expect(progress.leftMs).toBeCloseTo(25_000, 6);
  expect(progress.line({ left: 500, fresh: 3 })).toBe(`[${'#'.repeat(15)}${'-'.repeat(15)}]  50 %  500 left · 20/s · 25 s to go · 3 fresh`);
  progress.add(60_000, 0);
  expect(progress.line({ left: 0, fresh: 0 })).toMatch(/^\[#{30}\] 100 % {2}0 left · .*\/s · done$/);
});

it('a backlog that grows or stands has no end in sight', () => {
  const progress = new Progress();
  progress.add(0, 10);
  progress.add(1000, 12);
  expect(progress.done).toBe(0);
  expect(progress.leftMs).toBeUndefined();
  expect(progress.line({ left: 12, fresh: 0 })).toContain('-2.0/s · not going down');
});

it('nothing to do is done', () => {
  const progress = new Progress();
  progress.add(0, 0);
  expect(progress.line({ left: 0, fresh: 0 })).toContain('100 %  0 left');
});
