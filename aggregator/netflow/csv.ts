/**
 * Records as CSV (RFC 4180): one column for every leaf, `bgp/src-as` as `bgp-src-as`, and one for both address families where a leaf is
 * in `ipv4` and `ipv6` (`src-address`, `next-hop`, …; `ip-version` says which). What a flow does not have is an empty cell. No value needs
 * quotes: they are numbers, names, addresses and prefixes.
 */
import { LEAVES, type LeafValue } from './leaves.ts';

const COLUMNS = columns();

function columns(): Array<{ name: string; positions: number[] }> {
  const byName = new Map<string, number[]>();
  for (const [position, { path }] of LEAVES.entries()) {
    const name = path.replace(/^ipv[46]\//, '').replace('/', '-');
    byName.set(name, [...(byName.get(name) ?? []), position]);
  }
  return [...byName].map(([name, positions]) => ({ name, positions }));
}

/** The first line, without its newline. */
export const CSV_HEADER = COLUMNS.map(({ name }) => name).join(',');

/** One record as a line, without its newline. Integers stand in full, whatever their size. */
export function csvLine(values: ReadonlyArray<LeafValue | undefined>): string {
  let line = '';
  for (const [i, { positions }] of COLUMNS.entries()) {
    if (i > 0) line += ',';
    for (const position of positions) {
      // At most one of them is there: a flow is of one family.
      line += values[position] ?? '';
    }
  }
  return line;
}
