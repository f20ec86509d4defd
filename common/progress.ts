/**
 * Whether a program gets on: each part that has something to do says by when it will have got on, and again each time that it has.
 * What runs late is stuck. Nothing here runs by itself: a service manager's watchdog is fed only with what the parts have said.
 */
export interface Part {
  /** It got on, and will again within so many milliseconds. */
  again(withinMs: number): void;
  /** It has nothing in hand any more. */
  end(): void;
}

export class Progress {
  private readonly due = new Map<symbol, { what: string; at: number }>();
  private readonly now: () => number;

  /** @param now milliseconds of a clock that is never set */
  constructor(now: () => number = () => performance.now()) {
    this.now = now;
  }

  /** @param what the part as messages name it: `polling r1` */
  begin(what: string, withinMs: number): Part {
    const key = Symbol(what);
    const again = (ms: number) => void this.due.set(key, { what, at: this.now() + ms });
    again(withinMs);
    return {
      again: (ms) => {
        // A part that ended stays ended, whatever was still under way.
        if (this.due.has(key)) again(ms);
      },
      end: () => void this.due.delete(key),
    };
  }

  /** What is stuck and for how long, in words; empty when all is well. */
  stuck(): string[] {
    const now = this.now();
    return [...this.due.values()]
      .filter(({ at }) => at < now)
      .map(({ what, at }) => `${what} has not got on for ${Math.round((now - at) / 1000)} s more than it may take`);
  }
}
