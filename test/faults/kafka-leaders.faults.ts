/** Three brokers, of which one is always about to go: leaders move, and every record comes out once, in order, with the right sum. */
import { afterEach, beforeEach, describe, it } from 'vitest';
import { Pipeline } from '../kafka-pipeline.ts';
import { hasKcat, NEEDS_KCAT } from '../kcat.ts';
import { canStartKafka, NEEDS_OWN_KAFKA } from '../real/kafka.ts';
import { type KafkaCluster, startKafkaCluster } from '../real/kafka-cluster.ts';
import { until } from '../until.ts';

const ROUNDS = 6;
const TOTAL = 12_000;

describe.skipIf(!canStartKafka || !hasKcat)(`three brokers${NEEDS_OWN_KAFKA}${NEEDS_KCAT}`, () => {
  let cluster: KafkaCluster;
  let pipeline: Pipeline;

  beforeEach(async () => {
    cluster = await startKafkaCluster();
    pipeline = new Pipeline(cluster.brokers.join(), 'l', { brokers: cluster.brokers });
  }, 120_000);
  afterEach(async () => {
    await pipeline.close();
    await cluster.stop();
  }, 60_000);

  it(`the leader of a topic is killed, ${ROUNDS} rounds`, async () => {
    pipeline.work();
    pipeline.send(TOTAL);
    for (let round = 1; round <= ROUNDS; round += 1) {
      const before = pipeline.sent;
      const why = () => `round ${round}: ${pipeline.faults.slice(-2).join(' | ')}`;
      await until(() => pipeline.sent >= Math.min(before + 300, TOTAL - 1000), `records to flow; ${why()}`, 90_000);
      // In turn what is read, what is written, and who keeps the transactions.
      const topic = ['IN_l_r1', 'OUT_l', '__transaction_state'][round % 3] ?? '';
      const leader = await until(() => cluster.leaderOf(topic), `a leader of ${topic}`, 60_000);
      await cluster.kill9(leader);
      // Another one leads, and records flow without the one that is gone.
      const without = pipeline.sent;
      await until(() => pipeline.sent >= Math.min(without + 300, TOTAL - 500), `records to flow without a broker; ${why()}`, 90_000);
      await cluster.restart(leader);
    }
    await pipeline.expectExactlyOnce(TOTAL, 180_000);
  });
});
