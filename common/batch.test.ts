import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BatchEntry, batchLimits, batchLine, decodeBatch, encodeBatch } from './batch.ts';
import type { Message } from './bus.ts';

const limits = { maxBytes: 1_000_000, maxLines: 1000 };

function messages(payload: Buffer): Message[] {
  return decodeBatch(payload, limits).map((line) => {
    if (!line.ok) throw new Error(`line ${line.line}: ${line.reason}`);
    return line.message;
  });
}

const entry = (body: string, more: Partial<BatchEntry> = {}): BatchEntry => ({
  topic: 'TP_r1',
  key: 'r1',
  headers: { 'ndt-agent': 'a', 'ndt-seq': '7' },
  body,
  ...more,
});

describe('the batch codec', () => {
  it('writes the line of contract 7, the record as it is', () => {
    const line = '{"topic":"TP_r1","key":"r1","headers":{"ndt-agent":"a","ndt-seq":"7"},"record":{"value": 1.0}}';
    expect(batchLine(entry('{"value": 1.0}'))).toBe(line);
    expect(encodeBatch([entry('{"value": 1.0}')], 'none').toString()).toBe(`${line}\n`);
  });

  it.each(['gzip', 'zstd', 'none'] as const)('brings everything back with %s, to the byte', (compression) => {
    const text = fc.string({ unit: 'binary' });
    const anyEntry = fc.record({
      topic: text.filter((topic) => topic !== ''),
      key: fc.option(text),
      headers: fc.dictionary(text, text),
      body: fc.dictionary(text, fc.jsonValue()).map((value) => JSON.stringify(value)),
    });
    fc.assert(
      fc.property(fc.array(anyEntry, { maxLength: 20 }), (batch) => {
        const got = messages(encodeBatch(batch, compression));
        expect(got.map(({ value }) => value)).toEqual(batch.map(({ body }) => Buffer.from(body)));
        expect(got.map(({ topic, key }) => ({ topic, key }))).toEqual(batch.map(({ topic, key }) => ({ topic, key })));
        expect(got.map(({ headers }) => JSON.stringify(headers))).toEqual(batch.map(({ headers }) => JSON.stringify(headers)));
      }),
      { numRuns: 200 },
    );
  });

  it('does not touch the spelling of numbers, nor a record that looks like a line', () => {
    const bodies = [
      '{"a":1.0,"b":12345678901234567890,"c":1e+09}',
      '{"s":",\\"record\\":{}}","record":{"x":1},"record2":1}',
      '{ "spaced" : [ 1 , 2 ] }',
    ];
    expect(
      messages(
        encodeBatch(
          bodies.map((body) => entry(body)),
          'gzip',
        ),
      ).map(({ value }) => value.toString()),
    ).toEqual(bodies);
    const sly = entry('{"x":1}', { headers: { record: 'no', 'a,"record":': ',"record":{}' }, topic: ',"record":' });
    expect(messages(encodeBatch([sly], 'none'))).toEqual([
      { topic: sly.topic, key: 'r1', headers: sly.headers, value: Buffer.from('{"x":1}') },
    ]);
  });

  it('keeps a record on its line', () => {
    expect(messages(encodeBatch([entry('{\r\n  "a": 1\n}')], 'none'))[0]?.value.toString()).toBe('{   "a": 1 }');
  });

  it('reads lines that are laid out in another way, without a key or headers, with empty lines and CRLF between', () => {
    const text =
      '\r\n{ "record": {"a": 1}, "topic": "TP_r1" }\r\n\n{"topic":"TP_r2","headers":{},"record":{"b":2},"key":null,"further":true}';
    expect(messages(Buffer.from(text))).toEqual([
      { topic: 'TP_r1', key: null, headers: {}, value: Buffer.from('{"a":1}') },
      { topic: 'TP_r2', key: null, headers: {}, value: Buffer.from('{"b":2}') },
    ]);
  });

  it('gives nothing for an empty payload', () => {
    expect(decodeBatch(Buffer.alloc(0), limits)).toEqual([]);
  });
});

describe('a bad batch', () => {
  const good = batchLine(entry('{"a":1}'));

  it.each([
    ['not JSON', 'hello', /not JSON/],
    ['a line cut short', good.slice(0, -3), /not JSON/],
    ['two values in a line', `${good}{}`, /not JSON/],
    ['a list', '[1]', /not an object with topic/],
    ['no topic', '{"key":null,"headers":{},"record":{}}', /"topic" is not text/],
    ['an empty topic', '{"topic":"","record":{}}', /"topic" is not text/],
    ['a key that is a number', '{"topic":"t","key":1,"record":{}}', /"key" is neither/],
    ['headers that are no texts', '{"topic":"t","headers":{"n":1},"record":{}}', /"headers" are not/],
    ['a list of headers', '{"topic":"t","headers":[],"record":{}}', /"headers" are not/],
    ['no record', '{"topic":"t"}', /"record" is not an object/],
    ['a record that is a list', '{"topic":"t","key":null,"headers":{},"record":[]}', /"record" is not an object/],
    ['a record that is null', '{"topic":"t","key":null,"headers":{},"record":null}', /"record" is not an object/],
  ])('%s spoils only its own line', (_name, bad, reason) => {
    const lines = decodeBatch(Buffer.from([good, bad, good].join('\n')), limits);
    expect(lines.map(({ ok, line }) => ({ ok, line }))).toEqual([
      { ok: true, line: 1 },
      { ok: false, line: 2 },
      { ok: true, line: 3 },
    ]);
    expect(lines[1]).toMatchObject({ reason: expect.stringMatching(reason) as string, raw: Buffer.from(bad) });
  });

  it('is told from good lines where it is not UTF-8', () => {
    const bad = Buffer.concat([Buffer.from(good), Buffer.from([0xff, 0xfe])]);
    const lines = decodeBatch(Buffer.concat([bad, Buffer.from(`\n${good}`)]), limits);
    expect(lines).toMatchObject([{ ok: false, reason: 'the line is not UTF-8', raw: bad }, { ok: true }]);
  });

  it.each([
    ['gzip that breaks off', gzipSync(good).subarray(0, 30)],
    ['gzip with a wrong byte', gzipSync(good).fill(0x55, 20, 24)],
    ['nothing but the first bytes of zstd', Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 1])],
  ])('comes back whole: %s', (_name, payload) => {
    expect(decodeBatch(payload, limits)).toEqual([
      { ok: false, reason: expect.stringContaining('cannot be decompressed') as string, line: 0, raw: payload },
    ]);
  });

  it.each(['gzip', 'zstd', 'none'] as const)('that is too large after %s comes back whole', (compression) => {
    const payload = encodeBatch([entry(`{"a":"${'x'.repeat(1_000_000)}"}`)], compression);
    const lines = decodeBatch(payload, limits);
    expect(lines).toMatchObject([{ ok: false, reason: expect.stringContaining('more than 1000000 bytes') as string, line: 0 }]);
    expect(lines[0]?.ok === false && lines[0].raw.equals(payload)).toBe(true);
  });

  it('with too many lines gives the rest as one', () => {
    const lines = decodeBatch(Buffer.from('x\n'.repeat(5)), { ...limits, maxLines: 3 });
    expect(lines.map(({ line }) => line)).toEqual([1, 2, 3, 4]);
    expect(lines[3]).toMatchObject({ ok: false, raw: Buffer.from('x\nx\n') });
  });

  it('never throws, and loses no line', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        decodeBatch(Buffer.from(bytes), limits);
      }),
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.constant(good), fc.string()), { maxLength: 20 }), (texts) => {
        const payload = Buffer.from(texts.join('\n'));
        const expected = payload
          .toString()
          .split('\n')
          .filter((text) => text.trim() !== '').length;
        expect(decodeBatch(payload, limits)).toHaveLength(expected);
      }),
    );
  });
});

it('bounds a batch by the packet it comes in', () => {
  expect(batchLimits(8 * 1024 * 1024).maxBytes).toBe(32 * 1024 * 1024);
  expect(batchLimits(1024).maxBytes).toBe(1024 * 1024);
});
