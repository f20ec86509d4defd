/** One clear line for whatever goes wrong with Kafka: what it is, and what to do about it. */
import { messageOf, NdtError } from '../errors.ts';
import { KafkaError, RecordRefused, TransportError } from './errors.ts';

export type FaultReason = 'unreachable' | 'refused' | 'credentials' | 'certificate' | 'timeout' | 'closed';

export interface Explanation {
  reason: FaultReason;
  message: string;
}

/** @param user who we are there, for messages about missing rights */
export function explain(error: unknown, user: string | undefined): Explanation {
  if (error instanceof TransportError)
    return { reason: error.reason === 'incompatible' ? 'refused' : error.reason, message: error.message };
  if (error instanceof NdtError) return { reason: 'refused', message: error.message };
  if (error instanceof RecordRefused) return { reason: 'refused', message: error.message };
  if (error instanceof KafkaError) return explainAnswer(error, user);
  return { reason: 'closed', message: messageOf(error) };
}

function explainAnswer({ type, subject, message }: KafkaError, user: string | undefined): Explanation {
  const who = user === undefined ? 'this client (it has no user name: kafka.sasl)' : `the user "${user}"`;
  const principal = user === undefined ? 'User:ANONYMOUS' : `User:${user}`;
  const { topic, group, transactionalId } = subject;
  const grant = (what: string, ...operations: string[]) =>
    `kafka-acls.sh --add --allow-principal ${principal} ${operations.map((operation) => `--operation ${operation}`).join(' ')} ${what}`;
  const refused = (text: string): Explanation => ({ reason: 'refused', message: text });
  switch (type) {
    case 'TOPIC_AUTHORIZATION_FAILED':
      return refused(
        `${who} may not use the topic ${topic ?? '(of this request)'}: ${grant(`--topic ${topic ?? 'TOPIC'}`, 'Read', 'Write', 'Describe')}`,
      );
    case 'GROUP_AUTHORIZATION_FAILED':
      return refused(`${who} may not use the consumer group ${group ?? ''}: ${grant(`--group ${group ?? 'GROUP'}`, 'Read')}`);
    case 'TRANSACTIONAL_ID_AUTHORIZATION_FAILED':
      return refused(
        `${who} may not use the transactional id ${transactionalId ?? ''}: ${grant('--transactional-id ndt --resource-pattern-type prefixed', 'Write', 'Describe')}`,
      );
    case 'CLUSTER_AUTHORIZATION_FAILED':
      return refused(
        topic === undefined
          ? `${who} may not write here: ${grant('--cluster', 'IdempotentWrite')}`
          : `${who} may not create the topic ${topic}: ${grant(`--topic ${topic}`, 'Create')}, or create it by hand (kafka-topics.sh --create --topic ${topic})`,
      );
    case 'POLICY_VIOLATION':
    case 'INVALID_CONFIG':
    case 'INVALID_PARTITIONS':
      return refused(`the topic ${topic ?? ''} cannot be created as kafka.topics says: ${message}`);
    case 'INVALID_REPLICATION_FACTOR':
      return refused(
        `the topic ${topic ?? ''} cannot be created with kafka.topics.replication copies, there are not so many brokers: lower it, or set -1 (${message})`,
      );
    case 'INVALID_TOPIC_EXCEPTION':
      return refused(`"${topic ?? ''}" cannot be a topic’s name: use letters, digits, '.', '_' and '-', at most 249 of them`);
    case 'INVALID_SESSION_TIMEOUT':
      return refused(
        'the broker does not allow kafka.session_timeout: set it between its group.min.session.timeout.ms and group.max.session.timeout.ms',
      );
    case 'INVALID_TRANSACTION_TIMEOUT':
      return refused('the broker does not allow kafka.transaction_timeout: set it to at most its transaction.max.timeout.ms');
    case 'INCONSISTENT_GROUP_PROTOCOL':
      return refused(
        `the consumer group ${group ?? ''} is in use by something that is not ndt, or by another version of it: stop that first`,
      );
    case 'NOT_ENOUGH_REPLICAS':
    case 'NOT_ENOUGH_REPLICAS_AFTER_APPEND':
      return refused(
        `${topic ?? 'a topic'} has fewer copies in step than its min.insync.replicas: look after the brokers that are away; what is not confirmed is sent again`,
      );
    case 'INVALID_TIMESTAMP':
      return refused(`${topic ?? 'a topic'} does not take records of this time: set this machine’s clock (${new Date().toISOString()})`);
    case 'PRODUCER_FENCED':
    case 'INVALID_PRODUCER_EPOCH':
      return refused(
        `another process took over the transactional id${transactionalId === undefined ? '' : ` ${transactionalId}`}: two processes with one identity must not run at once`,
      );
    case 'COORDINATOR_NOT_AVAILABLE':
    case 'COORDINATOR_LOAD_IN_PROGRESS':
    case 'NOT_COORDINATOR':
      return { reason: 'closed', message: `the brokers are still settling who coordinates ${group ?? transactionalId ?? 'us'} (${type})` };
    default:
      return refused(`the broker answered ${message}`);
  }
}
