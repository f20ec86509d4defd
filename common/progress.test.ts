import { expect, test } from 'vitest';
import { Progress } from './progress.ts';

test('a part is stuck when it did not get on in time, and well again when it does', () => {
  let now = 0;
  const progress = new Progress(() => now);
  const part = progress.begin('polling r1', 5000);
  now = 5000;
  expect(progress.stuck()).toEqual([]);
  now = 8000;
  expect(progress.stuck()).toEqual(['polling r1 has not got on for 3 s more than it may take']);
  part.again(2000);
  expect(progress.stuck()).toEqual([]);
  now = 10_001;
  expect(progress.stuck()).toHaveLength(1);
});

test('a part that ended may rest for ever, and what was still under way does not bring it back', () => {
  let now = 0;
  const progress = new Progress(() => now);
  const one = progress.begin('stage a', 10);
  progress.begin('stage a', 20);
  one.end();
  one.again(10);
  now = 15;
  expect(progress.stuck()).toEqual([]);
  now = 25;
  expect(progress.stuck()).toHaveLength(1);
});
