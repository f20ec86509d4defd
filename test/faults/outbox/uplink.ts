/** A broker that takes and never answers, swallows its answers, answers late or twice, resets, or is not there; then the real one. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Row } from './report.ts';
import { Rig } from './rig.ts';
import type { TapMode } from './tap.ts';

/** @param seconds how long it behaves so: the agent waits 1 s for an answer */
export async function misbehave(rig: Rig, mode: TapMode, seconds: number, what: string): Promise<void> {
  rig.tap.turn(mode);
  await sleep(seconds * 1000);
  // Records were made meanwhile, and are made after.
  await rig.grows(1);
  rig.tap.turn('pass');
  await rig.grows(2);
  await rig.expectAgreement(what, true);
}

async function misbehaving(times: number, mode: TapMode, seconds: number) {
  const rig = await Rig.make();
  const agent = await rig.agent();
  await rig.grows(10);
  for (let round = 0; round < times; round += 1) await misbehave(rig, mode, seconds, `uplink: ${mode} ${round + 1}`);
  await agent.stop();
  return await rig.finish(`uplink: ${mode}`, true);
}

const row = (fault: string, how: string, mode: TapMode, times: number, seconds: number): Row => ({
  fault,
  how,
  times,
  timeoutMs: 400_000,
  run: (n) => misbehaving(n, mode, seconds),
});

export const rows: Row[] = [
  row('uplink never answers', 'every packet is taken and none passed on or answered, 3 s at a time', 'mute', 4, 3),
  row('uplink’s answers are lost', 'every packet is passed on, its acknowledgement swallowed, 3 s at a time', 'deaf', 4, 3),
  row('uplink answers late', 'each acknowledgement comes after 1.5 s, past the time-out of 1 s, 4 s at a time', 'late', 3, 4),
  row('uplink answers twice', 'each acknowledgement comes twice', 'twice', 4, 1),
  row('uplink resets', 'each batch is passed on and the connection reset before the answer, 3 s at a time', 'reset', 4, 3),
  row('uplink refuses', 'no connection for 3 s at a time', 'refuse', 4, 3),
];
