/**
 * The batch codec (contract 7): what an agent publishes to `ndt/1/{agent}/records`. One line per record, compressed as a whole; the
 * receiver tells the compression by the first bytes.
 */
import { isUtf8 } from 'node:buffer';
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { Headers, Message } from './bus.ts';
import { codeOf, messageOf } from './errors.ts';

export type Compression = 'gzip' | 'zstd' | 'none';

/** What goes into a line: `body` is the record's JSON text, exactly as it goes out. */
export interface BatchEntry {
  topic: string;
  key: string | null;
  headers: Headers;
  body: string;
}

export interface BatchLimits {
  /** Most bytes after decompression. */
  maxBytes: number;
  maxLines: number;
}

/** One line of a batch: a message for the bus, or why it is none. `raw` is the line, or the payload where that cannot be read. */
export type BatchLine = { ok: true; message: Message; line: number } | { ok: false; reason: string; line: number; raw: Buffer };

/** The topic that an agent publishes its batches to. */
export function batchTopic(agent: string): string {
  return `ndt/1/${agent}/records`;
}

/** Bounds of a batch that arrives in a packet of at most `maxPacketBytes`: telemetry shrinks to a tenth, a bomb would to a thousandth. */
export function batchLimits(maxPacketBytes: number): BatchLimits {
  return { maxBytes: Math.max(4 * maxPacketBytes, 1024 * 1024), maxLines: 10_000 };
}

/** A line, without its end. The body goes in as it is, so that no number in it changes its spelling. */
export function batchLine({ topic, key, headers, body }: BatchEntry): string {
  const record = body.includes('\n') || body.includes('\r') ? body.replace(/[\r\n]+/g, ' ') : body;
  return `{"topic":${JSON.stringify(topic)},"key":${JSON.stringify(key)},"headers":${JSON.stringify(headers)},"record":${record}}`;
}

/** Lines of `batchLine` as one payload. */
export function packLines(lines: readonly string[], compression: Compression): Buffer {
  const text = Buffer.from(lines.length === 0 ? '' : `${lines.join('\n')}\n`);
  // At once rather than in the pool of threads: a quarter of a megabyte takes a millisecond.
  if (compression === 'gzip') return gzipSync(text);
  // Told the size, it does not lay out tables for any length.
  return compression === 'zstd' ? zstdCompressSync(text, { pledgedSrcSize: text.length }) : text;
}

export function encodeBatch(entries: readonly BatchEntry[], compression: Compression): Buffer {
  return packLines(entries.map(batchLine), compression);
}

/**
 * Takes a payload apart. Never throws: what cannot be used comes back with the reason, and a bad line does not spoil the others.
 * Empty lines are passed over; lines are counted from 1, a payload that cannot be read at all is line 0.
 */
export function decodeBatch(payload: Buffer, limits: BatchLimits): BatchLine[] {
  const unreadable = (reason: string): BatchLine[] => [{ ok: false, reason, line: 0, raw: payload }];
  let bytes: Buffer;
  try {
    bytes = decompress(payload, limits.maxBytes);
  } catch (error) {
    if (codeOf(error) === 'ERR_BUFFER_TOO_LARGE') return unreadable(`the batch has more than ${limits.maxBytes} bytes when decompressed`);
    return unreadable(`the batch cannot be decompressed (${messageOf(error)})`);
  }
  if (bytes.length > limits.maxBytes) return unreadable(`the batch has more than ${limits.maxBytes} bytes`);
  const lines: BatchLine[] = [];
  const clean = isUtf8(bytes);
  let start = 0;
  for (let number = 1; start < bytes.length; number += 1) {
    const end = bytes.indexOf(0x0a, start);
    const raw = bytes.subarray(start, end < 0 ? bytes.length : end);
    if (number > limits.maxLines) {
      lines.push({
        ok: false,
        reason: `the batch has more than ${limits.maxLines} lines; this is the rest`,
        line: number,
        raw: bytes.subarray(start),
      });
      break;
    }
    start += raw.length + 1;
    if (!clean && !isUtf8(raw)) {
      lines.push({ ok: false, reason: 'the line is not UTF-8', line: number, raw });
      continue;
    }
    const text = raw.toString('utf8').trim();
    if (text === '') continue;
    try {
      lines.push({ ok: true, message: messageIn(text), line: number });
    } catch (error) {
      lines.push({ ok: false, reason: messageOf(error), line: number, raw });
    }
  }
  return lines;
}

function decompress(payload: Buffer, maxOutputLength: number): Buffer {
  if (payload[0] === 0x1f && payload[1] === 0x8b) return gunzipSync(payload, { maxOutputLength });
  if (payload.length >= 4 && payload.readUInt32LE(0) === 0xfd2fb528) return zstdDecompressSync(payload, { maxOutputLength });
  return payload;
}

const RECORD_FIELD = ',"record":';

/** @throws Error saying what is wrong with the line */
function messageIn(line: string): Message {
  // Inside a JSON string a quote has a backslash before it, so the first `,"record":` is a field; ours is the last of its object. Cut
  // out, the record keeps its exact text. Anything laid out differently is parsed and printed anew.
  const at = line.indexOf(RECORD_FIELD);
  if (at > 0 && line.endsWith('}')) {
    const body = line.slice(at + RECORD_FIELD.length, -1);
    const envelope = parsed(`${line.slice(0, at)}}`);
    const record = envelope instanceof Error ? envelope : parsed(body);
    if (!(envelope instanceof Error) && !(record instanceof Error)) return messageOfLine({ ...objectIn(envelope), record }, body);
  }
  const whole = parsed(line);
  if (whole instanceof Error) throw new Error(`the line is not JSON (${whole.message})`);
  return messageOfLine(objectIn(whole));
}

type Fields = { [name: string]: unknown };

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

function objectIn(value: unknown): Fields {
  if (!isObject(value)) throw new Error('the line is not an object with topic, key, headers and record');
  return value;
}

function messageOfLine({ topic, key = null, headers = {}, record }: Fields, body?: string): Message {
  if (typeof topic !== 'string' || topic === '') throw new Error('the line’s "topic" is not text');
  if (key !== null && typeof key !== 'string') throw new Error('the line’s "key" is neither text nor null');
  if (!areHeaders(headers)) throw new Error('the line’s "headers" are not an object of texts');
  if (!isObject(record)) throw new Error('the line’s "record" is not an object');
  return { topic, key, headers, value: Buffer.from(body ?? JSON.stringify(record)) };
}

function areHeaders(value: unknown): value is Headers {
  return isObject(value) && Object.values(value).every((text) => typeof text === 'string');
}
