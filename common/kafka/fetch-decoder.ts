/**
 * A fetch, and its answer taken apart batch by batch. kafkajs' own reading of it cannot get past a batch that compaction has emptied,
 * fails the whole answer for one partition's error, and lets records of an aborted transaction through where two begin at once.
 */
import Decoder from 'kafkajs/src/protocol/decoder.js';
import decodeRecordBatch, { type DecodedBatch, type DecodedRecord } from 'kafkajs/src/protocol/recordBatch/v0/decoder.js';
import type { Headers } from '../bus.ts';
import { messageOf } from '../errors.ts';
import { crc32c } from './crc32c.ts';
import './kafkajs-codecs.ts';
import { type Api, type ByTopic, NO_REPLICA } from './requests.ts';
import type { Reader } from './wire.ts';

export interface FetchedRecord {
  offset: number;
  /** Unix ms. */
  timestamp: number;
  key: string | null;
  value: Buffer | null;
  headers: Headers;
}

export interface FetchedPartition {
  topic: string;
  partition: number;
  errorCode: number;
  highWatermark: number;
  lastStable: number;
  /** Records of committed transactions and of none, from the offset asked for on. */
  records: FetchedRecord[];
  /** Where to go on; the offset asked for where nothing came. */
  next: number;
  /** Why what came cannot be read. */
  unreadable?: string;
}

interface Aborted {
  producerId: string;
  first: number;
}

/** After the offset and the length of a batch: where its magic byte is. */
const MAGIC_AT = 16;
const CRC_AT = 17;
const SUMMED_AT = 21;
const BATCH_HEAD = 61;

interface FetchQuestion {
  /** How long it may wait for something to come [ms]. */
  maxWaitMs: number;
  /** Of the whole answer. */
  maxBytes: number;
  topics: Array<ByTopic<{ partition: number; offset: number; maxBytes: number }>>;
}

interface Fetched {
  errorCode: number;
  partitions: FetchedPartition[];
}

type Asked = (topic: string, partition: number) => number;

const NO_SESSION = { id: 0, epoch: -1 };
const NO_EPOCH = -1;
const NO_START = -1;

/**
 * The request for what is committed, outside of any session.
 * @param asked the offset asked for, by topic and partition
 */
export const fetchFrom = (asked: Asked): Api<FetchQuestion, Fetched> => ({
  name: 'Fetch',
  key: 1,
  version: 11,
  write(to, { maxWaitMs, maxBytes, topics }) {
    to.int32(NO_REPLICA).int32(maxWaitMs).int32(1).int32(maxBytes).int8(COMMITTED).int32(NO_SESSION.id).int32(NO_SESSION.epoch);
    to.array(topics, ({ topic, partitions }) =>
      to
        .string(topic)
        .array(partitions, ({ partition, offset, maxBytes: most }) =>
          to.int32(partition).int32(NO_EPOCH).int64(offset).int64(NO_START).int32(most),
        ),
    );
    // Nothing to forget of a session, and no rack.
    to.array([], () => {}).string('');
  },
  read: (from) => decode(from, asked),
});
const COMMITTED = 1;

async function decode(from: Reader, asked: Asked): Promise<Fetched> {
  from.throttle();
  const errorCode = from.int16();
  from.int32();
  const partitions: FetchedPartition[] = [];
  for (let topics = from.int32(); topics > 0; topics -= 1) {
    const topic = from.string() ?? '';
    for (let count = from.int32(); count > 0; count -= 1) partitions.push(await decodePartition(from, topic, asked));
  }
  return { errorCode, partitions };
}

async function decodePartition(from: Reader, topic: string, asked: Asked): Promise<FetchedPartition> {
  const partition = from.int32();
  const errorCode = from.int16();
  const highWatermark = Number(from.int64());
  const lastStable = Number(from.int64());
  from.int64();
  const aborted: Aborted[] = from.array(() => ({ producerId: from.int64(), first: Number(from.int64()) }));
  aborted.sort((a, b) => a.first - b.first);
  from.int32();
  const batches = from.bytes32();
  const offset = asked(topic, partition);
  const fetched: FetchedPartition = { topic, partition, errorCode, highWatermark, lastStable, records: [], next: offset };
  if (batches.length > 0) {
    try {
      await readBatches(batches, aborted, offset, fetched);
    } catch (error) {
      // What came before it counts; then it stands there until someone makes it readable.
      fetched.unreadable = messageOf(error);
    }
  }
  return fetched;
}

async function readBatches(bytes: Buffer, aborted: Aborted[], from: number, into: FetchedPartition): Promise<void> {
  const active = new Set<string>();
  let at = 0;
  // The last batch may be cut off.
  while (at + BATCH_HEAD <= bytes.length) {
    const length = 12 + bytes.readInt32BE(at + 8);
    if (at + length > bytes.length) break;
    if (bytes.readInt8(at + MAGIC_AT) !== 2) throw new Error('records in the format of before Kafka 0.11, which ndt does not read');
    if (crc32c(bytes.subarray(at + SUMMED_AT, at + length)) !== bytes.readUInt32BE(at + CRC_AT)) throw new Error('its checksum is wrong');
    const batch = await decodeRecordBatch(new Decoder(bytes.subarray(at, at + length)));
    at += length;
    const last = Number(batch.firstOffset) + batch.lastOffsetDelta;
    for (let next = aborted[0]; next !== undefined && next.first <= last; next = aborted[0]) {
      active.add(next.producerId);
      aborted.shift();
    }
    take(batch, active, from, into.records);
    into.next = Math.max(into.next, last + 1);
  }
}

function take(batch: DecodedBatch, active: Set<string>, from: number, records: FetchedRecord[]): void {
  if (batch.isControlBatch) {
    const key = batch.records[0]?.key;
    // Control record: version, then type; 0 aborts.
    if (key !== undefined && key !== null && key.length >= 4 && key.readInt16BE(2) === 0) active.delete(batch.producerId);
    return;
  }
  if (batch.inTransaction && active.has(batch.producerId)) return;
  for (const record of batch.records) {
    const offset = Number(record.offset);
    // A compressed batch comes whole, from before what was asked for.
    if (offset >= from)
      records.push({
        offset,
        timestamp: Number(record.timestamp),
        key: record.key?.toString() ?? null,
        value: record.value,
        headers: headersOf(record),
      });
  }
}

function headersOf({ headers }: DecodedRecord): Headers {
  const texts: Headers = {};
  for (const [name, value] of Object.entries(headers)) {
    const last = Array.isArray(value) ? value.at(-1) : value;
    if (last !== null && last !== undefined) texts[name] = last.toString();
  }
  return texts;
}
