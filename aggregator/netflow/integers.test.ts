import fc from 'fast-check';
import { expect, it } from 'vitest';
import { integerText, MAX_UINT64, parseJson, readDigits, readSmall, readUint64 } from './integers.ts';

it('keeps every 64-bit integer, wherever it stands and whatever is around it', () => {
  const space = fc.constantFrom('', ' ', '\n', '\t ');
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: MAX_UINT64 }), fc.string(), space, space, (value, text, before, after) => {
      const json = `{"text":${JSON.stringify(text)},"n":${before}${value}${after},"list":[${value},${before}${value}${after}]${after},"last":${value}}`;
      const { n, list, last, text: back } = parseJson(json) as { n: unknown; list: unknown[]; last: unknown; text: unknown };
      expect([n, ...list, last].map((raw) => BigInt(readUint64(raw) ?? -1))).toEqual([value, value, value, value]);
      expect(back).toBe(text);
    }),
  );
});

it.each([
  ['{"n":18446744073709551615}', 18446744073709551615n],
  ['{"n":9007199254740992}', 9007199254740992n],
  ['{"n":9007199254740991}', 9007199254740991],
  ['{"n":1e19}', 10000000000000000000n],
  ['{"n":999999999999999e4}', 9999999999999990000n],
  ['{"n":1.8446744073709551615E+19}', 18446744073709551615n],
  ['{"n":123456789012345678.0}', 123456789012345678n],
  ['{"n":1e3}', 1000],
  ['{"n":-0}', 0],
  ['{"n":0.0000000000000000}', 0],
  ['{"n":"18446744073709551615"}', 18446744073709551615n],
  ['{"n":"42"}', 42],
  // Beyond 64 bits, negative, broken: no value at all rather than another one.
  ['{"n":18446744073709551616}', undefined],
  ['{"n":"18446744073709551616"}', undefined],
  ['{"n":1e400}', undefined],
  ['{"n":1e999999}', undefined],
  ['{"n":-9007199254740993}', undefined],
  ['{"n":9007199254740990.6}', undefined],
  ['{"n":12.0000000000000000001}', undefined],
  ['{"n":1.5}', undefined],
  ['{"n":"1e3"}', undefined],
  ['{"n":"042"}', undefined],
  ['{"n":""}', undefined],
  ['{"n":true}', undefined],
])('%s is %s', (json, value) => {
  expect(readUint64((parseJson(json) as { n: unknown }).n)).toBe(value);
});

it.each(['"a:1234567890123456789,b"', '"x,\\"1234567890123456789]"', '"[12345678901234567890"', '"1234567890123456789"'])(
  'leaves the text %s alone',
  (text) => {
    expect(parseJson(`{"t":${text},"n":1234567890123456789}`)).toEqual({ t: JSON.parse(text), n: '1234567890123456789' });
  },
);

it('parses what JSON.parse parses, and refuses what it refuses in the same words', () => {
  const outcome = (parse: () => unknown): unknown => {
    try {
      return { value: parse() };
    } catch (error) {
      return { error: String(error) };
    }
  };
  const broken = fc.constantFrom('{"n":1234567890123456789', '[1234567890123456789,]', '{"n":1e19', '"1234567890123456789,');
  fc.assert(
    fc.property(
      fc.oneof(
        fc.jsonValue().map((value) => JSON.stringify(value)),
        fc.string(),
        broken,
      ),
      (text) => {
        const theirs = outcome(() => JSON.parse(text));
        const hasWide = /[0-9]{16}|[0-9][eE]/.test(text);
        // With a number in it that JSON.parse rounds only the verdict has to be the same.
        if (hasWide) expect(Object.keys(outcome(() => parseJson(text)) as object)).toEqual(Object.keys(theirs as object));
        else expect(outcome(() => parseJson(text))).toEqual(theirs);
        if (hasWide && Object.hasOwn(theirs as object, 'error')) expect(outcome(() => parseJson(text))).toEqual(theirs);
      },
    ),
  );
});

it('reads small integers within their bounds', () => {
  expect([0, 255, '255', -0].map((raw) => readSmall(raw, 255))).toEqual([0, 255, 255, 0]);
  for (const raw of [256, -1, 1.5, Number.NaN, '256', '-1', ' 1', '1 ', '01', '', null, undefined, true, [], {}, [1], 1n]) {
    expect({ raw, value: readSmall(raw, 255) }).toEqual({ raw, value: undefined });
  }
});

it('gives the digits of what is a 64-bit integer', () => {
  expect([0, 17, '18446744073709551615', '5', 2 ** 53 - 1].map(readDigits)).toEqual([
    '0',
    '17',
    '18446744073709551615',
    '5',
    '9007199254740991',
  ]);
  expect(['18446744073709551616', '-1', '1.0', 1.5, null].map(readDigits)).toEqual([undefined, undefined, undefined, undefined, undefined]);
});

it('writes decimals out', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(10n ** 20n), max: 10n ** 20n }), fc.nat(12), (value, exponent) => {
      expect(integerText(`${value}e${exponent}`)).toBe(String(value * 10n ** BigInt(exponent)));
      expect(integerText(`${value}${'0'.repeat(exponent)}e-${exponent}`)).toBe(String(value));
    }),
  );
  expect(['1.50', '1e-1', '1e41', 'x', ''].map(integerText)).toEqual([undefined, undefined, undefined, undefined, undefined]);
});
