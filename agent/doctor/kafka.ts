/**
 * Whether Kafka takes this agent: brokers, topics, and the rights that its transactions need. Nothing is written and nothing is made, and
 * the running agent keeps its transactional id.
 */
import { agentIdOf, type Loaded } from '../../common/config.ts';
import { NdtError } from '../../common/errors.ts';
import { Cluster } from '../../common/kafka/cluster.ts';
import { KafkaError } from '../../common/kafka/errors.ts';
import { explain } from '../../common/kafka/explain.ts';
import { persist } from '../../common/kafka/persist.ts';
import { committedPositions } from '../../common/kafka/positions.ts';
import { ADD_PARTITIONS, CREATE_TOPICS, codesOf } from '../../common/kafka/requests.ts';
import { type KafkaOptions, kafkaOptions } from '../../common/kafka/settings.ts';
import { openLogger } from '../../common/logger.ts';
import { topicFor } from '../../common/topics.ts';
import { countOf, durationText } from '../buffer/text.ts';
import { ownRouters } from '../inventory.ts';
import { type Finding, fail, failedBy, ok } from './finding.ts';

const CHECK = 'uplink';
const WITHIN_MS = 5000;
/** What a coordinator that knows nothing of a transaction says once the rights have been looked at; 55: because of another topic. */
const RIGHTS_ARE_THERE = new Set([0, 47, 48, 49, 51, 55, 90]);

/** The topics that the agent writes to. */
export function topicsWritten({ config, routers }: Loaded): string[] {
  const records = routers.map((router) => (config.agent.ship === 'raw' ? router.rawTopic : topicFor(config.topics.processed, router.name)));
  const inventories =
    config.inventory.interval === 0 ? [] : ownRouters({ routers }).map(({ name }) => topicFor(config.topics.inventory, name));
  return [...new Set([...records, ...inventories, config.topics.notices])];
}

export async function checkKafka(loaded: Loaded): Promise<Finding[]> {
  const id = `ndt-agent-${agentIdOf(loaded.config)}`;
  let options: KafkaOptions;
  try {
    // A name of its own in the brokers' logs.
    options = kafkaOptions(loaded, `ndt-doctor-${agentIdOf(loaded.config)}`);
  } catch (error) {
    return [failedBy(CHECK, error)];
  }
  const quiet = await openLogger('ndt-agent', { level: 'fatal', format: 'json' });
  const cluster = new Cluster(options.client, quiet);
  const { user } = options.client;
  const started = performance.now();
  try {
    const topics = topicsWritten(loaded);
    const { there, missing, hidden } = await look(cluster, topics);
    const took = durationText(performance.now() - started);
    const findings = missing.length > 0 && !options.topics.create ? [notMade(missing, options)] : [];
    const refused = [
      ...hidden,
      ...(options.topics.create ? await create(cluster, missing, options) : []),
      ...(await transact(cluster, id, there)),
      ...(there.includes(loaded.config.topics.notices) ? await position(cluster, id, loaded.config.topics.notices) : []),
    ];
    findings.push(...refused.map((error) => fail(CHECK, explain(error, user).message)));
    if (findings.length > 0) return findings;
    const made = missing.length === 0 ? '' : `; ${countOf(missing.length, 'topic')} will be made: ${some(missing)}`;
    const who = user === undefined ? 'this agent' : `"${user}"`;
    return [
      ok(
        CHECK,
        `${loaded.config.kafka.brokers.join(', ')} answers (${took}), and ${who} may write to ${countOf(topics.length, 'topic')}${made}`,
      ),
    ];
  } catch (error) {
    return [fail(CHECK, error instanceof NdtError ? error.message : explain(error, user).message)];
  } finally {
    cluster.close();
  }
}

/** Which topics there are, and which may not be seen. */
async function look(cluster: Cluster, topics: readonly string[]): Promise<{ there: string[]; missing: string[]; hidden: KafkaError[] }> {
  const found = { there: [] as string[], missing: [] as string[], hidden: [] as KafkaError[] };
  const ask = async (asked: readonly string[]) => {
    const answer = await cluster.refresh(asked);
    for (const topic of asked) (answer.has(topic) ? found.there : found.missing).push(topic);
  };
  try {
    await ask(topics);
  } catch (error) {
    if (!(error instanceof KafkaError)) throw error;
    // One that may not be seen fails the whole question.
    for (const topic of topics) {
      await ask([topic]).catch((refusal: unknown) => {
        if (!(refusal instanceof KafkaError)) throw refusal;
        found.hidden.push(refusal);
      });
    }
  }
  return found;
}

function notMade(missing: readonly string[], { topics }: KafkaOptions): Finding {
  const how = `kafka-topics.sh --create --topic ${missing[0] ?? ''} --partitions ${Math.max(topics.partitions, 1)}`;
  return fail(CHECK, `missing: ${some(missing)}, and kafka.topics.create is false`, how);
}

/** Asks to make topics, for show. */
async function create(cluster: Cluster, missing: readonly string[], { topics }: KafkaOptions): Promise<KafkaError[]> {
  if (missing.length === 0) return [];
  const request = missing.map((topic) => ({
    topic,
    partitions: topics.partitions,
    replication: topics.replication,
    config: [],
  }));
  const answer = await cluster.ask('any', 'main', CREATE_TOPICS, { topics: request, timeoutMs: WITHIN_MS, validateOnly: true });
  return answer.topics
    .filter(({ errorCode }) => errorCode !== 0 && errorCode !== 36)
    .map(({ topic, errorCode, errorMessage }) => {
      // Which right is missing is told in two ways, by the broker's version.
      return new KafkaError(errorCode === 29 ? 31 : errorCode, { topic }, errorMessage ?? '');
    });
}

function some(names: readonly string[]): string {
  return names.length > 5 ? `${names.slice(0, 5).join(', ')} …` : names.join(', ');
}

/** Asks to add topics to a transaction under a producer id that nobody has: refused for the rights first, and for the id only then. */
async function transact(cluster: Cluster, transactionalId: string, topics: readonly string[]): Promise<KafkaError[]> {
  const end = performance.now() + WITHIN_MS;
  const question = { transactionalId, producerId: '-1', producerEpoch: -1, topics: topics.map((topic) => ({ topic, partitions: [0] })) };
  try {
    if (topics.length === 0) {
      await persist(cluster, end, () => cluster.coordinatorOf('transaction', transactionalId));
      return [];
    }
    const ask = () =>
      // Of its answers only those that say that the coordinator is elsewhere.
      cluster.askCoordinator('transaction', transactionalId, 'main', ADD_PARTITIONS, question, ({ topics: answers }) =>
        codesOf(answers).flatMap(({ errorCode }) => (errorCode >= 14 && errorCode <= 16 ? [errorCode] : [])),
      );
    const codes = codesOf((await persist(cluster, end, ask)).topics);
    if (codes.some(({ errorCode }) => errorCode === 53)) return [new KafkaError(53, { transactionalId })];
    return codes
      .filter(({ errorCode }) => !RIGHTS_ARE_THERE.has(errorCode))
      .map(({ topic, errorCode }) => new KafkaError(errorCode, { topic }));
  } catch (error) {
    if (error instanceof KafkaError) return [error];
    throw error;
  }
}

/** Asks for what the agent has delivered so far. */
async function position(cluster: Cluster, group: string, topic: string): Promise<KafkaError[]> {
  try {
    await committedPositions(cluster, group, [{ topic, partition: 0 }]);
    return [];
  } catch (error) {
    if (error instanceof KafkaError) return [error];
    throw error;
  }
}
