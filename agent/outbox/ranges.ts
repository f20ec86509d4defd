/** A set of whole numbers, kept as ranges: small where neighbours come together. */
export class Ranges {
  private readonly ranges: Array<{ first: number; last: number }> = [];
  private count = 0;

  get size(): number {
    return this.count;
  }

  has(n: number): boolean {
    const range = this.ranges[this.after(n) - 1];
    return range !== undefined && n <= range.last;
  }

  /** Returns false when it was there. */
  add(n: number): boolean {
    const at = this.after(n);
    const below = this.ranges[at - 1];
    if (below !== undefined && n <= below.last) return false;
    const above = this.ranges[at];
    this.count += 1;
    const joinsBelow = below !== undefined && below.last === n - 1;
    const joinsAbove = above !== undefined && above.first === n + 1;
    if (joinsBelow && joinsAbove) {
      below.last = above.last;
      this.ranges.splice(at, 1);
    } else if (joinsBelow) below.last = n;
    else if (joinsAbove) above.first = n;
    else this.ranges.splice(at, 0, { first: n, last: n });
    return true;
  }

  /** The least number from `n` on that is not in it. */
  outside(n: number): number {
    const range = this.ranges[this.after(n) - 1];
    return range !== undefined && n <= range.last ? range.last + 1 : n;
  }

  all(): ReadonlyArray<{ first: number; last: number }> {
    return this.ranges;
  }

  clear(): void {
    this.ranges.length = 0;
    this.count = 0;
  }

  /** Place of the first range that begins after `n`. */
  private after(n: number): number {
    let [low, high] = [0, this.ranges.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.ranges[middle]?.first ?? 0) <= n) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
