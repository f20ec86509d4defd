import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decodeFlowMessage, FIELDS, frameAt, looksFramed, MAX_FRAME_BYTES, WireReader } from './protobuf.ts';

const RECORDED = readFileSync(fileURLToPath(new URL('../../test/fixtures/netflow/v2-protobuf/input.bin', import.meta.url)));
const PROTO = readFileSync(fileURLToPath(new URL('./flow-message.proto', import.meta.url)), 'utf8');

/** An encoder for the tests, from the format's description: the decoder is not its own witness. */
function varint(value: bigint | number): number[] {
  const bytes: number[] = [];
  let rest = BigInt(value);
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return [...bytes, Number(rest)];
}
const integer = (number: number, value: bigint | number): number[] => [...varint(number * 8), ...varint(value)];
const delimited = (number: number, bytes: readonly number[]): number[] => [...varint(number * 8 + 2), ...varint(bytes.length), ...bytes];

it('has the numbers and types of flow-message.proto', () => {
  const fields = new Map(
    [...PROTO.matchAll(/^ {2}(repeated )?(uint32|uint64|bytes|FlowType) (\w+) = (\d+);/gm)].map(
      ([, repeated, type = '', name = '', number]) => [Number(number), { name, type, repeated: repeated !== undefined }],
    ),
  );
  expect(fields.size).toBe(50);
  for (const [number, { name, kind }] of FIELDS) {
    const field = fields.get(number);
    expect(field?.name).toBe(name);
    expect({ name, bytes: field?.type === 'bytes', repeated: field?.repeated }).toEqual({
      name,
      bytes: kind === 'address' || kind === 'addresses',
      repeated: kind === 'integers' || kind === 'addresses',
    });
  }
});

it('decodes a message of a real GoFlow2', () => {
  const frame = frameAt(RECORDED, 0);
  expect(frame).toEqual({ start: 2, end: 152 });
  expect(decodeFlowMessage(RECORDED.subarray(2, 152))).toMatchObject({
    src_addr: '10.0.27.116',
    dst_addr: '37.235.53.152',
    next_hop: '10.0.0.254',
    src_mac: '02:00:5e:10:00:01',
    proto: 17,
    bytes: 228,
    mpls_label: [],
    time_flow_end_ns: 1646564427877000000n,
    icmp_type: 0,
    observation_domain_id: 7,
  });
});

it('reads every varint of 64 bits', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        fc.nat().map(BigInt),
        fc.integer({ min: 0, max: 63 }).map((bit) => 2n ** BigInt(bit)),
      ),
      (value) => {
        const reader = new WireReader(Uint8Array.from(varint(value)));
        expect(BigInt(reader.varint())).toBe(value);
        expect(reader.done).toBe(true);
      },
    ),
  );
});

it('reads what an encoder wrote, whatever else is in the message', () => {
  const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  const unknown = fc.oneof(
    fc.tuple(fc.integer({ min: 1001, max: 100000 }), uint64).map(([number, value]) => integer(number, value)),
    fc.tuple(fc.integer({ min: 1001, max: 100000 }), fc.array(fc.nat(255))).map(([number, bytes]) => delimited(number, bytes)),
    fc.constant([...varint(1500 * 8 + 5), 1, 2, 3, 4]),
    fc.constant([...varint(1500 * 8 + 1), 1, 2, 3, 4, 5, 6, 7, 8]),
  );
  fc.assert(
    fc.property(uint64, fc.array(fc.nat(2 ** 20)), fc.boolean(), fc.array(unknown), (bytes, labels, packed, others) => {
      const label = packed ? delimited(81, labels.flatMap(varint)) : labels.flatMap((value) => integer(81, value));
      const parts = [
        integer(9, bytes),
        ...others,
        label,
        delimited(6, [10, 0, 0, 1]),
        delimited(7, [...Array(15).fill(0), 1]),
        integer(27, 0x02005e100001),
      ];
      const fields = decodeFlowMessage(Uint8Array.from(parts.flat()));
      expect(BigInt(String(fields.bytes))).toBe(bytes);
      expect(fields).toMatchObject({
        mpls_label: labels,
        src_addr: '10.0.0.1',
        dst_addr: '::1',
        src_mac: '02:00:5e:10:00:01',
        dst_mac: '00:00:00:00:00:00',
      });
    }),
  );
});

it('has zeros for what was not sent, and nothing for what the message does not have', () => {
  const fields = decodeFlowMessage(Uint8Array.of());
  expect(fields).toMatchObject({ src_port: 0, next_hop: '', mpls_label: [], mpls_ip: [], proto: 0 });
  expect(fields).not.toHaveProperty('flow_direction');
  expect(decodeFlowMessage(Uint8Array.from(integer(42, 1)))).toMatchObject({ flow_direction: 1 });
});

it('tells an address that is none from one that is not set', () => {
  expect(decodeFlowMessage(Uint8Array.from([...delimited(6, [1, 2, 3]), ...delimited(7, [])]))).toMatchObject({
    src_addr: [1, 2, 3],
    dst_addr: '',
  });
});

it.each([
  ['a field that ends too early', [0x48]],
  ['a number that never ends', [0x48, ...Array(11).fill(0xff)]],
  ['a length beyond the message', [0x32, 5, 10, 0]],
  ['field 0', [0x00, 1]],
  ['a group', [0x9b, 0x3f]],
  ['a fixed32 that is cut', [0xad, 0x3f, 1, 2]],
  ['an address sent as a number', integer(6, 1)],
  ['a port sent as bytes', delimited(21, [80])],
])('refuses %s', (_, bytes) => {
  expect(() => decodeFlowMessage(Uint8Array.from(bytes))).toThrow(RangeError);
});

it('never does more than refuse', () => {
  const noise = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc.tuple(fc.nat(RECORDED.length), fc.nat(RECORDED.length)).map(([a, b]) => RECORDED.subarray(a, b)),
  );
  fc.assert(
    fc.property(noise, (bytes) => {
      looksFramed(bytes);
      for (const read of [() => decodeFlowMessage(bytes), () => frameAt(bytes, 0)]) {
        try {
          read();
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }
    }),
    { numRuns: 2000 },
  );
});

it('finds a frame only when it is there whole', () => {
  expect(frameAt(RECORDED.subarray(0, 151), 0)).toBeUndefined();
  expect(frameAt(RECORDED.subarray(0, 1), 0)).toBeUndefined();
  expect(frameAt(Uint8Array.of(), 0)).toBeUndefined();
  expect(() => frameAt(Uint8Array.from(varint(MAX_FRAME_BYTES + 1)), 0)).toThrow('longer than');
  expect(() => frameAt(Uint8Array.of(255, 255, 255, 255, 255), 0)).toThrow('longer than');
});

it.each(['{"SrcAddr":"10.0.0.1"}', 'hello world', '<html>', '', '\n\n', 'null', '[1]', '\u0000', 'date,bytes\n'])(
  'does not take %j for a message',
  (text) => {
    expect(looksFramed(Buffer.from(text))).toBe(false);
  },
);

it('takes a recorded message for one', () => {
  expect(looksFramed(RECORDED)).toBe(true);
});
