import { expect, it } from 'vitest';
import { bytesText, countOf, durationText, reasonsText, timeText } from './text.ts';

it.each([
  [0, '0 ms'],
  [999, '999 ms'],
  [1000, '1 s'],
  [59_499, '59 s'],
  [59_700, '1 min'],
  [200_000, '3 min 20 s'],
  [3_600_000, '1 h'],
  [18_720_000, '5 h 12 min'],
  [47.9 * 3_600_000, '47 h 54 min'],
  [51 * 3_600_000, '2 days 3 h'],
  [Number.POSITIVE_INFINITY, 'for ever'],
])('%d ms: %s', (ms, text) => expect(durationText(ms)).toBe(text));

it.each([
  [0, '0 bytes'],
  [1023, '1023 bytes'],
  [1536, '1.5 KiB'],
  [10 * 2 ** 20, '10 MiB'],
  [2 ** 30, '1.0 GiB'],
  [5 * 2 ** 40, '5.0 TiB'],
])('%d bytes: %s', (bytes, text) => expect(bytesText(bytes)).toBe(text));

it('counts and reasons', () => {
  expect([countOf(1, 'record'), countOf(12_345, 'record'), countOf(2, 'box', 'boxes')]).toEqual(['1 record', '12,345 records', '2 boxes']);
  expect(reasonsText({})).toBe('none');
  expect(reasonsText({ buffer_full: 1200, age: 3, none: 0 })).toBe('buffer_full 1,200, age 3');
});

it('times, and what is none', () => {
  expect(timeText(Date.UTC(2026, 4, 4, 12, 0, 0, 500))).toBe('2026-05-04T12:00:00Z');
  expect(timeText(9e15)).toBe('9000000000000000');
});
