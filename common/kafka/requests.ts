/**
 * The requests that ndt makes of Kafka, each in one version that every broker from 2.4 to 4.x takes (Apache Kafka's protocol guide), or in
 * a later one that names an `older`. Those whose names end in `V2` belong to transactions version 2 (KIP-890), of clusters whose brokers are all of 4.0 or later.
 *
 * Answers carry their error codes: they are the caller's to look at.
 */
import { VERSION } from '../cli.ts';
import type { ProducerId } from './producer-id.ts';
import type { Reader, Writer } from './wire.ts';

/** A kind of request, and how its question is written and its answer read. */
export interface Api<Question, Answer> {
  /** The protocol's name of it. */
  name: string;
  key: number;
  version: number;
  /** Whether the version is a flexible one: the headers have tagged fields then. */
  flexible?: true;
  /** Asked instead of a broker that does not take this version. */
  older?: Api<Question, Answer>;
  write(to: Writer, question: Question): void;
  read(from: Reader): Answer | Promise<Answer>;
}

export interface ByTopic<T> {
  topic: string;
  partitions: T[];
}
interface PartitionCode {
  partition: number;
  errorCode: number;
}
export interface Code {
  errorCode: number;
}

/** Of an answer of the shape of `ByTopic<PartitionCode>`. */
export const codesOf = (topics: ReadonlyArray<ByTopic<PartitionCode>>): Array<PartitionCode & { topic: string }> =>
  topics.flatMap(({ topic, partitions }) => partitions.map(({ partition, errorCode }) => ({ topic, partition, errorCode })));

const readPartitionCodes = (from: Reader): Array<ByTopic<PartitionCode>> =>
  from.array(() => ({
    topic: from.string() ?? '',
    partitions: from.array(() => ({ partition: from.int32(), errorCode: from.int16() })),
  }));

function readThrottledCode(from: Reader): Code {
  from.throttle();
  return { errorCode: from.int16() };
}

export interface BrokerAbilities extends Code {
  versions: Map<number, { min: number; max: number }>;
  /** The cluster's finalized features: their levels by name. */
  features: Map<string, number>;
}

/** Where a broker knows another version only, the answer is in version 0 and holds no more than the error. */
export const API_VERSIONS: Api<undefined, BrokerAbilities> = {
  name: 'ApiVersions',
  key: 18,
  version: 3,
  flexible: true,
  write(to) {
    to.compactString('ndt').compactString(VERSION).tags();
  },
  read(from) {
    const abilities: BrokerAbilities = { errorCode: from.int16(), versions: new Map(), features: new Map() };
    if (abilities.errorCode !== 0) return abilities;
    from.compactArray(() => {
      abilities.versions.set(from.int16(), { min: from.int16(), max: from.int16() });
      from.tags();
    });
    from.throttle();
    from.tags((tag, field) => {
      if (tag !== FINALIZED_FEATURES) return;
      field.compactArray(() => {
        abilities.features.set(field.compactString() ?? '', field.int16());
        field.int16();
        field.tags();
      });
    });
    return abilities;
  },
};
const FINALIZED_FEATURES = 2;

export const SASL_HANDSHAKE: Api<{ mechanism: string }, Code & { offered: string[] }> = {
  name: 'SaslHandshake',
  key: 17,
  version: 1,
  write(to, { mechanism }) {
    to.string(mechanism);
  },
  read(from) {
    return { errorCode: from.int16(), offered: from.array(() => from.string() ?? '') };
  },
};

export const SASL_AUTHENTICATE: Api<{ bytes: Buffer }, Code & { errorMessage: string | null; bytes: Buffer; lifetimeMs: number }> = {
  name: 'SaslAuthenticate',
  key: 36,
  version: 1,
  write(to, { bytes }) {
    to.bytes32(bytes);
  },
  read(from) {
    return { errorCode: from.int16(), errorMessage: from.string(), bytes: from.bytes32(), lifetimeMs: Number(from.int64()) };
  },
};

export interface BrokerAddress {
  nodeId: number;
  host: string;
  port: number;
}

/** `topics` null: all of them. */
export const METADATA: Api<
  { topics: readonly string[] | null },
  {
    brokers: BrokerAddress[];
    /** -1: there is none at the moment. */
    controller: number;
    topics: Array<Code & { topic: string; partitions: Array<{ partition: number; leader: number }> }>;
  }
> = {
  name: 'Metadata',
  key: 3,
  version: 6,
  write(to, { topics }) {
    // No topic is made by asking for it.
    to.array(topics, (topic) => to.string(topic)).bool(false);
  },
  read(from) {
    from.throttle();
    const brokers = from.array(() => {
      const broker = { nodeId: from.int32(), host: from.string() ?? '', port: from.int32() };
      from.string();
      return broker;
    });
    from.string();
    const controller = from.int32();
    const nodes = () => from.array(() => from.int32());
    const topics = from.array(() => {
      const errorCode = from.int16();
      const topic = from.string() ?? '';
      from.bool();
      const partitions = from.array(() => {
        from.int16();
        const info = { partition: from.int32(), leader: from.int32() };
        for (let lists = 3; lists > 0; lists -= 1) nodes();
        return info;
      });
      return { errorCode, topic, partitions };
    });
    return { brokers, controller, topics };
  },
};

/** `kind` 0: of a group, 1: of a transactional id. */
export const FIND_COORDINATOR: Api<{ key: string; kind: 0 | 1 }, Code & { errorMessage: string | null; coordinator: BrokerAddress }> = {
  name: 'FindCoordinator',
  key: 10,
  version: 2,
  write(to, { key, kind }) {
    to.string(key).int8(kind);
  },
  read(from) {
    return {
      ...readThrottledCode(from),
      errorMessage: from.string(),
      coordinator: { nodeId: from.int32(), host: from.string() ?? '', port: from.int32() },
    };
  },
};

export const INIT_PRODUCER_ID: Api<{ transactionalId: string | null; timeoutMs: number }, Code & ProducerId> = {
  name: 'InitProducerId',
  key: 22,
  version: 1,
  write(to, { transactionalId, timeoutMs }) {
    to.string(transactionalId).int32(timeoutMs);
  },
  read(from) {
    return { ...readThrottledCode(from), producerId: from.int64(), producerEpoch: from.int16() };
  },
};

type InTransaction = ProducerId & { transactionalId: string };

const writeProducer = (to: Writer, { transactionalId, producerId, producerEpoch }: InTransaction) =>
  to.string(transactionalId).int64(producerId).int16(producerEpoch);

export const ADD_PARTITIONS: Api<InTransaction & { topics: Array<ByTopic<number>> }, { topics: Array<ByTopic<PartitionCode>> }> = {
  name: 'AddPartitionsToTxn',
  key: 24,
  version: 1,
  write(to, question) {
    writeProducer(to, question).array(question.topics, ({ topic, partitions }) =>
      to.string(topic).array(partitions, (partition) => to.int32(partition)),
    );
  },
  read(from) {
    from.throttle();
    return { topics: readPartitionCodes(from) };
  },
};

export const ADD_OFFSETS: Api<InTransaction & { group: string }, Code> = {
  name: 'AddOffsetsToTxn',
  key: 25,
  version: 1,
  write(to, question) {
    writeProducer(to, question).string(question.group);
  },
  read: readThrottledCode,
};

type OffsetCommit = InTransaction & { group: string; topics: Array<ByTopic<PlacedOffset>> };

interface PlacedOffset {
  partition: number;
  offset: number;
  metadata?: string;
}

export const TXN_OFFSET_COMMIT: Api<OffsetCommit, { topics: Array<ByTopic<PartitionCode>> }> = {
  name: 'TxnOffsetCommit',
  key: 28,
  version: 1,
  write(to, { transactionalId, producerId, producerEpoch, group, topics }) {
    to.string(transactionalId).string(group).int64(producerId).int16(producerEpoch);
    writeOffsets(to, topics);
  },
  read(from) {
    from.throttle();
    return { topics: readPartitionCodes(from) };
  },
};

/** The group's partition joins the transaction by it. */
export const TXN_OFFSET_COMMIT_V2: typeof TXN_OFFSET_COMMIT = {
  name: 'TxnOffsetCommit',
  key: 28,
  version: 5,
  flexible: true,
  write(to, { transactionalId, producerId, producerEpoch, group, topics }) {
    to.compactString(transactionalId).compactString(group).int64(producerId).int16(producerEpoch);
    to.int32(NO_MEMBER.generation).compactString(NO_MEMBER.id).compactString(NOT_STATIC);
    to.compactArray(topics, ({ topic, partitions }) =>
      to
        .compactString(topic)
        .compactArray(partitions, ({ partition, offset, metadata }) =>
          to
            .int32(partition)
            .int64(offset)
            .int32(NO_LEADER_EPOCH)
            .compactString(metadata ?? '')
            .tags(),
        )
        .tags(),
    );
    to.tags();
  },
  read(from) {
    from.throttle();
    const topics = from.compactArray(() => {
      const topic = from.compactString() ?? '';
      const partitions = from.compactArray(() => {
        const code = { partition: from.int32(), errorCode: from.int16() };
        from.tags();
        return code;
      });
      from.tags();
      return { topic, partitions };
    });
    return { topics };
  },
};
const NO_MEMBER = { generation: -1, id: '' };
const NO_LEADER_EPOCH = -1;

function writeOffsets(to: Writer, topics: ReadonlyArray<ByTopic<PlacedOffset>>): void {
  to.array(topics, ({ topic, partitions }) =>
    to.string(topic).array(partitions, ({ partition, offset, metadata }) =>
      to
        .int32(partition)
        .int64(offset)
        .string(metadata ?? ''),
    ),
  );
}

export const END_TXN: Api<InTransaction & { commit: boolean }, Code> = {
  name: 'EndTxn',
  key: 26,
  version: 1,
  write(to, question) {
    writeProducer(to, question).bool(question.commit);
  },
  read: readThrottledCode,
};

/** The next transaction's id and epoch come with the answer. */
export const END_TXN_V2: Api<InTransaction & { commit: boolean }, Code & ProducerId> = {
  name: 'EndTxn',
  key: 26,
  version: 5,
  flexible: true,
  write(to, { transactionalId, producerId, producerEpoch, commit }) {
    to.compactString(transactionalId).int64(producerId).int16(producerEpoch).bool(commit).tags();
  },
  read(from) {
    return { ...readThrottledCode(from), producerId: from.int64(), producerEpoch: from.int16() };
  },
};

export interface ProduceQuestion {
  transactionalId: string | null;
  /** How long the brokers may take to have it everywhere [ms]. */
  timeoutMs: number;
  /** Record batches, ready. */
  topics: Array<ByTopic<{ partition: number; batch: Buffer }>>;
}

const ACKS_ALL = -1;

export const PRODUCE: Api<ProduceQuestion, { topics: Array<ByTopic<PartitionCode>> }> = {
  name: 'Produce',
  key: 0,
  version: 7,
  write(to, { transactionalId, timeoutMs, topics }) {
    to.string(transactionalId).int16(ACKS_ALL).int32(timeoutMs);
    to.array(topics, ({ topic, partitions }) =>
      to.string(topic).array(partitions, ({ partition, batch }) => to.int32(partition).bytes32(batch)),
    );
  },
  read(from) {
    const topics = from.array(() => ({
      topic: from.string() ?? '',
      partitions: from.array(() => {
        const code = { partition: from.int32(), errorCode: from.int16() };
        from.take(OFFSET_TIME_START);
        return code;
      }),
    }));
    from.throttle();
    return { topics };
  },
};
/** Base offset, append time and log start offset. */
const OFFSET_TIME_START = 24;

/** Its partitions join the transaction by it. */
export const PRODUCE_V2: typeof PRODUCE = {
  name: 'Produce',
  key: 0,
  version: 12,
  flexible: true,
  write(to, { transactionalId, timeoutMs, topics }) {
    to.compactString(transactionalId).int16(ACKS_ALL).int32(timeoutMs);
    to.compactArray(topics, ({ topic, partitions }) =>
      to
        .compactString(topic)
        .compactArray(partitions, ({ partition, batch }) => to.int32(partition).compactBytes(batch).tags())
        .tags(),
    );
    to.tags();
  },
  read(from) {
    const topics = from.compactArray(() => {
      const topic = from.compactString() ?? '';
      const partitions = from.compactArray(() => {
        const code = { partition: from.int32(), errorCode: from.int16() };
        from.take(OFFSET_TIME_START);
        from.compactArray(() => {
          from.int32();
          from.compactString();
          from.tags();
        });
        from.compactString();
        from.tags();
        return code;
      });
      from.tags();
      return { topic, partitions };
    });
    from.throttle();
    return { topics };
  },
};

/** Where a transaction that is still open has a position, the answer may be the one before. */
export const OFFSET_FETCH_UNSTABLE: Api<
  { group: string; topics: Array<ByTopic<number>> },
  Code & { topics: Array<ByTopic<PartitionCode & { offset: number; metadata: string | null }>> }
> = {
  name: 'OffsetFetch',
  key: 9,
  version: 4,
  write(to, { group, topics }) {
    to.string(group).array(topics, ({ topic, partitions }) => to.string(topic).array(partitions, (partition) => to.int32(partition)));
  },
  read(from) {
    from.throttle();
    const topics = from.array(() => ({
      topic: from.string() ?? '',
      partitions: from.array(() => ({
        partition: from.int32(),
        offset: Number(from.int64()),
        metadata: from.string(),
        errorCode: from.int16(),
      })),
    }));
    return { topics, errorCode: from.int16() };
  },
};

/** Such a partition has the code UNSTABLE_OFFSET_COMMIT instead (KIP-447, brokers from 2.5). */
export const OFFSET_FETCH: typeof OFFSET_FETCH_UNSTABLE = {
  name: 'OffsetFetch',
  key: 9,
  version: 7,
  flexible: true,
  older: OFFSET_FETCH_UNSTABLE,
  write(to, { group, topics }) {
    to.compactString(group).compactArray(topics, ({ topic, partitions }) =>
      to
        .compactString(topic)
        .compactArray(partitions, (partition) => to.int32(partition))
        .tags(),
    );
    to.bool(REQUIRE_STABLE).tags();
  },
  read(from) {
    from.throttle();
    const topics = from.compactArray(() => {
      const topic = from.compactString() ?? '';
      const partitions = from.compactArray(() => {
        const partition = from.int32();
        const offset = Number(from.int64());
        from.int32();
        const answer = { partition, offset, metadata: from.compactString(), errorCode: from.int16() };
        from.tags();
        return answer;
      });
      from.tags();
      return { topic, partitions };
    });
    return { topics, errorCode: from.int16() };
  },
};
const REQUIRE_STABLE = true;

interface InGroup {
  group: string;
  generation: number;
  memberId: string;
}

export const OFFSET_COMMIT: Api<InGroup & { topics: Array<ByTopic<PlacedOffset>> }, { topics: Array<ByTopic<PartitionCode>> }> = {
  name: 'OffsetCommit',
  key: 8,
  version: 5,
  write(to, { group, generation, memberId, topics }) {
    to.string(group).int32(generation).string(memberId);
    writeOffsets(to, topics);
  },
  read(from) {
    from.throttle();
    return { topics: readPartitionCodes(from) };
  },
};

export const NO_REPLICA = -1;

/** `level` 1: of what is committed. `time`: Unix ms, -1 the end, -2 the start. */
export const LIST_OFFSETS: Api<
  { level: 0 | 1; topics: Array<ByTopic<{ partition: number; time: number }>> },
  { topics: Array<ByTopic<PartitionCode & { offset: number }>> }
> = {
  name: 'ListOffsets',
  key: 2,
  version: 3,
  write(to, { level, topics }) {
    to.int32(NO_REPLICA).int8(level);
    to.array(topics, ({ topic, partitions }) =>
      to.string(topic).array(partitions, ({ partition, time }) => to.int32(partition).int64(time)),
    );
  },
  read(from) {
    from.throttle();
    const topics = from.array(() => ({
      topic: from.string() ?? '',
      partitions: from.array(() => {
        const code = { partition: from.int32(), errorCode: from.int16() };
        from.int64();
        return { ...code, offset: Number(from.int64()) };
      }),
    }));
    return { topics };
  },
};

const NOT_STATIC = null;

export const JOIN_GROUP: Api<
  {
    group: string;
    sessionMs: number;
    rebalanceMs: number;
    memberId: string;
    protocolType: string;
    protocols: Array<{ name: string; metadata: Buffer }>;
  },
  Code & { generation: number; leaderId: string; memberId: string; members: Array<{ memberId: string; metadata: Buffer }> }
> = {
  name: 'JoinGroup',
  key: 11,
  version: 5,
  write(to, { group, sessionMs, rebalanceMs, memberId, protocolType, protocols }) {
    to.string(group).int32(sessionMs).int32(rebalanceMs).string(memberId).string(NOT_STATIC).string(protocolType);
    to.array(protocols, ({ name, metadata }) => to.string(name).bytes32(metadata));
  },
  read(from) {
    const code = readThrottledCode(from);
    const generation = from.int32();
    from.string();
    const leaderId = from.string() ?? '';
    const memberId = from.string() ?? '';
    const members = from.array(() => {
      const member = from.string() ?? '';
      from.string();
      return { memberId: member, metadata: from.bytes32() };
    });
    return { ...code, generation, leaderId, memberId, members };
  },
};

export const SYNC_GROUP: Api<InGroup & { shares: Array<{ memberId: string; share: Buffer }> }, Code & { share: Buffer }> = {
  name: 'SyncGroup',
  key: 14,
  version: 3,
  write(to, { group, generation, memberId, shares }) {
    to.string(group).int32(generation).string(memberId).string(NOT_STATIC);
    to.array(shares, ({ memberId: member, share }) => to.string(member).bytes32(share));
  },
  read(from) {
    return { ...readThrottledCode(from), share: from.bytes32() };
  },
};

export const HEARTBEAT: Api<InGroup, Code> = {
  name: 'Heartbeat',
  key: 12,
  version: 3,
  write(to, { group, generation, memberId }) {
    to.string(group).int32(generation).string(memberId).string(NOT_STATIC);
  },
  read: readThrottledCode,
};

export const LEAVE_GROUP: Api<{ group: string; memberId: string }, Code> = {
  name: 'LeaveGroup',
  key: 13,
  version: 3,
  write(to, { group, memberId }) {
    to.string(group).array([memberId], (member) => to.string(member).string(NOT_STATIC));
  },
  read: readThrottledCode,
};

export interface TopicWish {
  topic: string;
  partitions: number;
  replication: number;
  config: Array<{ name: string; value: string }>;
}

export const CREATE_TOPICS: Api<
  { topics: readonly TopicWish[]; timeoutMs: number; validateOnly: boolean },
  { topics: Array<Code & { topic: string; errorMessage: string | null }> }
> = {
  name: 'CreateTopics',
  key: 19,
  version: 3,
  write(to, { topics, timeoutMs, validateOnly }) {
    to.array(topics, ({ topic, partitions, replication, config }) =>
      to
        .string(topic)
        .int32(partitions)
        .int16(replication)
        // The brokers place the copies.
        .array([], () => {})
        .array(config, ({ name, value }) => to.string(name).string(value)),
    );
    to.int32(timeoutMs).bool(validateOnly);
  },
  read(from) {
    from.throttle();
    return { topics: from.array(() => ({ topic: from.string() ?? '', errorCode: from.int16(), errorMessage: from.string() })) };
  },
};
