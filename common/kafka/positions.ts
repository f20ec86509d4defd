/** Positions of consumer groups, and the ends of partitions. */
import type { Cluster } from './cluster.ts';
import { check, KafkaError } from './errors.ts';
import { persist } from './persist.ts';
import { codesOf, LIST_OFFSETS, OFFSET_COMMIT, OFFSET_FETCH } from './requests.ts';

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

/** The same, of their numbers. */
export const numbersByTopic = (items: Iterable<TopicPartition>): Array<{ topic: string; partitions: number[] }> =>
  byTopic(items).map(({ topic, partitions }) => ({ topic, partitions: partitions.map(({ partition }) => partition) }));

/** What a group has committed, by `keyOf`; partitions without a position are not in it. */
export async function committedPositions(
  cluster: Cluster,
  group: string,
  partitions: readonly TopicPartition[],
): Promise<Map<string, Position>> {
  const found = new Map<string, Position>();
  if (partitions.length === 0) return found;
  const question = { group, topics: numbersByTopic(partitions) };
  const ask = () =>
    cluster.askCoordinator('group', group, 'main', OFFSET_FETCH, question, ({ errorCode, topics }) => [
      errorCode,
      ...codesOf(topics).map((code) => code.errorCode),
    ]);
  const { topics } = await persist(cluster, performance.now() + WITHIN_MS, ask);
  for (const { topic, partitions: answers } of topics) {
    for (const { partition, offset, metadata } of answers) {
      if (offset >= 0) found.set(keyOf({ topic, partition }), { topic, partition, offset, metadata: metadata ?? '' });
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
  const question = { group, ...member, topics: byTopic(positions) };
  await persist(cluster, performance.now() + WITHIN_MS, () =>
    cluster.askCoordinator('group', group, 'main', OFFSET_COMMIT, question, ({ topics }) =>
      codesOf(topics).map(({ errorCode }) => errorCode),
    ),
  );
}

const WITHIN_MS = 5000;
const TIME = { start: -2, end: -1 };

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
    const topics = byTopic(led.map((at) => ({ ...at, time: TIME[which] })));
    const { topics: answers } = await cluster.ask(leader, 'main', LIST_OFFSETS, { level, topics });
    for (const { topic, partitions: listed } of answers) {
      for (const { partition, errorCode, offset } of listed) {
        check(errorCode, { topic, partition });
        found.set(keyOf({ topic, partition }), offset);
      }
    }
  }
  return found;
}
