/**
 * Steps of the wall clock under a running agent (Debian's faketime; the monotonic clock goes on). The counters that it reads grow at a
 * steady rate of real time, so every rate it works out has to be that rate. What waits when the clock is set right has to arrive with the
 * time at which it was made; what was sent while the clock was wrong has that clock's time, as nobody could know.
 */
import { globSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { tempDir } from '../../tempdir.ts';
import { until } from '../../until.ts';
import { startSteadyExporter } from './exporter.ts';
import type { Row } from './report.ts';
import { Rig, type Surroundings } from './rig.ts';

/** Of Debian's package faketime; the variant for programs with threads. */
const LIBRARY = globSync('/usr/lib/{*/,}faketime/libfaketimeMT.so.1')[0];
const [RATE, LENGTH] = [20_000, 500];
const HOUR = 3600;
const STEPS: ReadonlyArray<readonly [string, number]> = [
  ['+1 h', HOUR],
  ['−1 h', -HOUR],
  ['+10 years', 87_660 * HOUR],
  ['−10 years', -87_660 * HOUR],
];

/** A clock that is off by what a file says, in seconds. The library itself: its command would stand between us and the agent's signals. */
const underClock = (file: string): Surroundings => ({
  env: {
    LD_PRELOAD: LIBRARY,
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    DONT_FAKE_MONOTONIC: '1',
  },
});

const text = (seconds: number) => `${seconds < 0 ? '-' : '+'}${Math.abs(seconds)}\n`;

/** What a round has shown: records of these numbers were made around a wrong clock, and sent after it was right again. */
interface Window {
  above: number;
  to: number;
  /** Real time, Unix s. */
  began: number;
  ended: number;
}

const now = () => Date.now() / 1000;

/** The clock goes wrong while nothing can be sent and is set right; then, with `sending`, wrong and right again while records are sent. */
export async function stepOnce(rig: Rig, clock: string, step: number, atStart: boolean, sending: boolean): Promise<Window> {
  const above = rig.rounds === 0 ? 0 : rig.books().last;
  const began = now();
  writeFileSync(clock, text(atStart ? step : 0));
  rig.tap.turn('refuse');
  const agent = await rig.agent(underClock(clock));
  await rig.grows(4);
  writeFileSync(clock, text(step));
  await rig.grows(6);
  // Right again, and noticed, before anything could be sent.
  writeFileSync(clock, text(0));
  await rig.grows(3);
  rig.tap.turn('pass');
  const { last: to } = rig.books();
  await until(() => rig.books().waits.every((seq) => seq > to), 'what was made to be sent', 120_000);
  const ended = now();
  if (sending) {
    writeFileSync(clock, text(step));
    await rig.grows(5);
    writeFileSync(clock, text(0));
    await rig.grows(3);
  }
  await agent.stop();
  await rig.expectAgreement(`clock step of ${step} s`, true);
  return { above, to, began, ended };
}

export async function makeRig(): Promise<{ rig: Rig; clock: string }> {
  const url = await startSteadyExporter(RATE, LENGTH);
  const rig = await Rig.make({ routers: [{ r0: { url, interfaces: ['eth0'], polling_interval: 0.2 } }] });
  return { rig, clock: join(tempDir(), 'clock') };
}

/** Times are the real ones where the clock was right before they were sent, and rates are the real ones everywhere. */
export function expectRightTimes(rig: Rig, windows: readonly Window[]): void {
  const stored = rig.pair.stored('processed');
  for (const { above, to, began, ended } of windows) {
    const inside = stored.filter(({ seq }) => seq > above && seq <= to);
    expect(inside.length).toBeGreaterThan(5);
    for (const { seq, at } of inside) {
      const seconds = at / 1e6;
      expect(seconds >= began - 1 && seconds <= ended + 1, `record ${seq} has ${new Date(at / 1000).toISOString()}`).toBe(true);
    }
  }
  const [first, last] = [windows[0]?.began ?? 0, now()];
  const offs = [0, ...STEPS.map(([, step]) => step)];
  for (const { seq, at } of stored) {
    // Sent while the clock was wrong: off by exactly one of the steps.
    const known = offs.some((off) => at / 1e6 - off >= first - 1 && at / 1e6 - off <= last + 1);
    expect(known, `record ${seq} has ${new Date(at / 1000).toISOString()}`).toBe(true);
  }
  const rates = stored
    .map(({ body }) => (JSON.parse(body) as { input_ml_metrics: Array<{ value: number }> }).input_ml_metrics[0]?.value ?? 0)
    .filter((rate) => rate > 0)
    .sort((a, b) => a - b);
  expect(rates.length).toBeGreaterThan(stored.length / 2);
  const middle = rates[Math.floor(rates.length / 2)] ?? 0;
  expect(Math.abs(middle / RATE - 1), `${middle} packets/s in the middle, where it was ${RATE}`).toBeLessThan(0.1);
  // A poll that was held up makes the next rate larger, some times; an hour within 0.2 s would make it 18,000 times as large or as small.
  expect(rates.at(-1), 'no spike').toBeLessThan(RATE * 100);
}

async function steps(times: number) {
  const { rig, clock } = await makeRig();
  const windows: Window[] = [];
  for (let round = 0; round < times; round += 1) {
    const [, step] = STEPS[round % STEPS.length] ?? ['', 0];
    // Wrong while the agent runs, or from its start on.
    const atStart = Math.floor(round / STEPS.length) % 2 === 1;
    windows.push(await stepOnce(rig, clock, step, atStart, !atStart));
  }
  const figures = await rig.finish('clock steps', true);
  expectRightTimes(rig, windows);
  return figures;
}

export const needsForClock = LIBRARY === undefined ? 'needs Debian’s faketime' : undefined;

export const rows: Row[] = [
  {
    fault: 'clock steps of ±1 h and ±10 years',
    how: 'faketime, while it runs and from its start on; before and while records are sent',
    times: 8,
    needs: needsForClock,
    timeoutMs: 600_000,
    run: steps,
  },
];
