/** How a backlog goes down: how much of it is done, how fast, and how long it still takes. */
import { countText, durationText } from './text.ts';

export interface Step {
  /** Of the records that waited when it was first looked at: how many still do. */
  left: number;
  /** Records that came in since, and wait. */
  fresh: number;
}

/** The rate is that of the last so many ms. */
const WINDOW_MS = 10_000;
const WIDTH = 30;

export class Progress {
  private most = 0;
  private readonly seen: Array<{ atMs: number; left: number }> = [];

  /** @param atMs of a monotonic clock */
  add(atMs: number, left: number): void {
    // The first look may come while records are still on their way in.
    this.most = Math.max(this.most, left);
    this.seen.push({ atMs, left });
    while (this.seen.length > 2 && atMs - (this.seen[1]?.atMs ?? atMs) >= WINDOW_MS) this.seen.shift();
  }

  /** Of 1. */
  get done(): number {
    const left = this.seen.at(-1)?.left ?? 0;
    return this.most === 0 ? 1 : (this.most - left) / this.most;
  }

  /** Records a second; undefined at first, below 0 where the backlog grows. */
  get rate(): number | undefined {
    const [first, last] = [this.seen[0], this.seen.at(-1)];
    if (first === undefined || last === undefined || last.atMs <= first.atMs) return undefined;
    return ((first.left - last.left) / (last.atMs - first.atMs)) * 1000;
  }

  /** Until it is empty at this rate; undefined where that cannot be told. */
  get leftMs(): number | undefined {
    const { rate } = this;
    const left = this.seen.at(-1)?.left ?? 0;
    return rate === undefined || rate <= 0 ? undefined : (left / rate) * 1000;
  }

  /** `[#########---------------------]  31 %  24,100 left · 1,250/s · 19 s to go · 3 fresh` */
  line({ left, fresh }: Step): string {
    const filled = Math.floor(this.done * WIDTH);
    const { rate, leftMs } = this;
    const speed = rate === undefined ? 'measuring' : `${rate < 10 ? rate.toFixed(1) : countText(rate)}/s`;
    const time = left === 0 ? 'done' : rate === undefined ? '' : leftMs === undefined ? 'not going down' : `${durationText(leftMs)} to go`;
    return [
      `[${'#'.repeat(filled)}${'-'.repeat(WIDTH - filled)}] ${`${Math.floor(this.done * 100)}`.padStart(3)} %  ${countText(left)} left`,
      speed,
      ...(time === '' ? [] : [time]),
      ...(fresh > 0 ? [`${countText(fresh)} fresh`] : []),
    ].join(' · ');
  }
}
