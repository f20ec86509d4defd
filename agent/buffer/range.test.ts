import { expect, it } from 'vitest';
import { rangeOf } from './range.ts';

const NOW = Date.UTC(2026, 4, 4, 12);
const range = (from?: string, to?: string) =>
  rangeOf({ values: { ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) }, positionals: [] }, NOW);

it.each([
  [undefined, undefined, {}],
  ['17', '1777000000000', { fromSeq: 17, toSeq: 1_777_000_000_000 }],
  ['6h', '90m', { fromAt: NOW - 6 * 3_600_000, toAt: NOW - 90 * 60_000 }],
  ['2d', '1.5h', { fromAt: NOW - 2 * 86_400_000, toAt: NOW - 5_400_000 }],
  ['2026-05-04T10:00:00Z', '2026-05-04 13:00+02:00', { fromAt: NOW - 2 * 3_600_000, toAt: NOW - 3_600_000 }],
  ['2026-05-04', '30s', { fromAt: NOW - 12 * 3_600_000, toAt: NOW - 30_000 }],
  ['5', '1h', { fromSeq: 5, toAt: NOW - 3_600_000 }],
])('--from %s --to %s', (from, to, expected) => expect(range(from, to)).toEqual(expected));

it.each(['yesterday', '', '-5', '1e9', '2026-13-01', '99999999999999999999', '5 h'])('--from %j is refused, with examples', (text) => {
  expect(() => range(text)).toThrow(/--from .*: expected a sequence number, a time such as/);
});

it('an empty range is refused', () => {
  expect(() => range('9', '8')).toThrow('--from 9 is after --to 8');
  expect(() => range('1h', '2h')).toThrow('--from 1h is after --to 2h');
});
