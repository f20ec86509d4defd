import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Reader, Writer } from './wire.ts';

/** Also such as fill the buffer to its last byte. */
const bytes = fc.nat({ max: 3000 }).map((length) => Buffer.alloc(length, length));
const text = fc.string({ unit: 'binary', maxLength: 200 }).map((value) => Buffer.from(value).toString());

/** How a value is written, and read again. */
const value = fc.oneof(
  fc.integer({ min: -128, max: 127 }).map((n) => ({ n, write: (to: Writer) => to.int8(n), read: (from: Reader) => from.int8() })),
  fc.boolean().map((n) => ({ n, write: (to: Writer) => to.bool(n), read: (from: Reader) => from.bool() })),
  fc
    .integer({ min: -(2 ** 15), max: 2 ** 15 - 1 })
    .map((n) => ({ n, write: (to: Writer) => to.int16(n), read: (from: Reader) => from.int16() })),
  fc.integer().map((n) => ({ n, write: (to: Writer) => to.int32(n), read: (from: Reader) => from.int32() })),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((n) => ({
    n: String(n),
    write: (to: Writer) => to.int64(String(n)),
    read: (from: Reader) => from.int64(),
  })),
  fc.nat().map((n) => ({ n, write: (to: Writer) => to.uvarint(n), read: (from: Reader) => from.uvarint() })),
  fc.option(text).map((n) => ({ n, write: (to: Writer) => to.string(n), read: (from: Reader) => from.string() })),
  fc.option(text).map((n) => ({ n, write: (to: Writer) => to.compactString(n), read: (from: Reader) => from.compactString() })),
  bytes.map((n) => ({ n, write: (to: Writer) => to.bytes32(n), read: (from: Reader) => from.bytes32() })),
  bytes.map((n) => ({
    n,
    write: (to: Writer) => to.compactBytes(n).tags(),
    read: (from: Reader) => {
      const read = from.take(from.uvarint() - 1);
      from.tags();
      return read;
    },
  })),
  fc.array(fc.integer(), { maxLength: 80 }).map((n) => ({
    n,
    write: (to: Writer) => to.array(n, (item) => to.int32(item)),
    read: (from: Reader) => from.array(() => from.int32()),
  })),
  fc.array(text, { maxLength: 5 }).map((n) => ({
    n,
    write: (to: Writer) => to.compactArray(n, (item) => to.compactString(item)),
    read: (from: Reader) => from.compactArray(() => from.compactString()),
  })),
);

it('what is written is read again, however much it is', () => {
  fc.assert(
    fc.property(fc.array(value, { maxLength: 60 }), (values) => {
      const to = new Writer();
      for (const { write } of values) write(to);
      const from = new Reader(to.bytes);
      expect(values.map(({ read }) => read(from))).toEqual(values.map(({ n }) => n));
      expect(from.rest()).toHaveLength(0);
    }),
    { numRuns: 500 },
  );
});

it('passes over tagged fields, and gives them to who asks', () => {
  const from = new Reader(Buffer.from('02 00 01 ff 03 02 0102 2a'.replaceAll(' ', ''), 'hex'));
  const fields: Array<[number, string]> = [];
  from.tags((tag, field) => fields.push([tag, field.rest().toString('hex')]));
  expect(fields).toEqual([
    [0, 'ff'],
    [3, '0102'],
  ]);
  expect(from.int8()).toBe(42);
});
