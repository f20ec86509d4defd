/** One metric over time as a chart takes it: history by steps from the API, and live figures that go into the same steps. */

export interface Point {
  /** Begin of the step [Unix s]. */
  at: number;
  average: number;
  min: number;
  max: number;
  count: number;
}

/** Times, averages, greatest and least values; null breaks the line. */
export type Columns = [number[], Array<number | null>, Array<number | null>, Array<number | null>];

export class StepSeries {
  private readonly points: Point[];
  private readonly step: number;
  /** Figures up to here came with the history. */
  private newest: number;

  /**
   * @param step length of a step [s]
   * @param upTo event time of the newest figures in the history [Unix s]
   */
  constructor(points: readonly Point[], step: number, upTo: number) {
    this.points = points.map((point) => ({ ...point }));
    this.step = step;
    this.newest = upTo;
  }

  /** Adds a live figure. One that is not newer than all others came already. */
  add(at: number, value: number | null): void {
    if (at <= this.newest || value === null) return;
    this.newest = at;
    const start = Math.floor(at / this.step) * this.step;
    const last = this.points.at(-1);
    if (last === undefined || start > last.at) {
      this.points.push({ at: start, average: value, min: value, max: value, count: 1 });
      return;
    }
    if (start < last.at) return;
    last.average = (last.average * last.count + value) / (last.count + 1);
    last.count += 1;
    last.min = Math.min(last.min, value);
    last.max = Math.max(last.max, value);
  }

  /** Forgets what begins before a time [Unix s]. */
  trim(from: number): void {
    const keep = this.points.findIndex(({ at }) => at + this.step > from);
    this.points.splice(0, keep < 0 ? this.points.length : keep);
  }

  /** The columns of a chart. Where records are missing for much longer than usual the line breaks. */
  columns(): Columns {
    const gap = this.usualDistance() * 2.5;
    const columns: Columns = [[], [], [], []];
    let previous: number | undefined;
    for (const { at, average, min, max } of this.points) {
      if (previous !== undefined && at - previous > gap) push(columns, previous + this.step, null, null, null);
      push(columns, at, average, max, min);
      previous = at;
    }
    return columns;
  }

  /** Least and greatest value, and the last average; undefined without points. */
  extent(): { min: number; max: number; last: number } | undefined {
    const last = this.points.at(-1);
    if (last === undefined) return undefined;
    let { min, max } = last;
    for (const point of this.points) {
      if (point.min < min) min = point.min;
      if (point.max > max) max = point.max;
    }
    return { min, max, last: last.average };
  }

  private usualDistance(): number {
    const distances: number[] = [];
    for (let i = 1; i < this.points.length; i += 1) distances.push((this.points[i]?.at ?? 0) - (this.points[i - 1]?.at ?? 0));
    distances.sort((a, b) => a - b);
    return Math.max(this.step, distances[Math.floor(distances.length / 2)] ?? this.step);
  }
}

function push(columns: Columns, at: number, average: number | null, max: number | null, min: number | null): void {
  columns[0].push(at);
  columns[1].push(average);
  columns[2].push(max);
  columns[3].push(min);
}
