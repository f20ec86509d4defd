import fc from 'fast-check';
import { expect, it } from 'vitest';
import { SeqRanges } from './ranges.ts';

const seqs = fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 60 });

it('knows exactly what was added, in any order, also after a way as text', () => {
  fc.assert(
    fc.property(fc.array(seqs, { maxLength: 6 }), (batches) => {
      const ranges = batches.reduce((known, batch) => known.with(batch), SeqRanges.none);
      const added = new Set(batches.flat());
      const read = SeqRanges.decode(ranges.encode(10_000));
      for (let seq = 0; seq <= 301; seq += 1) {
        expect(ranges.has(seq)).toBe(added.has(seq));
        expect(read.has(seq)).toBe(added.has(seq));
      }
      expect(ranges.highest).toBe(Math.max(0, ...added));
    }),
  );
});

it('never claims a number that was not added, however short the text has to be', () => {
  fc.assert(
    fc.property(fc.array(seqs, { maxLength: 6 }), fc.integer({ min: 5, max: 60 }), (batches, most) => {
      const ranges = batches.reduce((known, batch) => known.with(batch), SeqRanges.none);
      const added = new Set(batches.flat());
      const read = SeqRanges.decode(ranges.encode(most));
      for (let seq = 0; seq <= 301; seq += 1) if (read.has(seq)) expect(added.has(seq)).toBe(true);
    }),
  );
});

it('keeps what grew last when the text is short, wherever it lies', () => {
  const first = 1_795_233_112_058;
  const old = Array.from({ length: 2000 }, (_, i) => first + 2 * i);
  const backlog = Array.from({ length: 500 }, (_, i) => first - 10_000 + i);
  const text = SeqRanges.none.with(old).with(backlog).encode(3500);
  expect(text.length).toBeLessThanOrEqual(3500);
  const read = SeqRanges.decode(text);
  for (const seq of backlog) expect(read.has(seq)).toBe(true);
});

it('does not grow for ever with numbers that never come', () => {
  // Every second record is refused for good.
  let ranges = SeqRanges.none;
  for (let seq = 2; seq <= 40_000; ) {
    const batch = Array.from({ length: 500 }, (_, i) => seq + 2 * i);
    ranges = ranges.with(batch);
    seq += 1000;
  }
  expect(ranges.encode(Number.POSITIVE_INFINITY).split(',').length).toBeLessThan(5000);
  // What was delivered last is known, as far back as the text goes.
  for (let seq = 39_000; seq <= 40_000; seq += 1) expect(ranges.has(seq)).toBe(seq % 2 === 0);
});

it('takes a text of something else for nothing known', () => {
  for (const text of ['', 'hello', '1:', '2:a+b', '1:?']) expect(SeqRanges.decode(text).has(0)).toBe(false);
});
