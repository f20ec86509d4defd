import { describe, expect, it } from 'vitest';
import { type Point, StepSeries } from './series.ts';

const point = (at: number, average: number, count = 1): Point => ({ at, average, min: average, max: average, count });

describe('a series of steps', () => {
  it('puts live figures into the steps of the history', () => {
    const series = new StepSeries([point(0, 10), { at: 10, average: 20, min: 15, max: 25, count: 2 }], 10, 12);
    series.add(15, 50);
    series.add(21, 7);
    expect(series.columns()).toEqual([
      [0, 10, 20],
      [10, 30, 7],
      [10, 50, 7],
      [10, 15, 7],
    ]);
  });

  it('counts no figure twice that the history has, nor one that comes late', () => {
    const series = new StepSeries([point(10, 20)], 10, 12);
    series.add(12, 99);
    series.add(11, 99);
    series.add(25, null);
    expect(series.columns()[1]).toEqual([20]);
  });

  it('breaks the line where records are missing, not where they are simply rare', () => {
    const every5 = [0, 5, 10, 15, 40, 45].map((at) => point(at, 1));
    expect(new StepSeries(every5, 1, 45).columns()[0]).toEqual([0, 5, 10, 15, 16, 40, 45]);
    expect(new StepSeries(every5, 1, 45).columns()[1]).toEqual([1, 1, 1, 1, null, 1, 1]);
  });

  it('tells least, greatest and last', () => {
    expect(new StepSeries([], 1, 0).extent()).toBeUndefined();
    expect(new StepSeries([{ at: 0, average: 5, min: 1, max: 9, count: 3 }, point(1, 4)], 1, 1).extent()).toEqual({
      min: 1,
      max: 9,
      last: 4,
    });
  });

  it('forgets what leaves the range', () => {
    const series = new StepSeries(
      [0, 1, 2, 3].map((at) => point(at, at)),
      1,
      3,
    );
    series.trim(2.5);
    expect(series.columns()[0]).toEqual([2, 3]);
    series.trim(100);
    expect(series.extent()).toBeUndefined();
  });

  it('leaves the history it was given as it was', () => {
    const history = [point(0, 10)];
    new StepSeries(history, 10, 0).add(5, 30);
    expect(history).toEqual([point(0, 10)]);
  });
});
