import { expect, it } from 'vitest';
import { reports } from '../../test/outbox.ts';
import { DiskState } from './disk-state.ts';

const full = () => Object.assign(new Error('database or disk is full'), { code: 'SQLITE_FULL' });
const failing = () => Object.assign(new Error('disk I/O error'), { code: 'SQLITE_IOERR_WRITE' });

function stateOn(clock: { now: number }) {
  const told = reports();
  const state = new DiskState(
    () => clock.now,
    (level, message, fields) => told.report({ level, message, fields }),
  );
  return { state, told };
}

it('a disk that takes nothing is told of once, and tried again after pauses that grow to half a minute', () => {
  const clock = { now: 0 };
  const { state, told } = stateOn(clock);
  state.failed(full(), 'elsewhere');
  const pauses: number[] = [];
  for (let since = 0; pauses.length < 8; clock.now += 500) {
    if (!state.isProbeDue) continue;
    pauses.push((clock.now - since) / 1000);
    since = clock.now;
    state.tryAgain(() => state.failed(failing(), 'elsewhere'));
  }
  expect(pauses).toEqual([1, 2, 4, 8, 16, 30, 30, 30]);
  expect([state.cause, state.faultsInARow, state.faults]).toEqual(['io', 9, { full: 1, io: 8 }]);
  expect(told.text()).toBe('the disk does not take the buffer (database or disk is full): elsewhere');
  state.tryAgain(() => expect([state.isCutOff, state.faultsInARow]).toEqual([false, 9]));
  expect([state.isCutOff, state.cause, state.faultsInARow]).toEqual([false, undefined, 0]);
  expect(told.events.at(-1)).toEqual({
    level: 'info',
    message: `the disk takes the buffer again after ${Math.round(clock.now / 1000)} s`,
    fields: { cause: 'io' },
  });
  // The next one is told of again, and tried again soon.
  state.failed(full(), 'elsewhere');
  clock.now += 1000;
  expect([state.isProbeDue, state.faultsInARow, told.events.length]).toEqual([true, 1, 3]);
});

it('a slow disk rests ten times as long as its commit took, half a minute at most', () => {
  const clock = { now: 1000 };
  const { state, told } = stateOn(clock);
  state.noteSpeed(999);
  expect(state.isSlow).toBe(false);
  state.noteSpeed(1500);
  expect([state.cause, state.isRested]).toEqual(['slow', false]);
  clock.now += 15_000;
  expect(state.isRested).toBe(true);
  state.noteSpeed(60_000);
  clock.now += 29_999;
  expect(state.isRested).toBe(false);
  state.noteSpeed(20);
  expect([state.isSlow, state.cause, state.faults.slow]).toEqual([false, undefined, 2]);
  expect(told.events.map(({ level }) => level)).toEqual(['warn', 'info']);
});
