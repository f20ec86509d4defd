import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ExposedFamily, type ExposedSample, ExpositionError, isOpenMetrics, parseExposition, printExposition } from './exposition.ts';

const FIXTURES = new URL('../test/fixtures/exposition/', import.meta.url);

/** Each case holds `input.txt` and `expected.json`, and `want.json` if only some families are asked for. UPDATE_GOLDEN=1 rewrites. */
const cases = readdirSync(FIXTURES).map((name) => {
  const file = (part: string) => new URL(`${name}/${part}`, FIXTURES);
  const names: string[] | undefined = existsSync(file('want.json')) ? JSON.parse(readFileSync(file('want.json'), 'utf8')) : undefined;
  return { name, input: readFileSync(file('input.txt'), 'utf8'), want: names && new Set(names), expected: file('expected.json') };
});

describe.each(cases)('fixture $name', ({ input, want, expected }) => {
  it('is parsed as expected', () => {
    const families = parseExposition(input, want);
    if (process.env.UPDATE_GOLDEN === '1') writeFileSync(expected, `${JSON.stringify(families, null, 2)}\n`);
    expect(families).toEqual(JSON.parse(readFileSync(expected, 'utf8')));
  });

  it('says the same with CR LF, with a byte order mark, and without its last newline', () => {
    const families = parseExposition(input);
    expect(parseExposition(input.replaceAll('\n', '\r\n'))).toEqual(families);
    expect(parseExposition(`\uFEFF${input}`)).toEqual(families);
    expect(parseExposition(input.trimEnd())).toEqual(families);
  });

  it('comes back the same from the printer', () => {
    const families = parseExposition(input);
    expect(parseExposition(printExposition(families, isOpenMetrics(input) ? 'openmetrics' : 'text'))).toEqual(families);
  });

  it('gives each family alone as among all', () => {
    const families = parseExposition(input);
    for (const family of families) expect(parseExposition(input, new Set([family.name]))).toEqual([family]);
  });
});

it("prints a node exporter's own page to the byte", () => {
  const page = readFileSync(new URL('node-exporter/input.txt', FIXTURES), 'utf8');
  expect(printExposition(parseExposition(page))).toBe(page);
});

it('keeps the record exactly as other programs know it', () => {
  const page =
    '# HELP node_network_receive_bytes_total Network device statistic receive_bytes.\n' +
    '# TYPE node_network_receive_bytes_total counter\nnode_network_receive_bytes_total{device="eth2"} 2.434326851e+09\n';
  expect(JSON.stringify(parseExposition(page))).toBe(
    '[{"name":"node_network_receive_bytes_total","description":"Network device statistic receive_bytes.","type":"counter",' +
      '"values":[{"labels":[{"name":"device","value":"eth2"}],"value":"2.434326851e+09"}]}]',
  );
});

it('finds nothing in a page without metrics', () => {
  for (const page of ['', '\n', ' \t\r\n\n', '# only a comment', '# EOF']) expect(parseExposition(page)).toEqual([]);
});

it('knows OpenMetrics by its last line', () => {
  for (const page of ['# EOF', 'x 1\n# EOF\n', 'x 1\r\n# EOF\r\n']) expect(isOpenMetrics(page)).toBe(true);
  for (const page of ['', 'x 1', '# EOF\nx 1', 'x 1 # EOF', '# EOFx']) expect(isOpenMetrics(page)).toBe(false);
});

it('skips no line that decides where a wanted sample belongs', () => {
  const page = '# the first line is always read\n# TYPE x histogram\nx_count 1\n# HELP x_count Declared only now.\nx_count 2\n';
  const x = { name: 'x', description: '', type: 'histogram', values: [{ name: 'x_count', labels: [], value: '1' }] };
  const count = { name: 'x_count', description: 'Declared only now.', type: 'untyped', values: [{ labels: [], value: '2' }] };
  expect(parseExposition(page)).toEqual([x, count]);
  expect(parseExposition(page, new Set(['x']))).toEqual([x]);
  expect(parseExposition(page, new Set(['x_count']))).toEqual([count]);
});

it('prints what each format can carry', () => {
  const families: ExposedFamily[] = [
    { name: 'plain', description: '', type: 'untyped', values: [{ labels: [], value: '1' }] },
    {
      name: 'took',
      description: 'How "long"\nit took: \\',
      type: 'histogram',
      unit: 'seconds',
      values: [
        {
          name: 'took_bucket',
          labels: [{ name: 'le', value: '+Inf' }],
          value: '2',
          timestamp: '5',
          exemplar: { labels: [{ name: 'id', value: '"' }], value: '0.5', timestamp: '1.5' },
        },
      ],
    },
    { name: 'a b', description: '', type: 'gauge', values: [{ labels: [{ name: 'c.d', value: '\n' }], value: 'NaN' }] },
  ];
  expect(printExposition(families)).toBe(
    [
      '# TYPE plain untyped',
      'plain 1',
      '# HELP took How "long"\\nit took: \\\\',
      '# TYPE took histogram',
      'took_bucket{le="+Inf"} 2 5',
      '# TYPE "a b" gauge',
      '{"a b","c.d"="\\n"} NaN\n',
    ].join('\n'),
  );
  expect(printExposition(families, 'openmetrics')).toBe(
    [
      '# HELP plain ',
      'plain 1',
      '# HELP took How \\"long\\"\\nit took: \\\\',
      '# TYPE took histogram',
      '# UNIT took seconds',
      'took_bucket{le="+Inf"} 2 5 # {id="\\""} 0.5 1.5',
      '# TYPE "a b" gauge',
      '{"a b","c.d"="\\n"} NaN',
      '# EOF\n',
    ].join('\n'),
  );
});

describe('errors', () => {
  const NUMBER = 'expected a number, NaN, +Inf or -Inf, found';
  it.each<[page: string, line: number, column: number, message: string]>([
    ['x', 1, 2, "expected '{' or a blank after the metric name, found the end of the line"],
    ['x-y 1', 1, 2, `expected '{' or a blank after the metric name, found "-y 1"`],
    ['ok 1\n  9lives 1', 2, 3, 'expected a metric name, found "9lives 1"'],
    ['größe 1', 1, 3, `expected '{' or a blank after the metric name, found "öße 1"`],
    ['x ', 1, 3, `${NUMBER} the end of the line`],
    ['x\t\r\n', 1, 3, `${NUMBER} the end of the line`],
    ['x one', 1, 3, `${NUMBER} "one"`],
    ['x 1e', 1, 3, `${NUMBER} "1e"`],
    ['x 0x1F', 1, 3, `${NUMBER} "0x1F"`],
    ['x 1_000', 1, 3, `${NUMBER} "1_000"`],
    ['x .', 1, 3, `${NUMBER} "."`],
    ['x +NaN', 1, 3, `${NUMBER} "+NaN"`],
    ['x Infinit', 1, 3, `${NUMBER} "Infinit"`],
    ['x 1\r2', 1, 3, `${NUMBER} "1\\r2"`],
    ['x 1 2 3', 1, 7, 'expected the end of the line, found "3"'],
    ['x 1 two', 1, 5, 'expected a timestamp, found "two"'],
    ['x 1 NaN', 1, 5, 'expected a timestamp, found "NaN"'],
    ['x 1 1.5', 1, 5, 'expected a timestamp in whole milliseconds (in seconds only in OpenMetrics, which ends with # EOF), found "1.5"'],
    ['x{', 1, 3, "expected a label name or '}', found the end of the line"],
    ['x{,} 1', 1, 3, `expected a label name or '}', found ",} 1"`],
    ['x{a} 1', 1, 4, `expected '=' after the label name, found "} 1"`],
    ['x{a:b="c"} 1', 1, 4, `expected '=' after the label name, found ":b=\\"c\\"} 1"`],
    ['x{a=b} 1', 1, 5, `expected '"' before the label value, found "b} 1"`],
    ['x{a="b} 1\ny{a="b"} 1', 1, 10, `expected '"' at the end of the quoted text, found the end of the line`],
    ['x{a="b\\"} 1\n', 1, 12, `expected '"' at the end of the quoted text, found the end of the line`],
    ['x{a="b\\\ny 1', 1, 8, `expected '"' at the end of the quoted text, found the end of the line`],
    ['x{a="b" c="d"} 1', 1, 9, `expected ',' or '}' after the label value, found "c=\\"d\\"} 1"`],
    ['x{a="b",,} 1', 1, 9, `expected a label name or '}', found ",} 1"`],
    ['x{a="1",b="2",a="3"} 1', 1, 3, 'expected each label name once'],
    [`x{${[...'abcdefghija'].map((c) => `${c}="1"`).join()}} 1`, 1, 3, 'expected each label name once'],
    ['x{""="b"} 1', 1, 3, 'expected a label name, found "\\"\\"=\\"b\\"} 1"'],
    ['{} 1', 1, 2, 'expected a metric name, before the braces or in quotes as the first thing in them, found "} 1"'],
    ['{a="b"} 1', 1, 2, 'expected a metric name, before the braces or in quotes as the first thing in them, found "a=\\"b\\"} 1"'],
    ['{""} 1', 1, 2, 'expected a metric name, before the braces or in quotes as the first thing in them, found "\\"\\"} 1"'],
    ['{"a"="b"} 1', 1, 5, `expected ',' or '}' after the metric name, found "=\\"b\\"} 1"`],
    ['# TYPE x countre', 1, 10, 'expected a type (counter, gauge, histogram, summary, untyped, unknown, info, stateset, gaugehistogram)'],
    ['# TYPE x gauge gauge', 1, 10, 'expected a type (counter'],
    ['# TYPE x', 1, 9, 'expected a type (counter'],
    ['# TYPE 7 gauge', 1, 8, 'expected a metric name, found "7 gauge"'],
    ['# HELP x{y} z', 1, 9, 'expected a blank after the metric name, found "{y} z"'],
    ['# HELP "x y', 1, 12, `expected '"' at the end of the quoted text, found the end of the line`],
    ['# HELP x a\n# HELP x a', 2, 9, 'expected one HELP line for x, this is the second'],
    ['# TYPE x gauge\n# TYPE x gauge', 2, 10, 'expected one TYPE line for x, this is the second'],
    ['x 1\n# TYPE x gauge', 2, 10, 'expected the TYPE line of x before its first sample'],
    [
      'x 1 # {a="b"} 1',
      1,
      5,
      'expected the end of the line (exemplars are only in OpenMetrics, which ends with # EOF: is the page cut off?)',
    ],
    ['x 1 # 1\n# EOF', 1, 7, `expected the '{' of an exemplar, found "1"`],
    ['x 1 # {} 1 2 3\n# EOF', 1, 14, 'expected the end of the line, found "3"'],
    ['x 1\n# EOF\ny 1\n# EOF', 3, 1, 'expected nothing after # EOF'],
    ['<!DOCTYPE html>', 1, 1, "looks like HTML, not metrics: is the URL the exporter's /metrics?"],
    ['\n <html>', 2, 2, "looks like HTML, not metrics: is the URL the exporter's /metrics?"],
    ['{"status":"error"}', 1, 1, "looks like JSON, not metrics: is the URL the exporter's /metrics?"],
    ['{\n  "a": 1\n}', 1, 1, "looks like JSON, not metrics: is the URL the exporter's /metrics?"],
    ['{ }', 1, 1, "looks like JSON, not metrics: is the URL the exporter's /metrics?"],
    ['[]', 1, 1, "looks like JSON, not metrics: is the URL the exporter's /metrics?"],
    ['404 page not found', 1, 1, 'expected a metric name, found "404 page not fou"'],
  ])('%j', (page, line, column, message) => {
    const error = errorOf(() => parseExposition(page));
    expect(error).toBeInstanceOf(ExpositionError);
    expect(error).toMatchObject({ line, column, code: 'DATA' });
    expect(String(error)).toContain(`line ${line}, column ${column}: ${message}`);
  });

  it('are reported in the families asked for, and in no other', () => {
    const page = '# TYPE a gauge\na 1\n# TYPE broken nonsense\nbroken{x=} y\nbroken_too 1 2 3\nb_count 2 x\n';
    expect(parseExposition(page, new Set(['a']))).toEqual(parseExposition('# TYPE a gauge\na 1'));
    expect(errorOf(() => parseExposition(page, new Set(['a', 'broken'])))).toMatchObject({ line: 3, column: 15 });
    expect(errorOf(() => parseExposition(page, new Set(['broken_too'])))).toMatchObject({ line: 5, column: 16 });
    expect(errorOf(() => parseExposition(page, new Set(['b_count'])))).toMatchObject({ line: 6, column: 11 });
  });

  it('tell another kind of document whatever was asked for', () => {
    for (const page of ['<html>', '{"a":1}', '404 page not found']) {
      expect(errorOf(() => parseExposition(page, new Set(['node_network_receive_bytes_total'])))).toBeInstanceOf(ExpositionError);
    }
  });
});

function errorOf(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

/** Characters that mean something in the format, and some that only look as if. */
const nasty = fc.string({ unit: fc.constantFrom(...'\\"\n\r\t {},=#:_-.aénN01\u2028🛰'), maxLength: 12 });
const text = fc.oneof(nasty, fc.string({ unit: 'binary', maxLength: 12 }));
const identifier = fc.stringMatching(/^[a-zA-Z_][a-zA-Z0-9_]{0,6}$/);
const integer = fc.stringMatching(/^[+-]?\d{1,13}$/);
const real = fc.stringMatching(/^[+-]?(\d{1,20}(\.\d{0,5})?|\.\d{1,5})([eE][+-]?\d{1,3})?$/);
const value = fc.oneof(real, fc.constantFrom('NaN', 'nan', '+Inf', '-Inf', 'inf', 'Infinity'));
const labels = fc.uniqueArray(
  fc.record({
    name: fc.oneof(
      identifier,
      text.filter((name) => name !== ''),
    ),
    value: text,
  }),
  {
    selector: (label) => label.name,
    maxLength: 10,
  },
);

/** The suffixes of each type, from the specifications: a second source beside the parser's own table. */
const TYPES: { [type: string]: string[] } = {
  counter: ['', '_total', '_created'],
  gauge: [''],
  histogram: ['', '_bucket', '_sum', '_count', '_created'],
  summary: ['', '_sum', '_count', '_created'],
  untyped: [''],
  unknown: [''],
  info: ['', '_info'],
  stateset: [''],
  gaugehistogram: ['', '_bucket', '_gsum', '_gcount'],
};
const SUFFIXED = Object.values(TYPES).flat();

function familyArbitrary(open: boolean): fc.Arbitrary<ExposedFamily> {
  const exemplar = fc.record({ labels, value, timestamp: real }, { requiredKeys: ['labels', 'value'] });
  const sample = (family: string, suffixes: string[]): fc.Arbitrary<ExposedSample> =>
    fc
      .tuple(
        fc.constantFrom(...suffixes),
        fc.record(
          { labels, value, timestamp: open ? real : integer, ...(open ? { exemplar } : {}) },
          { requiredKeys: ['labels', 'value'] },
        ),
      )
      .map(([suffix, rest]) => (suffix === '' ? rest : { name: `${family}${suffix}`, ...rest }));
  const name = fc.oneof(
    fc.tuple(identifier, fc.constantFrom('', ':x', ...SUFFIXED)).map((parts) => parts.join('')),
    text.filter((chosen) => chosen !== ''),
  );
  return fc.tuple(name, fc.constantFrom(...Object.keys(TYPES))).chain(([name, type]) =>
    fc.record(
      {
        name: fc.constant(name),
        description: text.filter((description) => !description.endsWith('\r')),
        type: fc.constant(type),
        values: fc.array(sample(name, TYPES[type] ?? []), { maxLength: 4 }),
        ...(open ? { unit: identifier } : {}),
      },
      { requiredKeys: ['name', 'description', 'type', 'values'] },
    ),
  );
}

/** Families as the printer takes them: no name is another family's or its samples'. */
const families = (open: boolean): fc.Arbitrary<ExposedFamily[]> =>
  fc.array(familyArbitrary(open), { maxLength: 6 }).map((list) => {
    const taken = new Set<string>();
    return list.filter(({ name, type }) => {
      const names = (TYPES[type] ?? []).map((suffix) => `${name}${suffix}`);
      if (names.some((candidate) => taken.has(candidate))) return false;
      for (const candidate of names) taken.add(candidate);
      return true;
    });
  });

const pages = fc
  .constantFrom(true, false)
  .chain((open) => families(open).map((list) => printExposition(list, open ? 'openmetrics' : 'text')));

/** Lines about few names, in any order: families in pieces, suffixes that belong to one family or another, mistakes. */
const messyPages = fc
  .array(
    fc.oneof(
      {
        weight: 6,
        arbitrary: fc
          .tuple(fc.constantFrom('', ' ', '\t'), fc.constantFrom('a', 'b', 'ab', 'a_b', 'a_count'), fc.constantFrom(...SUFFIXED), value)
          .map(([indent, name, suffix, number]) => `${indent}${name}${suffix} ${number}`),
      },
      fc.tuple(fc.constantFrom('a', 'a_count', 'b'), fc.constantFrom(...SUFFIXED)).map(([name, suffix]) => `{"${name}${suffix}"} 1`),
      {
        weight: 4,
        arbitrary: fc
          .tuple(
            fc.constantFrom('# TYPE ', '# TYPE ', '#TYPE ', ' # TYPE  ', '#\tTYPE\t', '#   TYPE '),
            fc.constantFrom('a', 'b', 'a_count', '"a"', 'a_b', 'a_b_total', '_'),
            fc.constantFrom(...Object.keys(TYPES)),
          )
          .map(([hash, name, type]) => `${hash}${name} ${type}`),
      },
      fc.constantFrom(
        '',
        '# HELP a text',
        '# HELP b',
        '# comment about a',
        '# UNIT a s',
        '__total 1',
        '_total 2',
        '\r',
        'a 1 # {} 2',
        'a{',
        'b x',
      ),
    ),
    { maxLength: 14 },
  )
  .map((lines) => lines.join('\n'));

/** A page with a few characters put in, taken out or changed. */
const brokenPages = fc
  .tuple(
    fc.oneof(pages, messyPages),
    fc.array(fc.tuple(fc.nat(), fc.nat(3), fc.oneof(nasty, fc.constantFrom('# EOF\n', '# TYPE ', '{"'))), { maxLength: 4 }),
  )
  .map(([page, edits]) =>
    edits.reduce((edited, [at, length, insert]) => {
      const start = at % (edited.length + 1);
      return edited.slice(0, start) + insert + edited.slice(start + length);
    }, page),
  );

describe('properties', () => {
  const runs = { numRuns: 2000 };

  it('throws nothing but ExpositionError, at a place within the page', () => {
    const anything = fc.oneof(brokenPages, nasty, fc.string({ unit: 'binary' }));
    fc.assert(
      fc.property(
        anything,
        fc.option(fc.uniqueArray(fc.constantFrom('a', 'a_count', 'x', '', '_total')), { nil: undefined }),
        (page, want) => {
          const error = errorOf(() => parseExposition(page, want && new Set(want)));
          if (error === undefined) return;
          expect(error).toBeInstanceOf(ExpositionError);
          const { line, column } = error as ExpositionError;
          const lines = `${page}\n`.split('\n');
          expect(line).toBeGreaterThanOrEqual(1);
          expect(line).toBeLessThanOrEqual(lines.length);
          expect(column).toBeGreaterThanOrEqual(1);
          expect(column).toBeLessThanOrEqual((lines[line - 1]?.length ?? 0) + 1);
        },
      ),
      { numRuns: 5000 },
    );
  });

  it.each(['text', 'openmetrics'] as const)('prints what it parses, as %s', (format) => {
    fc.assert(
      fc.property(families(format === 'openmetrics'), (list) => {
        expect(parseExposition(printExposition(list, format))).toEqual(list);
      }),
      runs,
    );
  });

  it('with `want` gives the wanted of all families', () => {
    fc.assert(
      fc.property(fc.oneof(messyPages, pages, brokenPages), fc.array(fc.nat(), { maxLength: 4 }), (page, choice) => {
        let all: ExposedFamily[];
        try {
          all = parseExposition(page);
        } catch {
          return fc.pre(false);
        }
        const names = ['a_count', 'nowhere', '', ...all.map(({ name }) => name)];
        const want = new Set(choice.map((i) => names[i % names.length] ?? ''));
        expect(parseExposition(page, want)).toEqual(all.filter(({ name }) => want.has(name)));
      }),
      runs,
    );
  });

  it('with `want` reports no error that is not there', () => {
    fc.assert(
      fc.property(brokenPages, (page) => {
        if (errorOf(() => parseExposition(page, new Set(['a', 'a_count']))) === undefined) return;
        expect(errorOf(() => parseExposition(page))).toBeInstanceOf(ExpositionError);
      }),
      runs,
    );
  });
});

describe('time', () => {
  const N = 20_000;
  it.each<[what: string, page: (n: number) => string]>([
    ['one endless label value', (n) => `x{a="${'b'.repeat(n)}`],
    ['backslashes', (n) => `x{a="${'\\\\'.repeat(n)}"} 1`],
    ['quotes', (n) => `x{a="${'\\"'.repeat(n)}"} 1`],
    ['blanks', (n) => `x${' '.repeat(n)}1${' '.repeat(n)}!`],
    ['blanks behind a type', (n) => `# TYPE x gauge${' '.repeat(n)}!`],
    ['digits', (n) => `x ${'1'.repeat(n)}!`],
    ['timestamp digits', (n) => `x 1 ${'1'.repeat(n)}.`],
    ['labels', (n) => `x{${Array.from({ length: n }, (_, i) => `l${i}=""`).join()}} 1`],
    ['empty lines', (n) => '\r\n'.repeat(n)],
    ['comments', (n) => '# EOF\n'.repeat(n).concat('x 1')],
    ['families in falling order', (n) => Array.from({ length: n }, (_, i) => `m${n - i} 1\n`).join('')],
    ['families in pieces', (n) => 'a 1\nb 1\n'.repeat(n)],
    ['a long name that begins the next', (n) => `${'a'.repeat(n)} 1\n${'a_count 1\n'.repeat(n)}`],
    ['JSON-like beginnings', (n) => `{${' '.repeat(n)}"${'a'.repeat(n)}`],
  ])('grows with the page, not faster: %s', (_, page) => {
    const time = (n: number): number => {
      const input = page(n);
      return Math.min(
        ...[0, 1, 2].map(() => {
          const start = performance.now();
          errorOf(() => parseExposition(input));
          errorOf(() => parseExposition(input, new Set(['a', 'x_count'])));
          return performance.now() - start;
        }),
      );
    };
    time(1000);
    // Eight times the page: quadratic time would be 64 times as long.
    expect(time(8 * N)).toBeLessThan(30 * Math.max(time(N), 2));
  });
});
