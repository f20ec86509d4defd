/** The id under which a producer writes. */
import type { Cluster } from './cluster.ts';
import { check } from './errors.ts';
import { persist } from './persist.ts';
import { INIT_PRODUCER_ID } from './requests.ts';

export interface ProducerId {
  producerId: string;
  producerEpoch: number;
}

/**
 * Gets an id. For a transactional id it is the next epoch of it: whoever had the one before is shut out, and what it had open is ended
 * when this resolves.
 * @throws KafkaError, TransportError
 */
export async function initProducerId(
  cluster: Cluster,
  transactionalId: string | undefined,
  transactionTimeoutMs: number,
  within: number,
): Promise<ProducerId> {
  const question = { transactionalId: transactionalId ?? null, timeoutMs: transactionTimeoutMs };
  return await persist(cluster, performance.now() + within, async () => {
    if (transactionalId === undefined) {
      const answer = await cluster.ask('any', 'main', INIT_PRODUCER_ID, question);
      check(answer.errorCode);
      return { producerId: answer.producerId, producerEpoch: answer.producerEpoch };
    }
    const { producerId, producerEpoch } = await cluster.askCoordinator(
      'transaction',
      transactionalId,
      'txn',
      INIT_PRODUCER_ID,
      question,
      (answer) => [answer.errorCode],
    );
    return { producerId, producerEpoch };
  });
}
