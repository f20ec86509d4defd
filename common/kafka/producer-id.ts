/** The id under which a producer writes. */
import type { Cluster } from './cluster.ts';
import { check } from './errors.ts';
import { persist } from './persist.ts';

export interface ProducerId {
  producerId: string;
  producerEpoch: number;
}

interface InitAnswer extends ProducerId {
  errorCode: number;
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
  const args = { transactionalId: transactionalId ?? null, transactionTimeout: transactionTimeoutMs };
  return await persist(cluster, performance.now() + within, async () => {
    if (transactionalId === undefined) {
      const answer = await cluster.ask<InitAnswer>('any', 'main', 'InitProducerId', args);
      check(answer.errorCode);
      return { producerId: answer.producerId, producerEpoch: answer.producerEpoch };
    }
    const { producerId, producerEpoch } = await cluster.askCoordinator<InitAnswer>(
      'transaction',
      transactionalId,
      'txn',
      'InitProducerId',
      args,
      (answer) => [answer.errorCode],
    );
    return { producerId, producerEpoch };
  });
}
