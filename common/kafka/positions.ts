/** Positions of consumer groups, and the ends of partitions. */
import type { Cluster } from './cluster.ts';
import { check, KafkaError } from './errors.ts';
import { persist } from './persist.ts';

export interface TopicPartition {
  topic: string;
  partition: number;
}

export interface Position extends TopicPartition {
  /** The next offset to read. */
  offset: number;
  metadata?: string;
}

export const keyOf = ({ topic, partition }: TopicPartition): string => `${topic} ${partition}`;

interface PartitionAnswer {
  partition: number;
  errorCode: number;
}
interface FetchAnswer {
  errorCode: number;
  responses: Array<{ topic: string; partitions: Array<PartitionAnswer & { offset: string; metadata: string | null }> }>;
}
interface CommitAnswer {
  responses: Array<{ topic: string; partitions: PartitionAnswer[] }>;
}
interface ListAnswer {
  responses: Array<{ topic: string; partitions: Array<PartitionAnswer & { offset: string }> }>;
}

/** As the requests want it: partitions by topic. */
export function byTopic<T extends TopicPartition>(items: Iterable<T>): Array<{ topic: string; partitions: T[] }> {
  const topics = new Map<string, T[]>();
  for (const item of items) {
    const there = topics.get(item.topic);
    if (there === undefined) topics.set(item.topic, [item]);
    else there.push(item);
  }
  return [...topics].map(([topic, partitions]) => ({ topic, partitions }));
}

/** What a group has committed, by `keyOf`; partitions without a position are not in it. */
export async function committedPositions(
  cluster: Cluster,
  group: string,
  partitions: readonly TopicPartition[],
): Promise<Map<string, Position>> {
  const found = new Map<string, Position>();
  if (partitions.length === 0) return found;
  const codes = ({ errorCode, responses }: FetchAnswer) => [errorCode, ...responses.flatMap((r) => r.partitions.map((p) => p.errorCode))];
  const args = { groupId: group, topics: byTopic(partitions) };
  const ask = () => cluster.askCoordinator<FetchAnswer>('group', group, 'main', 'OffsetFetch', args, codes);
  const { responses } = await persist(cluster, performance.now() + WITHIN_MS, ask);
  for (const { topic, partitions: answers } of responses) {
    for (const { partition, offset, metadata } of answers) {
      if (Number(offset) >= 0)
        found.set(keyOf({ topic, partition }), { topic, partition, offset: Number(offset), metadata: metadata ?? '' });
    }
  }
  return found;
}

/** Commits as a member of the group: refused where the group has moved on. */
export async function commitPositions(
  cluster: Cluster,
  group: string,
  member: { generation: number; memberId: string },
  positions: readonly Position[],
): Promise<void> {
  const topics = byTopic(
    positions.map((position) => ({ ...position, offset: String(position.offset), metadata: position.metadata ?? '' })),
  );
  const args = { groupId: group, groupGenerationId: member.generation, memberId: member.memberId, topics };
  const codes = ({ responses }: CommitAnswer) => responses.flatMap((r) => r.partitions.map((p) => p.errorCode));
  await persist(cluster, performance.now() + WITHIN_MS, () =>
    cluster.askCoordinator<CommitAnswer>('group', group, 'main', 'OffsetCommit', args, codes),
  );
}

const WITHIN_MS = 5000;
const TIME = { start: '-2', end: '-1' };

/**
 * Where partitions begin or end, by `keyOf`.
 * @param level 1: the end of what is committed; 0: the end of what is there
 */
export async function boundsOf(
  cluster: Cluster,
  which: 'start' | 'end',
  partitions: readonly TopicPartition[],
  level: 0 | 1 = 1,
): Promise<Map<string, number>> {
  const leaders = new Map<number, TopicPartition[]>();
  for (const at of partitions) {
    const leader = cluster.leaderOf(at.topic, at.partition);
    if (leader === undefined) throw new KafkaError(5, { topic: at.topic, partition: at.partition });
    leaders.set(leader, [...(leaders.get(leader) ?? []), at]);
  }
  const found = new Map<string, number>();
  for (const [leader, led] of leaders) {
    const topics = byTopic(led.map((at) => ({ ...at, timestamp: TIME[which] })));
    const { responses } = await cluster.ask<ListAnswer>(leader, 'main', 'ListOffsets', { isolationLevel: level, topics });
    for (const { topic, partitions: answers } of responses) {
      for (const { partition, errorCode, offset } of answers) {
        check(errorCode, { topic, partition });
        found.set(keyOf({ topic, partition }), Number(offset));
      }
    }
  }
  return found;
}
