/**
 * The brokers as one: who leads a partition, who coordinates a group, and connections to them.
 *
 * A connection is made when it is needed and dropped at its first fault; nothing is tried again here. What is asked on one connection
 * is answered in turn, so a request that waits for something (a fetch, a join) has a lane, and thereby a connection, of its own.
 */
import { messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { BrokerConnection, type Endpoint } from './connection.ts';
import { check, isCoordinatorMove, KafkaError, TransportError } from './errors.ts';
import { type Api, type BrokerAddress, FIND_COORDINATOR, METADATA } from './requests.ts';
import type { ClientSettings } from './settings.ts';

export interface PartitionInfo {
  partition: number;
  /** The leader's node id, -1 where there is none at the moment. */
  leader: number;
}

export interface TopicInfo {
  partitions: PartitionInfo[];
}

export type CoordinatorKind = 'group' | 'transaction';

export class Cluster {
  readonly settings: ClientSettings;
  /** Of the topics asked for so far, as last heard. */
  readonly topics = new Map<string, TopicInfo>();
  /** Who makes topics, where the brokers do not pass that on (those with ZooKeeper); -1: not known. */
  controller = -1;
  private readonly log: Logger;
  private readonly nodes = new Map<number, Endpoint>();
  private readonly connections = new Map<string, Promise<BrokerConnection>>();
  private readonly open = new Set<BrokerConnection>();
  private readonly coordinators = new Map<string, number>();
  private readonly life = new AbortController();
  private round = new AbortController();

  constructor(settings: ClientSettings, log: Logger) {
    this.settings = settings;
    this.log = log;
  }

  get connected(): boolean {
    return this.open.size > 0;
  }

  /** Aborts when it is closed. */
  get signal(): AbortSignal {
    return this.life.signal;
  }

  get closed(): boolean {
    return this.life.signal.aborted;
  }

  /** Asks for topics, or for all of them; those that do not exist are not in the answer. */
  async refresh(topics?: readonly string[]): Promise<ReadonlyMap<string, TopicInfo>> {
    const answer = await this.ask('any', 'main', METADATA, { topics: topics ?? null });
    this.nodes.clear();
    for (const broker of answer.brokers) this.learn(broker);
    this.controller = answer.controller;
    if (topics === undefined) this.topics.clear();
    const found = new Map<string, TopicInfo>();
    for (const { topic, errorCode, partitions } of answer.topics) {
      this.topics.delete(topic);
      if (errorCode === 29) throw new KafkaError(errorCode, { topic });
      if (errorCode !== 0) continue;
      const info = { partitions: partitions.sort((a, b) => a.partition - b.partition) };
      found.set(topic, info);
      this.topics.set(topic, info);
    }
    return found;
  }

  /** The node that leads a partition, by what was last heard; undefined where there is none. */
  leaderOf(topic: string, partition: number): number | undefined {
    const leader = this.topics.get(topic)?.partitions.find((info) => info.partition === partition)?.leader;
    return leader === undefined || leader < 0 ? undefined : leader;
  }

  /** @throws KafkaError COORDINATOR_NOT_AVAILABLE while it is being settled */
  async coordinatorOf(kind: CoordinatorKind, key: string): Promise<number> {
    const id = `${kind}/${key}`;
    const known = this.coordinators.get(id);
    if (known !== undefined) return known;
    const answer = await this.ask('any', 'main', FIND_COORDINATOR, { key, kind: kind === 'group' ? 0 : 1 });
    check(answer.errorCode, kind === 'group' ? { group: key } : { transactionalId: key });
    const { nodeId } = answer.coordinator;
    this.learn(answer.coordinator);
    this.coordinators.set(id, nodeId);
    return nodeId;
  }

  /** Asks a coordinator; forgets who it is where it is not, or cannot be reached. */
  async askCoordinator<Question, Answer>(
    kind: CoordinatorKind,
    key: string,
    lane: string,
    api: Api<Question, Answer>,
    question: Question,
    codesOf: (answer: Answer) => Iterable<number>,
  ): Promise<Answer> {
    const id = `${kind}/${key}`;
    try {
      const answer = await this.ask(await this.coordinatorOf(kind, key), lane, api, question);
      for (const code of codesOf(answer)) check(code, kind === 'group' ? { group: key } : { transactionalId: key });
      return answer;
    } catch (error) {
      if (error instanceof TransportError || isCoordinatorMove(error)) this.coordinators.delete(id);
      throw error;
    }
  }

  /** @throws TransportError where the node cannot be reached or does not answer */
  async ask<Question, Answer>(node: number | 'any', lane: string, api: Api<Question, Answer>, question: Question): Promise<Answer> {
    const connection = node === 'any' ? await this.anyConnection(lane) : await this.connection(this.endpoint(node), lane);
    return await connection.request(api, question);
  }

  /** Drops all connections; what is under way fails. The next request makes new ones. */
  reset(reason: Error): void {
    this.round.abort(reason);
    this.round = new AbortController();
    for (const connection of [...this.open]) connection.destroy(reason);
    this.connections.clear();
    this.coordinators.clear();
  }

  close(): void {
    this.life.abort(new TransportError('closed', '', 'the client is closed'));
    this.reset(this.life.signal.reason);
  }

  private learn({ nodeId, host, port }: BrokerAddress): void {
    this.nodes.set(nodeId, { host, port });
  }

  private endpoint(node: number): Endpoint {
    const endpoint = this.nodes.get(node);
    if (endpoint === undefined)
      throw new TransportError('unreachable', `node ${node}`, `the brokers name node ${node} and not where it is; they are asked again`);
    return endpoint;
  }

  /** Whoever answers: one that is connected, or else the configured ones and those heard of, in turn. */
  private async anyConnection(lane: string): Promise<BrokerConnection> {
    for (const connection of this.open) if (connection.lane === lane) return connection;
    const candidates = new Map<string, Endpoint>();
    for (const endpoint of [...shuffled(this.settings.brokers), ...shuffled([...this.nodes.values()])])
      candidates.set(`${endpoint.host}:${endpoint.port}`, endpoint);
    let failure: unknown;
    for (const endpoint of candidates.values()) {
      try {
        return await this.connection(endpoint, lane);
      } catch (error) {
        // What is told is what went wrong with the configured brokers, not with those that they once named.
        failure ??= error;
        this.log.debug(`kafka: ${messageOf(error)}`);
        if (this.closed) break;
      }
    }
    throw failure;
  }

  private connection(endpoint: Endpoint, lane: string): Promise<BrokerConnection> {
    if (this.closed) return Promise.reject(this.life.signal.reason);
    const key = `${endpoint.host}:${endpoint.port} ${lane}`;
    const there = this.connections.get(key);
    if (there !== undefined) return there;
    const opening = BrokerConnection.open(endpoint, lane, this.settings, this.round.signal);
    this.connections.set(key, opening);
    const forget = () => {
      if (this.connections.get(key) === opening) this.connections.delete(key);
    };
    opening.then((connection) => {
      this.open.add(connection);
      void connection.ended.then(() => {
        this.open.delete(connection);
        forget();
      });
    }, forget);
    return opening;
  }
}

function shuffled<T>(items: readonly T[]): T[] {
  const copy = [...items];
  for (let i = copy.length - 1; i > 0; i -= 1) {
    const j = Math.floor(Math.random() * (i + 1));
    const [a, b] = [copy[i], copy[j]];
    if (a !== undefined && b !== undefined) [copy[i], copy[j]] = [b, a];
  }
  return copy;
}
