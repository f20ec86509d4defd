/** From the bytes of a message to the fields of its flows: which of GoFlow2's shapes it is, and the decoding. */
import { messageOf } from '../../common/errors.ts';
import { parseJson } from './integers.ts';
import type { Fields, Naming } from './normalise.ts';
import { decodeFlowMessage, frameAt, looksFramed } from './protobuf.ts';

/**
 * seed: the GoFlow2 of the seed system (CamelCase, BytesIn and BytesOut); v1: stock version 1 (CamelCase, Bytes); v2: stock
 * version 2's JSON (snake_case); protobuf: version 2's `-format=bin`.
 */
export type Shape = 'seed' | 'v1' | 'v2' | 'protobuf';
export const SHAPES: readonly Shape[] = ['seed', 'v1', 'v2', 'protobuf'];

export interface Decoded {
  readonly fields: Fields;
  readonly shape: Shape;
}

const BRACE = 0x7b;
const QUOTE = 0x22;
const NEWLINE = 0x0a;
const BYTE_ORDER_MARK = /^\uFEFF/;
/** How releases of version 1 before 1.1 print a list: `[10 0 0 254]`, which is no JSON. */
const GO_LIST = /:\[([0-9]+(?: [0-9]+)+)\]/g;
const MAX_REASON = 200;

/** The naming of a shape's fields. */
export function namingOf(shape: Shape): Naming {
  return shape === 'v2' || shape === 'protobuf' ? 'snake' : 'camel';
}

/**
 * The flows of one message of the bus: one JSON object, or one or several protobuf messages with their lengths.
 * @returns why there is none, where the bytes are neither
 */
export function decodeMessage(value: Buffer): Decoded[] | string {
  // `{` is also the length 123, so that a text that is no JSON may still be protobuf.
  if (looksLikeJson(value)) {
    const flow = decodeJson(value);
    if (typeof flow !== 'string') return [flow];
    return looksFramed(value) ? decodeFrames(value) : flow;
  }
  if (looksFramed(value)) return decodeFrames(value);
  return 'neither a JSON object nor a protobuf message with its length before it';
}

/** Whether the first characters are those of a JSON object. */
export function looksLikeJson(bytes: Uint8Array): boolean {
  let at = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
  while (isSpace(bytes[at])) at++;
  if (bytes[at] !== BRACE) return false;
  at++;
  while (isSpace(bytes[at])) at++;
  return bytes[at] === QUOTE || bytes[at] === 0x7d;
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === NEWLINE || byte === 0x0d || byte === 0x09;
}

/** One flow from its JSON object. @returns why not, where the text is no JSON object */
export function decodeJson(bytes: Buffer): Decoded | string {
  const text = bytes.toString('utf8').replace(BYTE_ORDER_MARK, '');
  let parsed: unknown;
  try {
    parsed = parseJson(text);
  } catch (error) {
    const repaired = text.replace(GO_LIST, (list) => list.replaceAll(' ', ','));
    if (repaired === text) return bad(error);
    try {
      parsed = parseJson(repaired);
    } catch {
      return bad(error);
    }
  }
  if (!isFields(parsed)) return `JSON, but no object: ${text.trim().slice(0, 40)}`;
  return { fields: parsed, shape: shapeOf(parsed) };
}

function bad(error: unknown): string {
  return `bad JSON: ${messageOf(error)}`.slice(0, MAX_REASON);
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function shapeOf(fields: Fields): Shape {
  if (fields.src_addr !== undefined || fields.dst_addr !== undefined || fields.time_received_ns !== undefined) return 'v2';
  return fields.Bytes !== undefined || fields.Packets !== undefined || fields.SrcMac !== undefined ? 'v1' : 'seed';
}

/** The flow of one protobuf message without its length. @returns why not, where the bytes are none */
export function decodeProtobuf(bytes: Uint8Array): Decoded | string {
  try {
    return { fields: decodeFlowMessage(bytes), shape: 'protobuf' };
  } catch (error) {
    return `bad protobuf: ${messageOf(error)}`;
  }
}

function decodeFrames(value: Buffer): Decoded[] | string {
  const flows: Decoded[] = [];
  for (let position = 0; position < value.length; ) {
    let frame: ReturnType<typeof frameAt>;
    try {
      frame = frameAt(value, position);
    } catch (error) {
      return `bad protobuf: ${messageOf(error)}`;
    }
    if (frame === undefined) return 'bad protobuf: a message that is shorter than its length says';
    const flow = decodeProtobuf(value.subarray(frame.start, frame.end));
    if (typeof flow === 'string') return flow;
    flows.push(flow);
    position = skipNewline(value, frame.end);
  }
  return flows;
}

/**
 * GoFlow2 puts a newline behind each message it writes to a file. It is also the length 10, but a flow with two addresses is longer
 * than that.
 */
export function skipNewline(bytes: Uint8Array, position: number): number {
  return bytes[position] === NEWLINE ? position + 1 : position;
}
