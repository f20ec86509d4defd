/**
 * Which family a sample belongs to: the family of its own name if that was declared or met before, else a declared family whose
 * type takes the sample's suffix, else a new family of type `untyped`. Nothing else of the lines before decides. That is what
 * allows lines about families nobody asked for to be skipped.
 */

import type { ExposedFamily } from './exposition.ts';

/** The types that a TYPE line may name, each with the suffixes that samples of such a family may have. */
const SUFFIXES = new Map<string, readonly string[]>([
  ['counter', ['_total', '_created']],
  ['gauge', []],
  ['histogram', ['_bucket', '_sum', '_count', '_created']],
  ['summary', ['_sum', '_count', '_created']],
  ['untyped', []],
  ['unknown', []],
  ['info', ['_info']],
  ['stateset', []],
  ['gaugehistogram', ['_bucket', '_gsum', '_gcount']],
]);

export const TYPES: readonly string[] = [...SUFFIXES.keys()];

const ANY_SUFFIX = new RegExp(`(?<=.)(?:${[...new Set([...SUFFIXES.values()].flat())].join('|')})$`, 's');

export interface FamilyState {
  readonly family: ExposedFamily;
  readonly wanted: boolean;
  /** Whether there was a TYPE line, a HELP line. */
  typed: boolean;
  helped: boolean;
}

/** The families of a page that were met so far. */
export class Families {
  readonly all: FamilyState[] = [];
  private readonly want: ReadonlySet<string> | undefined;
  private readonly byName = new Map<string, FamilyState>();
  private greatest = '';

  constructor(want: ReadonlySet<string> | undefined) {
    this.want = want;
  }

  /** The family of exactly this name, new if it was not met before. */
  named(name: string): FamilyState {
    return this.find(name) ?? this.add(name);
  }

  /** The family of a sample of this name. */
  ofSample(name: string): FamilyState {
    const own = this.find(name);
    if (own !== undefined) return own;
    const cut = name.lastIndexOf('_');
    const base = cut > 0 ? this.find(name.slice(0, cut)) : undefined;
    const takesIt = base !== undefined && SUFFIXES.get(base.family.type)?.includes(name.slice(cut)) === true;
    return takesIt ? base : this.add(name);
  }

  private find(name: string): FamilyState | undefined {
    // Most pages are sorted. A name behind all others is new, and hashing it, the dearest step of all, can wait: mostly for ever.
    if (name > this.greatest) {
      this.greatest = name;
      return undefined;
    }
    for (const state of this.all.slice(this.byName.size)) this.byName.set(state.family.name, state);
    return this.byName.get(name);
  }

  private add(name: string): FamilyState {
    const wanted = this.want === undefined || this.want.has(name);
    const state: FamilyState = { family: { name, description: '', type: 'untyped', values: [] }, wanted, typed: false, helped: false };
    this.all.push(state);
    return state;
  }
}

/**
 * Tells by two characters of a name that it is not about a wanted family. Names that are, begin with the name of the family. A
 * wanted `x_count` may also be a sample of a histogram `x`, which the lines about `x` tell: so names that begin with `x` pass.
 */
export class NameFilter {
  private readonly last: number;
  private readonly middle: number;
  private readonly keys = new Uint8Array(1024);

  constructor(want: ReadonlySet<string>) {
    const names = [...want].filter((name) => name !== '').map((name) => name.replace(ANY_SUFFIX, ''));
    const shortest = names.reduce((length, name) => Math.min(length, name.length), 1000);
    this.last = shortest - 1;
    this.middle = shortest >> 1;
    for (const name of names) this.keys[this.key(name, 0)] = 1;
  }

  /** Whether the name that starts at `at` may be about a wanted family. */
  passes(text: string, at: number): boolean {
    return this.keys[this.key(text, at)] === 1;
  }

  private key(text: string, at: number): number {
    return (text.charCodeAt(at + this.last) + 37 * text.charCodeAt(at + this.middle)) & 1023;
  }
}
