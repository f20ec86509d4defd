/** kill -9 of the NetFlow role on Kafka, at length. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasKcat, NEEDS_KCAT } from '../kcat.ts';
import { expectExactlyOnceOverKills, type Kills } from '../netflow-kills.ts';
import { canStartKafka, type Kafka, NEEDS_OWN_KAFKA, startKafka } from '../real/kafka.ts';
import { tempDir } from '../tempdir.ts';

describe.skipIf(!canStartKafka || !hasKcat)(`the role netflow under kill -9${NEEDS_OWN_KAFKA}${NEEDS_KCAT}`, () => {
  let kafka: Kafka;
  beforeAll(async () => {
    kafka = await startKafka();
  }, 180_000);
  afterAll(() => kafka.stop());

  it.each<[string, Kills]>([
    ['alone', { rounds: 20, processes: 1 }],
    ['two that share the partitions', { rounds: 20, processes: 2 }],
    ['two that share them and sum flows up', { rounds: 10, processes: 2, netflow: { aggregate: 1, lateness: 1 } }],
  ])(
    '%s: every flow exactly once',
    async (name, kills) => {
      const sent = await expectExactlyOnceOverKills(tempDir(), kafka.bootstrap, name.replaceAll(' ', '-'), kills);
      expect(sent).toBeGreaterThan(1000);
    },
    600_000,
  );
});
