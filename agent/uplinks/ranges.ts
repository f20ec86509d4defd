/** Sets of sequence numbers as ranges, small enough to travel in the metadata of an offset commit. */

interface Range {
  first: number;
  last: number;
  /** When it last grew, in commits. */
  at: number;
}

const VERSION = '1:';
/** Kept in memory; more than fit into the metadata. */
const MOST_RANGES = 4000;

export class SeqRanges {
  private readonly ranges: readonly Range[];
  private readonly commits: number;

  private constructor(ranges: readonly Range[], commits: number) {
    this.ranges = ranges;
    this.commits = commits;
  }

  static readonly none: SeqRanges = new SeqRanges([], 0);

  /** Reads what `encode` has written; anything else is nothing known. */
  static decode(text: string): SeqRanges {
    if (!text.startsWith(VERSION)) return SeqRanges.none;
    const ranges: Range[] = [];
    let at = 0;
    for (const part of text.slice(VERSION.length).split(',')) {
      const [gap, length] = part.split('+').map((digits) => Number.parseInt(digits, 36));
      if (gap === undefined || Number.isNaN(gap)) return SeqRanges.none;
      const first = at + gap;
      const last = first + (length ?? 0);
      ranges.push({ first, last, at: 0 });
      at = last;
    }
    return new SeqRanges(ranges, 0);
  }

  has(seq: number): boolean {
    return this.ranges.some(({ first, last }) => seq >= first && seq <= last);
  }

  /** The highest number, 0 where there is none. */
  get highest(): number {
    return this.ranges.at(-1)?.last ?? 0;
  }

  with(seqs: readonly number[]): SeqRanges {
    const at = this.commits + 1;
    const all = [...this.ranges, ...seqs.map((seq) => ({ first: seq, last: seq, at }))].sort((a, b) => a.first - b.first);
    const merged: Range[] = [];
    for (const range of all) {
      const before = merged.at(-1);
      if (before === undefined || range.first > before.last + 1) merged.push({ ...range });
      else {
        before.last = Math.max(before.last, range.last);
        before.at = Math.max(before.at, range.at);
      }
    }
    return new SeqRanges(merged.length > MOST_RANGES ? youngest(merged, MOST_RANGES / 2) : merged, at);
  }

  /**
   * As text of at most so many characters. Where they are too many, those go that have not grown for longest: their records left the
   * outbox long ago. A number is never added that is not in the set.
   */
  encode(most: number): string {
    let kept = [...this.ranges];
    for (;;) {
      const text = VERSION + print(kept);
      if (text.length <= most || kept.length <= 1) return text;
      kept = youngest(kept, Math.max(1, Math.floor((kept.length * most) / text.length) - 1));
    }
  }
}

function print(ranges: readonly Range[]): string {
  let at = 0;
  return ranges
    .map(({ first, last }) => {
      const gap = (first - at).toString(36);
      at = last;
      return first === last ? gap : `${gap}+${(last - first).toString(36)}`;
    })
    .join(',');
}

/** Those that grew last. */
function youngest(ranges: readonly Range[], count: number): Range[] {
  const young = [...ranges].sort((a, b) => b.at - a.at || b.first - a.first).slice(0, count);
  return young.sort((a, b) => a.first - b.first);
}
