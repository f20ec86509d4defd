import fc from 'fast-check';
import { expect, it } from 'vitest';
import { lineOf, parseFault, repeatedName } from './json-places.ts';

const text = '\n{\n "a": 1,\n "b": [\n  {"x": "}"},\n  ["p,",\n   "q"]\n ],\n "c": {\n  "d": null, "a": 2\n }\n}';

it.each([
  [[], 2],
  [['a'], 3],
  [['b'], 4],
  [['b', '0', 'x'], 5],
  [['b', '1'], 6],
  [['b', '1', '1'], 7],
  [['c', 'a'], 10],
  [['c', 'missing'], 9],
  [['nowhere', 'at', 'all'], 2],
])('%j stands in line %i', (path, line) => {
  expect(lineOf(text, path)).toBe(line);
});

it('finds every leaf of any document on the line where it is printed', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      // Printed with one value a line, each leaf can be found by walking both.
      const printed = JSON.stringify(value, null, 1);
      let line = 1;
      const walk = (inner: unknown, path: string[]) => {
        expect(lineOf(printed, path)).toBe(line);
        if (Array.isArray(inner) && inner.length > 0) {
          inner.forEach((each, i) => {
            line += 1;
            walk(each, [...path, String(i)]);
          });
          line += 1;
        } else if (typeof inner === 'object' && inner !== null && Object.keys(inner).length > 0) {
          for (const [name, each] of Object.entries(inner)) {
            line += 1;
            walk(each, [...path, name]);
          }
          line += 1;
        }
      };
      walk(value, []);
    }),
  );
});

it.each([
  ['{\n  "a": 1\n  "b": 2}', 3, 3, 'a comma or "}"'],
  ['[1, 2', 1, 6, 'a comma or "]"'],
  ['{"a": tru}', 1, 7, 'a value'],
  ['{"a": 1,}', 1, 9, 'a name in double quotes'],
  ['{"a" 1}', 1, 6, 'a colon'],
  ['{} x', 1, 4, 'nothing more'],
  ['"a\nb"', 1, 1, 'text that ends with double quotes, control characters escaped'],
  ['', 1, 1, 'a value'],
])('%j: line %i, column %i: expected %s', (broken, line, column, expected) => {
  expect(parseFault(broken)).toEqual({ line, column, expected });
});

it.each([
  ['{"a": 1,\n "a": 2}', 2, 2, 'a'],
  ['{"a": {"b": 1}, "b": [{"c": 0}, {"c": 0,  "c": 1}]}', 1, 43, 'c'],
  ['{"ab": 1, "\\u0061b": 2}', 1, 11, 'ab'],
  ['{"": 1, "": 2}', 1, 9, ''],
  ['{"constructor": [], "constructor": []}', 1, 21, 'constructor'],
])('%j: line %i, column %i: %j a second time', (text, line, column, name) => {
  expect(repeatedName(text)).toEqual({ line, column, name });
});

it('tells a name that is put into an object again, and nothing else', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.string(), fc.jsonValue(), (value, name, other) => {
      const once = JSON.stringify({ [name]: value, ' ': [other, { [name]: other }, name, name] });
      const twice = `${once.slice(0, -1)}, ${JSON.stringify(name)}: 0}`;
      expect(repeatedName(once)).toBeUndefined();
      expect(repeatedName(twice)).toEqual({ line: 1, column: once.length + 2, name });
    }),
  );
});

it('agrees with JSON.parse on what is JSON', () => {
  const broken = fc.tuple(fc.json(), fc.nat(), fc.constantFrom('', ',', '"', '{', ']', '0', '\\', 'e', '\n')).map(([json, at, put]) => {
    const i = at % (json.length + 1);
    return json.slice(0, i) + put + json.slice(i + 1);
  });
  fc.assert(
    fc.property(fc.oneof(fc.json(), broken, fc.string()), (json) => {
      let valid = true;
      try {
        JSON.parse(json);
      } catch {
        valid = false;
      }
      expect(parseFault(json) === undefined).toBe(valid);
    }),
    { numRuns: 2000 },
  );
});
