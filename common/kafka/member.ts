/**
 * A member of a consumer group: joins, shares the partitions out when it is the leader, and tells when it has to join again.
 *
 * Beside its partitions each member gets a seat, and with it a transactional id and the producer's epoch under that id. The leader takes
 * all seats' ids anew before it tells anyone their share, which ends and shuts out whatever an earlier generation had open. So nobody
 * begins before everybody of before has been stopped; docs/decisions/kafka-exactly-once.md has the argument.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs from 'kafkajs';
import type { Cluster } from './cluster.ts';
import { isCoordinatorMove, isRejoin, TransportError, typeOf } from './errors.ts';
import { persist } from './persist.ts';
import type { TopicPartition } from './positions.ts';
import type { ProducerId } from './producer-id.ts';
import { type Api, type Code, HEARTBEAT, JOIN_GROUP, LEAVE_GROUP, SYNC_GROUP } from './requests.ts';

export interface Share {
  partitions: TopicPartition[];
  /** Undefined where there are more members than seats. */
  seat: (ProducerId & { number: number }) | undefined;
}

export interface Joined extends Share {
  leader: boolean;
  /** Not so where the group had not changed since we joined before: it is the share, and the seat's epoch, of that time. */
  fresh: boolean;
}

const { MemberMetadata, MemberAssignment } = kafkajs.AssignerProtocol;
const PROTOCOL = 'ndt-seats';
const MEMBER_ID_REQUIRED = 79;
const WITHIN_MS = 5000;

export class Member {
  generation = -1;
  memberId = '';
  private readonly cluster: Cluster;
  private readonly group: string;
  private readonly sessionMs: number;
  private beating: AbortController | undefined;
  private over = Promise.withResolvers<void>();
  private isOver = false;

  constructor(cluster: Cluster, group: string, sessionMs: number) {
    this.cluster = cluster;
    this.group = group;
    this.sessionMs = sessionMs;
  }

  /** Whether the share is to be given up, and joined for again. */
  get mustRejoin(): boolean {
    return this.isOver;
  }

  /** Resolves when `mustRejoin`. */
  get ended(): Promise<void> {
    return this.over.promise;
  }

  /**
   * Joins, and waits for its share.
   * @param topics what it can see to share out; the leader's count
   * @param assign shares out, where we are the leader: by member id
   */
  async join(topics: readonly string[], assign: (members: string[]) => Promise<Map<string, Share>>): Promise<Joined> {
    this.stopHeartbeat();
    try {
      const answer = await this.askToJoin(topics);
      const fresh = answer.generation !== this.generation;
      this.generation = answer.generation;
      this.memberId = answer.memberId;
      const leader = answer.leaderId === answer.memberId;
      const shares = leader ? await assign(answer.members.map(({ memberId }) => memberId)) : new Map<string, Share>();
      const encoded = [...shares].map(([memberId, share]) => ({ memberId, share: encodeShare(share) }));
      const { share } = await this.ask(SYNC_GROUP, { ...this.identity, shares: encoded });
      this.over = Promise.withResolvers();
      this.isOver = false;
      void this.heartbeats();
      return { ...decodeShare(share), leader, fresh };
    } catch (error) {
      if (typeOf(error) === 'UNKNOWN_MEMBER_ID') this.memberId = '';
      throw error;
    }
  }

  /** Gives the share up, to join again. */
  rejoin(): void {
    this.isOver = true;
    this.over.resolve();
  }

  /** @throws KafkaError where the generation is not the group's any more */
  async heartbeat(): Promise<void> {
    await this.ask(HEARTBEAT, this.identity);
  }

  async leave(): Promise<void> {
    this.stopHeartbeat();
    if (this.memberId === '') return;
    const memberId = this.memberId;
    this.memberId = '';
    await this.ask(LEAVE_GROUP, { group: this.group, memberId });
  }

  stopHeartbeat(): void {
    this.beating?.abort();
    this.beating = undefined;
  }

  private get identity() {
    return { group: this.group, generation: this.generation, memberId: this.memberId };
  }

  private async askToJoin(topics: readonly string[]) {
    const metadata = MemberMetadata.encode({ version: 0, topics: [...topics], userData: Buffer.alloc(0) });
    const request = (memberId: string) => ({
      group: this.group,
      sessionMs: this.sessionMs,
      rebalanceMs: 3 * this.sessionMs,
      memberId,
      protocolType: 'consumer',
      protocols: [{ name: PROTOCOL, metadata }],
    });
    const first = await persist(this.cluster, performance.now() + WITHIN_MS, () =>
      this.cluster.askCoordinator('group', this.group, 'group', JOIN_GROUP, request(this.memberId), ({ errorCode }) =>
        errorCode === MEMBER_ID_REQUIRED ? [] : [errorCode],
      ),
    );
    if (first.errorCode === 0) return first;
    // Kept, however this ends: under another one we would be in the group twice.
    this.memberId = first.memberId;
    return await this.ask(JOIN_GROUP, request(first.memberId));
  }

  private ask<Question, Answer extends Code>(api: Api<Question, Answer>, question: Question): Promise<Answer> {
    return this.cluster.askCoordinator('group', this.group, 'group', api, question, ({ errorCode }) => [errorCode]);
  }

  private async heartbeats(): Promise<void> {
    const beating = new AbortController();
    this.beating = beating;
    let well = performance.now();
    while (!beating.signal.aborted) {
      await sleep(Math.min(1000, this.sessionMs / 5), undefined, { signal: beating.signal, ref: false }).catch(() => {});
      if (beating.signal.aborted) return;
      try {
        await this.heartbeat();
        well = performance.now();
      } catch (error) {
        if (beating.signal.aborted) return;
        // A coordinator that is away for a moment is no reason to stop working; one that has given us up is.
        const passing = error instanceof TransportError || isCoordinatorMove(error);
        if (isRejoin(error) || !passing || performance.now() - well > this.sessionMs) {
          if (typeOf(error) === 'UNKNOWN_MEMBER_ID') this.memberId = '';
          this.rejoin();
          return;
        }
      }
    }
  }
}

function encodeShare({ partitions, seat }: Share): Buffer {
  const assignment: { [topic: string]: number[] } = {};
  for (const { topic, partition } of partitions) assignment[topic] = [...(assignment[topic] ?? []), partition];
  return MemberAssignment.encode({ version: 0, assignment, userData: Buffer.from(JSON.stringify(seat ?? null)) });
}

function decodeShare(bytes: Buffer): Share {
  const decoded = bytes.length === 0 ? null : MemberAssignment.decode(bytes);
  if (decoded === null) return { partitions: [], seat: undefined };
  const partitions = Object.entries(decoded.assignment).flatMap(([topic, numbers]) => numbers.map((partition) => ({ topic, partition })));
  const seat = JSON.parse(decoded.userData.toString() || 'null') as Share['seat'] | null;
  return { partitions, seat: seat ?? undefined };
}
