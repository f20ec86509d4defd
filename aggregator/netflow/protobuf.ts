/**
 * The decoder for flow-message.proto: wire format of Protocol Buffers (varints, length-delimited fields), only what that message needs.
 *
 * The fields come out under their names, as GoFlow2's own JSON has them: addresses and MACs as text, a list for what is repeated.
 * proto3 does not send zeros, so that a field that is not there is 0 (or empty), again as in the JSON. Fields we have no use for are
 * skipped by their wire type.
 */
import { addressOfBytes } from './addresses.ts';
import { type Integer, narrow } from './integers.ts';
import type { Fields } from './normalise.ts';

type Kind = 'integer' | 'address' | 'mac' | 'integers' | 'addresses';

interface Field {
  readonly name: string;
  readonly kind: Kind;
  /** Only there when sent: the message itself does not have it. */
  readonly optional?: true;
}

export const FIELDS: ReadonlyMap<number, Field> = new Map<number, Field>([
  [3, { name: 'sampling_rate', kind: 'integer' }],
  [4, { name: 'sequence_num', kind: 'integer' }],
  [6, { name: 'src_addr', kind: 'address' }],
  [7, { name: 'dst_addr', kind: 'address' }],
  [9, { name: 'bytes', kind: 'integer' }],
  [10, { name: 'packets', kind: 'integer' }],
  [11, { name: 'sampler_address', kind: 'address' }],
  [12, { name: 'next_hop', kind: 'address' }],
  [14, { name: 'src_as', kind: 'integer' }],
  [15, { name: 'dst_as', kind: 'integer' }],
  [16, { name: 'src_net', kind: 'integer' }],
  [17, { name: 'dst_net', kind: 'integer' }],
  [18, { name: 'in_if', kind: 'integer' }],
  [19, { name: 'out_if', kind: 'integer' }],
  [20, { name: 'proto', kind: 'integer' }],
  [21, { name: 'src_port', kind: 'integer' }],
  [22, { name: 'dst_port', kind: 'integer' }],
  [23, { name: 'ip_tos', kind: 'integer' }],
  [24, { name: 'forwarding_status', kind: 'integer' }],
  [25, { name: 'ip_ttl', kind: 'integer' }],
  [26, { name: 'tcp_flags', kind: 'integer' }],
  [27, { name: 'src_mac', kind: 'mac' }],
  [28, { name: 'dst_mac', kind: 'mac' }],
  [30, { name: 'etype', kind: 'integer' }],
  [31, { name: 'icmp_type', kind: 'integer' }],
  [32, { name: 'icmp_code', kind: 'integer' }],
  [33, { name: 'src_vlan', kind: 'integer' }],
  [34, { name: 'dst_vlan', kind: 'integer' }],
  [35, { name: 'fragment_id', kind: 'integer' }],
  [37, { name: 'ipv6_flow_label', kind: 'integer' }],
  [42, { name: 'flow_direction', kind: 'integer', optional: true }],
  [70, { name: 'observation_domain_id', kind: 'integer' }],
  [81, { name: 'mpls_label', kind: 'integers' }],
  [82, { name: 'mpls_ip', kind: 'addresses' }],
  [100, { name: 'bgp_next_hop', kind: 'address' }],
  [110, { name: 'time_received_ns', kind: 'integer' }],
  [111, { name: 'time_flow_start_ns', kind: 'integer' }],
  [112, { name: 'time_flow_end_ns', kind: 'integer' }],
]);

const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;
/** Stands for a list of which nothing was sent. */
const EMPTY: readonly unknown[] = Object.freeze([]);
const MAX_VARINT_BYTES = 10;
const MAX_MAC = 2 ** 48 - 1;
/** A message of GoFlow2 has a few hundred bytes. */
export const MAX_FRAME_BYTES = 1024 * 1024;

/** What the message lacks, in the words of its JSON. */
const UNSET: Fields = Object.fromEntries(
  [...FIELDS.values()]
    .filter(({ optional }) => optional !== true)
    .map(({ name, kind }) => [name, kind === 'integer' ? 0 : kind === 'mac' ? '00:00:00:00:00:00' : kind === 'address' ? '' : EMPTY]),
);

/** Reads numbers and byte strings one after the other. Throws a RangeError where the bytes end too early or make no sense. */
export class WireReader {
  private readonly bytes: Uint8Array;
  private readonly end: number;
  position: number;

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.bytes = bytes;
    this.position = start;
    this.end = end;
  }

  get done(): boolean {
    return this.position >= this.end;
  }

  varint(): Integer {
    let value = 0;
    let scale = 1;
    const start = this.position;
    // Seven times seven bits stay below 2^53.
    for (let i = 0; i < 7; i++) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
    let wide = BigInt(value);
    for (let shift = 49n; this.position - start < MAX_VARINT_BYTES; shift += 7n) {
      const byte = this.byte();
      wide |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return narrow(BigInt.asUintN(64, wide));
    }
    throw new RangeError('a number of more than 10 bytes');
  }

  /** The bytes of a length-delimited field. */
  delimited(): Uint8Array {
    const length = this.varint();
    if (typeof length === 'bigint' || length > this.end - this.position) throw new RangeError('a field that is longer than the message');
    this.position += length;
    return this.bytes.subarray(this.position - length, this.position);
  }

  skip(wireType: number): void {
    if (wireType === WIRE.varint) this.varint();
    else if (wireType === WIRE.bytes) this.delimited();
    else if (wireType === WIRE.fixed64 || wireType === WIRE.fixed32) {
      this.position += wireType === WIRE.fixed64 ? 8 : 4;
      if (this.position > this.end) throw new RangeError('a message that ends inside of a field');
    } else throw new RangeError(`wire type ${wireType}, which proto3 does not have`);
  }

  private byte(): number {
    const byte = this.position < this.end ? this.bytes[this.position] : undefined;
    if (byte === undefined) throw new RangeError('a message that ends inside of a field');
    this.position++;
    return byte;
  }
}

/** The fields of one message, without its length. Throws a RangeError that says what is wrong with the bytes. */
export function decodeFlowMessage(bytes: Uint8Array): Fields {
  const fields = { ...UNSET };
  const reader = new WireReader(bytes);
  while (!reader.done) {
    const tag = reader.varint();
    if (typeof tag === 'bigint' || tag < 8) throw new RangeError(`a field with the number ${String(tag)}`);
    const wireType = tag % 8;
    const field = FIELDS.get((tag - wireType) / 8);
    if (field === undefined) reader.skip(wireType);
    else decodeField(fields, field, wireType, reader);
  }
  return fields;
}

function decodeField(fields: Record<string, unknown>, { name, kind }: Field, wireType: number, reader: WireReader): void {
  if (kind === 'integers' && wireType === WIRE.bytes) {
    const packed = new WireReader(reader.delimited());
    while (!packed.done) append(fields, name, packed.varint());
    return;
  }
  const expected = kind === 'address' || kind === 'addresses' ? WIRE.bytes : WIRE.varint;
  if (wireType !== expected) throw new RangeError(`field ${name} with wire type ${wireType} instead of ${expected}`);
  if (kind === 'integers') append(fields, name, reader.varint());
  else if (kind === 'addresses') append(fields, name, addressText(reader.delimited()));
  else if (kind === 'address') fields[name] = addressText(reader.delimited());
  else fields[name] = kind === 'mac' ? macOf(reader.varint()) : reader.varint();
}

function append(fields: Record<string, unknown>, name: string, value: unknown): void {
  const list = fields[name];
  if (Array.isArray(list) && list !== EMPTY) list.push(value);
  else fields[name] = [value];
}

/** An address of another length stays bytes: that is told apart from one that is not set, and counted or refused as no address. */
function addressText(bytes: Uint8Array): unknown {
  return bytes.length === 0 ? '' : (addressOfBytes(bytes)?.text ?? [...bytes]);
}

function macOf(value: Integer): string | Integer {
  if (typeof value === 'bigint' || value > MAX_MAC) return value;
  const hex = value.toString(16).padStart(12, '0');
  return `${hex.slice(0, 2)}:${hex.slice(2, 4)}:${hex.slice(4, 6)}:${hex.slice(6, 8)}:${hex.slice(8, 10)}:${hex.slice(10)}`;
}

/**
 * The message that begins at `position` with its length.
 * @returns its place, or undefined where the bytes end before it does. Throws a RangeError for a length that none of ours has.
 */
export function frameAt(bytes: Uint8Array, position: number): { start: number; end: number } | undefined {
  let length = 0;
  for (let i = 0; i < 4; i++) {
    const byte = bytes[position + i];
    if (byte === undefined) return undefined;
    length += (byte & 0x7f) * 128 ** i;
    if (byte >= 0x80) continue;
    if (length > MAX_FRAME_BYTES) break;
    const start = position + i + 1;
    return start + length <= bytes.length ? { start, end: start + length } : undefined;
  }
  throw new RangeError(`a message longer than ${MAX_FRAME_BYTES} bytes`);
}

/** Whether a message of ours can begin here: a length, then a field of the message with the wire type it has. */
export function looksFramed(bytes: Uint8Array): boolean {
  try {
    const reader = new WireReader(bytes, 0, Math.min(bytes.length, 2 * MAX_VARINT_BYTES));
    const length = reader.varint();
    if (length === 0 || length > MAX_FRAME_BYTES) return false;
    const tag = reader.varint();
    if (typeof tag === 'bigint') return false;
    const number = (tag - (tag % 8)) / 8;
    const kind = number === 1 ? 'integer' : FIELDS.get(number)?.kind;
    return kind !== undefined && tag % 8 === (kind === 'address' || kind === 'addresses' ? WIRE.bytes : WIRE.varint);
  } catch {
    return false;
  }
}
