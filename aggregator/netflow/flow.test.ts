import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decodeJson, decodeMessage, looksLikeJson } from './flow.ts';

const RECORDED = readFileSync(fileURLToPath(new URL('../../test/fixtures/netflow/v2-protobuf/input.bin', import.meta.url)));

function shapeOf(text: string): string {
  const decoded = decodeMessage(Buffer.from(text));
  return typeof decoded === 'string' ? decoded : decoded.map(({ shape }) => shape).join();
}

it.each([
  ['seed', '{"SrcAddr":"10.0.0.1","BytesIn":1}'],
  ['seed', '{"SrcAddr":"10.0.0.1"}'],
  ['v1', '{"SrcAddr":"10.0.0.1","Bytes":1}'],
  ['v1', '{"SrcAddr":"10.0.0.1","SrcMac":"00:00:00:00:00:00"}'],
  ['v2', '{"src_addr":"10.0.0.1","bytes":1}'],
  ['v2', '{"time_received_ns":1}'],
  ['seed', '\uFEFF \r\n\t{ "SrcAddr": "10.0.0.1" } \n'],
  ['neither a JSON object nor a protobuf message with its length before it', 'hello'],
  ['neither a JSON object nor a protobuf message with its length before it', ''],
  ['neither a JSON object nor a protobuf message with its length before it', 'null'],
])('%s: %j', (shape, text) => {
  expect(shapeOf(text)).toBe(shape);
});

it('takes several protobuf messages of one bus message, with or without newlines between them', () => {
  const flows = decodeMessage(RECORDED);
  expect(Array.isArray(flows) && flows.map(({ shape }) => shape)).toEqual(Array(6).fill('protobuf'));
  const first = RECORDED.subarray(0, 152);
  expect(RECORDED[152]).toBe(0x0a);
  expect(decodeMessage(Buffer.concat([first, first]))).toHaveLength(2);
});

/** A protobuf message of exactly 123 bytes: its length is the character `{`. */
function lengthOfABrace(second: number[]): Buffer {
  const fixed = [...second, 0x32, 4, 10, 0, 0, 1, 0x3a, 4, 10, 0, 0, 2];
  const padding = 123 - fixed.length - 3;
  return Buffer.from([123, ...fixed, 0xca, 0x3e, padding, ...Array(padding).fill(0x20)]);
}

it('is not misled by a length that looks like the beginning of JSON', () => {
  // Field 1, and field 4 whose tag is a space and whose value is a quote.
  for (const bytes of [lengthOfABrace([0x08, 3]), lengthOfABrace([0x20, 0x22])]) {
    expect(bytes).toHaveLength(124);
    const flows = decodeMessage(bytes);
    expect(Array.isArray(flows) && flows.map(({ shape, fields }) => [shape, fields.src_addr])).toEqual([['protobuf', '10.0.0.1']]);
  }
  expect(looksLikeJson(lengthOfABrace([0x20, 0x22]))).toBe(true);
});

it('repairs the lists of early releases of version 1', () => {
  expect(decodeJson(Buffer.from('{"BgpNextHop":[10 0 0 254],"BgpCommunities":[1 2],"ASPath":[],"Bytes":18446744073709551615}'))).toEqual({
    shape: 'v1',
    fields: { BgpNextHop: [10, 0, 0, 254], BgpCommunities: [1, 2], ASPath: [], Bytes: '18446744073709551615' },
  });
});

it('says what is wrong with JSON, shortly and of the text as it came', () => {
  expect(decodeJson(Buffer.from('{"SrcAddr":"10.0.0.1","DstAddr":}'))).toMatch(/^bad JSON: Unexpected token '}'/);
  expect(decodeJson(Buffer.from('{"a":[1 2],'))).toMatch(/^bad JSON: Expected ',' or ']' after array element/);
  expect(decodeJson(Buffer.from('[1,2]'))).toBe('JSON, but no object: [1,2]');
  expect(String(decodeJson(Buffer.from(`{"a":${'x'.repeat(5000)}`))).length).toBeLessThanOrEqual(200);
});

it('never throws, whatever the bytes', () => {
  const cut = fc.tuple(fc.nat(RECORDED.length), fc.nat(RECORDED.length)).map(([a, b]) => RECORDED.subarray(a, b));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 80 }), cut, fc.json(), fc.string()), (bytes) => {
      const decoded = decodeMessage(Buffer.from(bytes as Uint8Array));
      expect(typeof decoded === 'string' || decoded.length > 0).toBe(true);
    }),
    { numRuns: 3000 },
  );
});
