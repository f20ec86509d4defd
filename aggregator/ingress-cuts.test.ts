import { expect, it, onTestFinished } from 'vitest';
import { entries, forever, seqsOn, startRig } from '../test/mqtt-rig.ts';
import { startProxy } from '../test/real/proxy.ts';
import { tempDir } from '../test/tempdir.ts';

const RECORDS = 2000;
const CUTS = 50;

/** Numbers below `below` that look like chance and are the same each time (a linear congruential generator). */
function chance(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

it.each([
  ['none', 1],
  ['gzip', 2],
  ['zstd', 3],
] as const)('50 cuts at any byte while 2,000 records are sent: each is on the bus once, in order (%s)', async (compression, seed) => {
  const rig = await startRig(tempDir());
  const proxy = await startProxy(rig.port);
  onTestFinished(() => proxy.stop());
  const uplink = rig.uplink('a1', { compression }, proxy.port);
  const random = chance(seed);
  let cuts = 0;
  let delivered = false;
  const cutting = (async () => {
    while (cuts < CUTS && !delivered) {
      // In the middle of what is sent, and in the middle of the acknowledgements (four bytes each), so that these get lost.
      if (random(2) === 0) await proxy.cutAfter(1 + random(compression === 'none' ? 9000 : 1200), 'up');
      else await proxy.cutAfter(1 + random(20), 'down');
      cuts += 1;
    }
  })();

  const waiting = entries('a1', 1, RECORDS);
  let failures = 0;
  while (waiting.length > 0) {
    try {
      const { acked } = await uplink.send(waiting.slice(0, 1 + random(40)), forever);
      for (const seq of acked)
        expect(
          waiting.splice(
            waiting.findIndex((one) => one.seq === seq),
            1,
          )[0]?.seq,
        ).toBe(seq);
    } catch (error) {
      expect(error).toMatchObject({ name: 'UplinkError' });
      failures += 1;
    }
  }
  delivered = true;
  expect(cuts).toBe(CUTS);
  await cutting;
  expect(failures).toBeGreaterThan(10);
  expect(seqsOn(rig.bus, 'TP_r1')).toEqual(entries('a1', 1, RECORDS).map(({ seq }) => seq));
  expect(rig.bus.log.seen.agents()).toMatchObject([{ agent: 'a1', received: RECORDS, missing: [] }]);
  // Some were written, and their acknowledgement was lost: otherwise this would have proven little.
  expect(rig.metric('ndt_ingress_duplicates_total{via="broker"}')).toBeGreaterThan(0);
});
