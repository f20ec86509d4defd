/**
 * Brokers on the loopback that answer as a test tells them: for answers that no real one gives on command. What a test does not answer
 * itself is answered as by a cluster where all is well, without transactions of version 2.
 */
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import { Reader, Writer } from '../common/kafka/wire.ts';

/** Those that the client may ask for. */
const KEYS = {
  Produce: 0,
  Fetch: 1,
  ListOffsets: 2,
  Metadata: 3,
  OffsetCommit: 8,
  OffsetFetch: 9,
  FindCoordinator: 10,
  JoinGroup: 11,
  Heartbeat: 12,
  LeaveGroup: 13,
  SyncGroup: 14,
  SaslHandshake: 17,
  ApiVersions: 18,
  CreateTopics: 19,
  InitProducerId: 22,
  AddPartitionsToTxn: 24,
  AddOffsetsToTxn: 25,
  EndTxn: 26,
  TxnOffsetCommit: 28,
  SaslAuthenticate: 36,
} as const;
type Name = keyof typeof KEYS;
const FLEXIBLE_FROM: { [name in Name]?: number } = { ApiVersions: 3, OffsetFetch: 6 };
/** Of what is offered; of the others, more than the client wants. */
const NEWEST: { [name in Name]?: number } = { OffsetFetch: 5 };

export interface Question {
  /** The broker's number. */
  node: number;
  version: number;
  from: Reader;
}
/** The answer's body; `cut` closes the connection, `silence` is no answer; undefined: as by a cluster where all is well. */
type Reply = Buffer | 'cut' | 'silence' | undefined;
type Answer = (question: Question) => Reply | Promise<Reply>;

export interface FakeCluster {
  /** Of broker 1, who coordinates everything. */
  bootstrap: string;
  /** Who leads each partition of a topic. */
  topics: Map<string, number[]>;
  /** What was asked, in that order. */
  asked: Name[];
  /** Closes all connections; resolves when the client has closed them as well. */
  hangUp(): Promise<void>;
}

export async function fakeCluster(options: {
  topics?: { [topic: string]: number[] };
  /** Topics that are not named exist as well, led by broker 1. */
  anyTopic?: boolean;
  controller?: number;
  newest?: typeof NEWEST;
  answers?: { [name in Name]?: Answer };
}): Promise<FakeCluster> {
  const { answers = {}, controller = 1 } = options;
  const topics = new Map(Object.entries(options.topics ?? {}));
  const newest = { ...NEWEST, ...options.newest };
  const ports = new Map<number, number>();
  const sockets = new Set<Socket>();
  const asked: Name[] = [];
  let producers = 100;

  const usual = (name: Name, from: Reader): Reply => {
    const fine = () => new Writer().int32(0).int16(0);
    const none = (to: Writer) => to.array([], () => {});
    if (name === 'ApiVersions') return abilities(newest);
    if (name === 'Metadata') {
      const names = from.array(() => from.string() ?? '');
      const wanted = names.length === 0 ? [...topics.keys()] : names;
      return metadata(ports, controller, wanted, (topic) => topics.get(topic) ?? (options.anyTopic ? [1] : undefined));
    }
    if (name === 'FindCoordinator') return node(fine().string(null), 1, ports).bytes;
    if (name === 'InitProducerId') {
      producers += 1;
      return fine().int64(producers).int16(0).bytes;
    }
    if (name === 'Produce') return produced(writtenIn(from));
    if (name === 'OffsetFetch') return none(new Writer().int32(0)).int16(0).bytes;
    if (name === 'AddPartitionsToTxn' || name === 'TxnOffsetCommit') return none(new Writer().int32(0)).bytes;
    if (name === 'AddOffsetsToTxn' || name === 'EndTxn' || name === 'Heartbeat' || name === 'LeaveGroup') return fine().bytes;
    if (name === 'SaslHandshake') return none(new Writer().int16(0)).bytes;
    if (name === 'SaslAuthenticate') return new Writer().int16(0).string(null).bytes32(Buffer.alloc(0)).int64(0).bytes;
    return 'silence';
  };

  const answer = async (socket: Socket, broker: number, request: Buffer) => {
    const from = new Reader(request);
    const key = from.int16();
    const version = from.int16();
    const correlationId = from.int32();
    from.string();
    const name = (Object.keys(KEYS) as Name[]).find((known) => KEYS[known] === key);
    if (name === undefined) throw new Error(`the client asks for what was not offered: ${key}`);
    const flexible = version >= (FLEXIBLE_FROM[name] ?? Number.POSITIVE_INFINITY);
    if (flexible) from.tags();
    asked.push(name);
    // Each reads the question from its start.
    const body = from.rest();
    const reply = (await answers[name]?.({ node: broker, version, from: new Reader(body) })) ?? usual(name, new Reader(body));
    if (reply === 'cut') socket.destroy();
    if (reply === 'cut' || reply === 'silence') return;
    const frame = new Writer().int32(0).int32(correlationId);
    if (flexible && name !== 'ApiVersions') frame.tags();
    frame.raw(reply ?? Buffer.alloc(0)).patchInt32(0, frame.bytes.length - 4);
    socket.write(frame.bytes);
  };

  for (const broker of [1, 2]) ports.set(broker, await listen(sockets, (socket, request) => answer(socket, broker, request)));
  return { bootstrap: `127.0.0.1:${ports.get(1)}`, topics, asked, hangUp: () => hangUp(sockets) };
}

async function hangUp(sockets: ReadonlySet<Socket>): Promise<void> {
  const open = [...sockets].filter((socket) => !socket.closed);
  await Promise.all(open.map((socket) => new Promise((resolve) => socket.once('close', resolve).end())));
}

/** Requests of a connection are answered one after the other, as brokers do. */
async function listen(sockets: Set<Socket>, answer: (socket: Socket, request: Buffer) => Promise<void>): Promise<number> {
  const server = createServer((socket) => {
    sockets.add(socket);
    onTestFinished(() => void socket.destroy());
    socket.on('error', () => {});
    let bytes: Buffer = Buffer.alloc(0);
    let last = Promise.resolve();
    socket.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      while (bytes.length >= 4 && bytes.length >= 4 + bytes.readInt32BE(0)) {
        const request = bytes.subarray(4, 4 + bytes.readInt32BE(0));
        bytes = bytes.subarray(4 + request.length);
        last = last.then(() => answer(socket, request));
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

function abilities(newest: typeof NEWEST): Buffer {
  const to = new Writer().int16(0);
  to.compactArray(Object.keys(KEYS) as Name[], (name) =>
    to
      .int16(KEYS[name])
      .int16(0)
      .int16(newest[name] ?? 20)
      .tags(),
  );
  return to.int32(0).tags().bytes;
}

const node = (to: Writer, broker: number, ports: ReadonlyMap<number, number>) =>
  to
    .int32(broker)
    .string('127.0.0.1')
    .int32(ports.get(broker) ?? 0);

function metadata(
  ports: ReadonlyMap<number, number>,
  controller: number,
  topics: string[],
  leadersOf: (topic: string) => number[] | undefined,
): Buffer {
  const to = new Writer().int32(0);
  to.array([...ports.keys()], (broker) => node(to, broker, ports).string(null));
  to.string(null).int32(controller);
  to.array(topics, (topic) => {
    const leaders = leadersOf(topic);
    to.int16(leaders === undefined ? UNKNOWN_TOPIC : 0)
      .string(topic)
      .bool(false);
    to.array([...(leaders ?? []).entries()], ([partition, leader]) => {
      to.int16(0).int32(partition).int32(leader);
      for (let lists = 3; lists > 0; lists -= 1) to.array([], () => {});
    });
  });
  return to.bytes;
}
const UNKNOWN_TOPIC = 3;

/** A batch in a Produce request, of version 7. */
export interface Written {
  topic: string;
  partition: number;
  producerId: bigint;
  /** Of its first record. */
  sequence: number;
  /** Of its records. */
  count: number;
  bytes: Buffer;
}

export function writtenIn(from: Reader): Written[] {
  from.string();
  from.int16();
  from.int32();
  const topics = from.array(() => {
    const topic = from.string() ?? '';
    return from.array(() => {
      const partition = from.int32();
      const bytes = from.bytes32();
      return {
        topic,
        partition,
        producerId: bytes.readBigInt64BE(43),
        sequence: bytes.readInt32BE(53),
        count: bytes.readInt32BE(57),
        bytes,
      };
    });
  });
  return topics.flat();
}

/** The answer to Produce. */
export function produced(batches: readonly Written[], codeOf: (batch: Written) => number = () => 0, throttleMs = 0): Buffer {
  const to = new Writer();
  to.array(batches, (batch) => {
    to.string(batch.topic).array([batch.partition], (partition) => {
      to.int32(partition).int16(codeOf(batch)).int64(0).int64(-1).int64(0);
    });
  });
  return to.int32(throttleMs).bytes;
}

/** The offsets that a Fetch, of version 11, asks for, of partitions 0. */
export function wantedIn(from: Reader): Array<{ topic: string; offset: number }> {
  for (let i = 0; i < 4; i += 1) from.int32();
  from.int8();
  from.int32();
  from.int32();
  const topics = from.array(() => {
    const topic = from.string() ?? '';
    return from.array(() => {
      from.int32();
      from.int32();
      const offset = Number(from.int64());
      from.int64();
      from.int32();
      return { topic, offset };
    });
  });
  return topics.flat();
}

/** The answer to Fetch, of partitions 0. */
export function fetched(given: ReadonlyArray<{ topic: string; errorCode?: number; records?: Buffer }>): Buffer {
  const to = new Writer().int32(0).int16(0).int32(0);
  to.array(given, ({ topic, errorCode = 0, records = Buffer.alloc(0) }) => {
    to.string(topic).array([0], (partition) => {
      to.int32(partition).int16(errorCode).int64(FAR).int64(FAR).int64(0);
      to.array([], () => {})
        .int32(-1)
        .bytes32(records);
    });
  });
  return to.bytes;
}
/** The end of each partition. */
const FAR = 1_000_000;
