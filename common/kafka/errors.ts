/** What can go wrong with Kafka: the brokers' answers by name, and what happens to a connection. */

/** Names of the answers that ndt meets (the protocol's error codes). */
const NAMES: { [code: number]: string } = {
  1: 'OFFSET_OUT_OF_RANGE',
  2: 'CORRUPT_MESSAGE',
  3: 'UNKNOWN_TOPIC_OR_PARTITION',
  5: 'LEADER_NOT_AVAILABLE',
  6: 'NOT_LEADER_OR_FOLLOWER',
  7: 'REQUEST_TIMED_OUT',
  8: 'BROKER_NOT_AVAILABLE',
  9: 'REPLICA_NOT_AVAILABLE',
  10: 'MESSAGE_TOO_LARGE',
  12: 'OFFSET_METADATA_TOO_LARGE',
  13: 'NETWORK_EXCEPTION',
  14: 'COORDINATOR_LOAD_IN_PROGRESS',
  15: 'COORDINATOR_NOT_AVAILABLE',
  16: 'NOT_COORDINATOR',
  17: 'INVALID_TOPIC_EXCEPTION',
  18: 'RECORD_LIST_TOO_LARGE',
  19: 'NOT_ENOUGH_REPLICAS',
  20: 'NOT_ENOUGH_REPLICAS_AFTER_APPEND',
  22: 'ILLEGAL_GENERATION',
  23: 'INCONSISTENT_GROUP_PROTOCOL',
  25: 'UNKNOWN_MEMBER_ID',
  26: 'INVALID_SESSION_TIMEOUT',
  27: 'REBALANCE_IN_PROGRESS',
  29: 'TOPIC_AUTHORIZATION_FAILED',
  30: 'GROUP_AUTHORIZATION_FAILED',
  31: 'CLUSTER_AUTHORIZATION_FAILED',
  32: 'INVALID_TIMESTAMP',
  33: 'UNSUPPORTED_SASL_MECHANISM',
  34: 'ILLEGAL_SASL_STATE',
  35: 'UNSUPPORTED_VERSION',
  36: 'TOPIC_ALREADY_EXISTS',
  37: 'INVALID_PARTITIONS',
  38: 'INVALID_REPLICATION_FACTOR',
  40: 'INVALID_CONFIG',
  41: 'NOT_CONTROLLER',
  42: 'INVALID_REQUEST',
  44: 'POLICY_VIOLATION',
  45: 'OUT_OF_ORDER_SEQUENCE_NUMBER',
  46: 'DUPLICATE_SEQUENCE_NUMBER',
  47: 'INVALID_PRODUCER_EPOCH',
  48: 'INVALID_TXN_STATE',
  49: 'INVALID_PRODUCER_ID_MAPPING',
  50: 'INVALID_TRANSACTION_TIMEOUT',
  51: 'CONCURRENT_TRANSACTIONS',
  52: 'TRANSACTION_COORDINATOR_FENCED',
  53: 'TRANSACTIONAL_ID_AUTHORIZATION_FAILED',
  55: 'OPERATION_NOT_ATTEMPTED',
  56: 'KAFKA_STORAGE_ERROR',
  58: 'SASL_AUTHENTICATION_FAILED',
  59: 'UNKNOWN_PRODUCER_ID',
  74: 'FENCED_LEADER_EPOCH',
  75: 'UNKNOWN_LEADER_EPOCH',
  76: 'UNSUPPORTED_COMPRESSION_TYPE',
  79: 'MEMBER_ID_REQUIRED',
  81: 'GROUP_MAX_SIZE_REACHED',
  87: 'INVALID_RECORD',
  88: 'UNSTABLE_OFFSET_COMMIT',
  89: 'THROTTLING_QUOTA_EXCEEDED',
  90: 'PRODUCER_FENCED',
  120: 'TRANSACTION_ABORTABLE',
};

/** Where an answer belongs: what the request was about. */
export interface Subject {
  topic?: string;
  partition?: number;
  group?: string;
  transactionalId?: string;
}

/** A broker answered with an error. */
export class KafkaError extends Error {
  /** The protocol's name of it: `TOPIC_AUTHORIZATION_FAILED`. */
  readonly type: string;
  readonly subject: Subject;

  constructor(code: number, subject: Subject = {}, detail = '') {
    const type = NAMES[code] ?? `error ${code}`;
    const about = Object.entries(subject).map(([name, value]) => `${name} ${value}`);
    super(`${type}${about.length === 0 ? '' : ` (${about.join(', ')})`}${detail === '' ? '' : `: ${detail}`}`);
    this.name = 'KafkaError';
    this.type = type;
    this.subject = subject;
  }
}

export type TransportReason = 'unreachable' | 'refused' | 'credentials' | 'certificate' | 'timeout' | 'closed' | 'incompatible';

/** A connection cannot be made, or broke. */
export class TransportError extends Error {
  readonly reason: TransportReason;
  /** `host:port` */
  readonly address: string;
  constructor(reason: TransportReason, address: string, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'TransportError';
    this.reason = reason;
    this.address = address;
  }
}

/** A record that this topic will never take, however often it is sent. */
export class RecordRefused extends Error {
  readonly topic: string;
  readonly partition: number;
  readonly type: string;
  /** Which of the messages given, by their place; one of them is the culprit. */
  readonly indices: readonly number[];
  /** Of the batch, about, before compression. */
  readonly bytes: number;
  constructor(type: string, topic: string, partition: number, indices: readonly number[], bytes: number) {
    super(`${topic} refuses ${indices.length === 1 ? 'a record' : `one of ${indices.length} records`} (${type})`);
    this.name = 'RecordRefused';
    this.type = type;
    this.topic = topic;
    this.partition = partition;
    this.indices = indices;
    this.bytes = bytes;
  }
}

/** @throws KafkaError unless the code is 0 */
export function check(code: number, subject: Subject = {}, detail?: string | null): void {
  if (code !== 0) throw new KafkaError(code, subject, detail ?? '');
}

export function typeOf(error: unknown): string | undefined {
  return error instanceof KafkaError ? error.type : undefined;
}

const LOST = new Set<TransportReason>(['unreachable', 'timeout', 'closed']);
/** The group has a new generation, or has forgotten us: join again. */
const REJOIN = new Set(['REBALANCE_IN_PROGRESS', 'ILLEGAL_GENERATION', 'UNKNOWN_MEMBER_ID']);
/** Somebody else has our transactional id, or the coordinator gave our transaction up. */
const FENCED = new Set(['INVALID_PRODUCER_EPOCH', 'PRODUCER_FENCED', 'INVALID_PRODUCER_ID_MAPPING']);
/** The coordinator is elsewhere, or not there yet. */
const COORDINATOR = new Set(['COORDINATOR_LOAD_IN_PROGRESS', 'COORDINATOR_NOT_AVAILABLE', 'NOT_COORDINATOR']);
/** The leader is elsewhere, or the topic is not there (yet): look at the metadata again. */
const LEADER = new Set([
  'UNKNOWN_TOPIC_OR_PARTITION',
  'LEADER_NOT_AVAILABLE',
  'NOT_LEADER_OR_FOLLOWER',
  'REPLICA_NOT_AVAILABLE',
  'FENCED_LEADER_EPOCH',
  'UNKNOWN_LEADER_EPOCH',
  'KAFKA_STORAGE_ERROR',
  'BROKER_NOT_AVAILABLE',
]);
const PASSING = new Set([
  'REQUEST_TIMED_OUT',
  'NETWORK_EXCEPTION',
  'NOT_ENOUGH_REPLICAS',
  'NOT_ENOUGH_REPLICAS_AFTER_APPEND',
  'THROTTLING_QUOTA_EXCEEDED',
]);
/** A transaction is being ended. */
const BUSY = new Set(['CONCURRENT_TRANSACTIONS', 'UNSTABLE_OFFSET_COMMIT']);
const REFUSED = new Set([
  'MESSAGE_TOO_LARGE',
  'RECORD_LIST_TOO_LARGE',
  'INVALID_RECORD',
  'INVALID_TIMESTAMP',
  'UNSUPPORTED_COMPRESSION_TYPE',
]);

/** A link that may be back at any moment, rather than a password that will not mend itself. */
export const isLost = (error: unknown): boolean => error instanceof TransportError && LOST.has(error.reason);
export const isRejoin = (error: unknown): boolean => REJOIN.has(typeOf(error) ?? '');
export const isFenced = (error: unknown): boolean => FENCED.has(typeOf(error) ?? '');
export const isCoordinatorMove = (error: unknown): boolean => COORDINATOR.has(typeOf(error) ?? '');
export const isLeaderMove = (type: string | undefined): boolean => LEADER.has(type ?? '');
export const isPassing = (type: string | undefined): boolean => LEADER.has(type ?? '') || PASSING.has(type ?? '');
export const isBusy = (type: string | undefined): boolean => BUSY.has(type ?? '') || PASSING.has(type ?? '');
export const isRefusal = (type: string): boolean => REFUSED.has(type);
