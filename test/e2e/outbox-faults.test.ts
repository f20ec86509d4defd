/**
 * The fault matrix of the outbox in short: a few cases of each kind. The whole of it is `npm run test:faults`, which also has what needs
 * minutes: 220 kills, full memory beside a full disk, a slow disk, the other durabilities.
 */
import { describe, expect, it } from 'vitest';
import { makeRig as clockRig, expectRightTimes, needsForClock, stepOnce } from '../faults/outbox/clock.ts';
import { damageOnce, manyCases, randomNumbers } from '../faults/outbox/corruption.ts';
import { failOnce, fillOnce, startReadOnly, WRITES } from '../faults/outbox/disk.ts';
import { killInRepair, killOnce, needsForKill } from '../faults/outbox/kill.ts';
import { canMount, mountSmallDisk } from '../faults/outbox/machine.ts';
import { MATRIX } from '../faults/outbox/matrix.ts';
import { atTheOtherEnd, CUT, LOSS, layCable, needsForLoss, makeRig as networkRig, trouble } from '../faults/outbox/network.ts';
import { cutPower } from '../faults/outbox/power-cut.ts';
import { faultsOnPage } from '../faults/outbox/report.ts';
import { Rig } from '../faults/outbox/rig.ts';
import { misbehave } from '../faults/outbox/uplink.ts';

const because = (needs: string | undefined) => (needs === undefined ? '' : ` (skipped: ${needs})`);
const LIMIT_MS = 240_000;

describe('the outbox under faults, a few of each: every record arrives exactly once or is named', () => {
  it.skipIf(needsForKill !== undefined)(
    `kill -9 before a write, and in a repair${because(needsForKill)}`,
    async () => {
      const rig = await Rig.make();
      await (await rig.agent()).kill9();
      for (const [call, n] of [
        ['pwrite64', 9],
        ['fsync', 2],
        ['ftruncate', 3],
        ['writev', 2],
        ['pwrite64', 80],
      ] as const)
        await killOnce(rig, { call, n });
      await killInRepair(rig, { call: 'rename', n: 2 }, true);
      await rig.finish('kill -9', false);
    },
    LIMIT_MS,
  );

  const needsRoot = canMount ? undefined : 'needs root, to mount';
  it.skipIf(needsRoot !== undefined)(
    `power cuts and changed bytes${because(needsRoot)}`,
    async () => {
      const rig = await Rig.make();
      await cutPower(rig, true, 'power cut', true);
      await cutPower(rig, false, 'power cut, torn files', false);
      await damageOnce(rig, randomNumbers(7), true, 'changed bytes');
      await rig.finish('power cuts and changed bytes', false);
    },
    LIMIT_MS,
  );

  it(
    'changed bytes, in one process',
    async () => {
      const { rounds, lostSilently, produced } = await manyCases(40, 815);
      expect({ rounds, lostSilently }).toEqual({ rounds: 40, lostSilently: 0 });
      expect(produced).toBeGreaterThan(10_000);
    },
    LIMIT_MS,
  );

  const needsDisk = needsRoot ?? needsForKill;
  it.skipIf(needsDisk !== undefined)(
    `a disk that is full, turns read-only, fails, is read-only at the start${because(needsDisk)}`,
    async () => {
      const rig = await Rig.make();
      const disk = mountSmallDisk(rig.folder, '3m');
      const agent = await rig.agent();
      await fillOnce(rig, disk, agent, false, true, 'full disk');
      await failOnce(rig, agent, WRITES, 'error=EROFS', 0.5);
      await failOnce(rig, agent, WRITES, 'error=EIO', 0.5);
      await agent.stop();
      await startReadOnly(rig, disk, 'read-only disk');
      await rig.finish('disk', true);
    },
    LIMIT_MS,
  );

  it.skipIf(needsForClock !== undefined)(
    `a clock that steps${because(needsForClock)}`,
    async () => {
      const { rig, clock } = await clockRig();
      const windows = [await stepOnce(rig, clock, 3600, false, false)];
      await rig.finish('clock', true);
      expectRightTimes(rig, windows);
    },
    LIMIT_MS,
  );

  it(
    'an uplink that never answers, answers late, twice or in vain, resets, refuses',
    async () => {
      const rig = await Rig.make();
      const agent = await rig.agent();
      for (const mode of ['mute', 'deaf', 'late', 'reset'] as const) await misbehave(rig, mode, 1.3, `uplink: ${mode}`);
      for (const mode of ['twice', 'refuse'] as const) await misbehave(rig, mode, 0.5, `uplink: ${mode}`);
      await agent.stop();
      await rig.finish('uplink', true);
    },
    LIMIT_MS,
  );

  it.skipIf(needsForLoss !== undefined)(
    `a cable that is cut, and one that loses 30 % of its packets${because(needsForLoss)}`,
    async () => {
      const cable = layCable();
      const rig = await networkRig();
      const through = atTheOtherEnd(cable);
      const agent = await rig.agent({ through });
      await trouble(rig, cable, CUT, 1.5, 'cut cable');
      await trouble(rig, cable, LOSS, 2, 'lost packets');
      await agent.stop();
      await rig.finish('cable', true, { through });
    },
    LIMIT_MS,
  );
});

it('the page about the buffer has figures of every row of the matrix', () => {
  expect(faultsOnPage()).toEqual(MATRIX.map(({ fault, how, times }) => ({ fault, how, cases: times })));
});
