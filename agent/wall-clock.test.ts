import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { epochMicros, epochText, parseRecord } from '../common/record.ts';
import { FULL, planWrites, underTest } from '../test/failing-disk.ts';
import { openOutbox, record } from '../test/outbox.ts';
import { tempDir } from '../test/tempdir.ts';
import { restamp, WallClock } from './wall-clock.ts';

const HOUR = 3_600_000_000;
const YEAR = 365 * 24 * HOUR;
const RIGHT = Date.UTC(2025, 5, 1) * 1000;

/** Clocks that a test sets. */
function clocks(wall = RIGHT) {
  const state = { wall, up: 100e6, synchronized: false, steps: [] as number[], boot: 'k1' };
  const make = (boot = state.boot) =>
    new WallClock({
      boot,
      nowMicros: () => state.wall,
      sinceBootMicros: () => state.up,
      synchronized: () => state.synchronized,
      onStep: (step) => state.steps.push(step),
    });
  return {
    state,
    make,
    pass: (micros: number) => {
      state.wall += micros;
      state.up += micros;
    },
  };
}

describe('the wall clock', () => {
  it('that only goes on is one era, however long', () => {
    const { state, make, pass } = clocks();
    const clock = make();
    const era = clock.check();
    for (let i = 0; i < 1000; i += 1) {
      pass(HOUR);
      // Slewed by up to half a second an hour.
      state.wall += 400_000;
      expect(clock.check()).toBe(era);
    }
    expect(state.steps).toEqual([]);
    expect(clock.shiftOf(era)).toBe(0);
  });

  it.each([
    ['+1 h', HOUR],
    ['-1 h', -HOUR],
    ['+10 years', 10 * YEAR],
  ])('a step of %s is noticed, and what was made before it is moved', (_name, step) => {
    const { state, make, pass } = clocks();
    const clock = make();
    const before = clock.check();
    pass(5e6);
    state.wall += step;
    const after = clock.check();
    expect(state.steps).toEqual([step]);
    expect([clock.shiftOf(before), clock.shiftOf(after)]).toEqual([step, 0]);
    // Set back: what was made in between is moved back, and what was made before is right as it is.
    pass(5e6);
    state.wall -= step;
    clock.check();
    expect([clock.shiftOf(before), clock.shiftOf(after)]).toEqual([0, -step]);
  });

  it('wrong at boot, right later: everything from before is moved, in one boot', () => {
    const { state, make, pass } = clocks(0);
    const clock = make();
    const era = clock.check();
    expect([clock.trust, clock.isWrong(era), clock.shiftOf(era)]).toEqual(['wrong', true, 0]);
    pass(60e6);
    state.wall = RIGHT;
    clock.check();
    expect(clock.trust).toBe('plausible');
    expect(clock.shiftOf(era)).toBe(RIGHT - 60e6);
  });

  it('to before 2020 is a fault, and nothing is moved there', () => {
    const { state, make } = clocks();
    const clock = make();
    const era = clock.check();
    state.wall -= 10 * YEAR;
    const wrong = clock.check();
    expect([clock.trust, clock.shiftOf(era), clock.isWrong(wrong)]).toEqual(['wrong', 0, true]);
  });

  it('that the system has synchronised stays right, whatever is set later', () => {
    const { state, make } = clocks();
    const clock = make();
    state.synchronized = true;
    const era = clock.check();
    expect(clock.trust).toBe('confirmed');
    state.synchronized = false;
    state.wall += HOUR;
    clock.check();
    expect(clock.shiftOf(era)).toBe(0);
  });

  it('over a restart: the same era where nothing was set, a step where it was; over a boot nothing can be measured', () => {
    const { state, make, pass } = clocks();
    const first = make();
    const era = first.check();
    const saved = first.takeUnsaved();
    pass(HOUR);
    const again = make();
    again.restore(saved);
    expect(again.check()).toBe(era);
    state.wall += HOUR;
    const stepped = make();
    stepped.restore(saved);
    expect([stepped.check() > era, stepped.shiftOf(era)]).toEqual([true, HOUR]);
    const rebooted = make('k2');
    rebooted.restore(saved);
    expect(rebooted.shiftOf(era)).toBe(0);
  });
});

const processed = readFileSync(new URL('../test/fixtures/records/seed-processed.json', import.meta.url), 'utf8');

it('moves all times of a record, and nothing else', () => {
  const before = parseRecord(processed, 'processed');
  const after = parseRecord(restamp(processed, 10 * YEAR), 'processed');
  expect(epochMicros(after.epoch_timestamp) - epochMicros(before.epoch_timestamp)).toBe(10 * YEAR);
  expect(Number(after.debug_params?.process_timestamp) - Number(before.debug_params?.process_timestamp)).toBe((10 * YEAR) / 1000);
  const same = { ...before, epoch_timestamp: '', debug_params: undefined };
  expect({ ...after, epoch_timestamp: '', debug_params: undefined }).toEqual(same);
  expect(restamp('no record', 1)).toBe('no record');
  const inventory = { type: 'inventory', collected_at: '60.5', router: 'r1' };
  expect(JSON.parse(restamp(JSON.stringify(inventory), 10 * YEAR))).toEqual({
    ...inventory,
    collected_at: epochText(60_500_000 + 10 * YEAR),
  });
});

it('records that wait over a correction of the clock are moved when they are sent, and marked; restarts change nothing about it', () => {
  const dir = tempDir();
  const { state, make, pass } = clocks(5e6);
  const open = () => openOutbox(dir, { wallClock: make(), nowMs: () => state.wall / 1000 });
  const body = (epoch: number) => JSON.stringify({ ...JSON.parse(processed), epoch_timestamp: (epoch / 1e6).toFixed(3) });
  let outbox = open();
  const made: number[] = [];
  const make1 = () => {
    made.push(state.up);
    outbox.append([record(body(state.wall))]);
  };
  make1();
  expect(outbox.peek(1)[0]?.headers).toMatchObject({ 'ndt-clock': 'wrong' });
  pass(10e6);
  make1();
  outbox.close();
  outbox = open();
  pass(10e6);
  make1();
  state.wall = RIGHT;
  make1();
  const check = () => {
    const sent = outbox.peek(10);
    expect(sent.map(({ headers }) => headers['ndt-restamped'])).toEqual(['1', '1', '1', undefined]);
    const times = sent.map(({ body }) => epochMicros((JSON.parse(body) as { epoch_timestamp: string }).epoch_timestamp));
    const truth = made.map((up) => RIGHT + (up - (made[3] ?? 0)));
    for (const [i, time] of times.entries()) expect(Math.abs(time - (truth[i] ?? 0))).toBeLessThanOrEqual(1000);
  };
  check();
  outbox.close();
  outbox = open();
  check();
  outbox.close();
});

describe('records made before the disk takes anything', () => {
  const inventory = (micros: number) => record(JSON.stringify({ collected_at: epochText(micros) }));

  it.each([
    ['is not there, with a file of an earlier boot on it', 'k0'],
    ['is full, with a file of this boot on it', 'k1'],
  ])('that %s keep the era of their clock', (how, boot) => {
    const dir = tempDir();
    const { state, make, pass } = clocks(1e9);
    const earlier = openOutbox(dir, { ...underTest(dir).options, wallClock: make(boot) });
    earlier.append([record('{}')]);
    earlier.close();
    pass(60e6);
    const { options, clock, disk, told } = underTest(dir);
    if (how.startsWith('is full')) planWrites(FULL);
    else disk.mounted = false;
    const outbox = openOutbox(dir, { ...options, wallClock: make(), nowMs: () => state.wall / 1000 });
    const sent = () => outbox.read('all', 10).filter(({ body }) => body.includes('collected_at'));
    outbox.append([inventory(state.wall)]);
    expect(outbox.stats().memory.records).toBe(1);
    state.wall = RIGHT;
    outbox.maintain();
    outbox.append([inventory(state.wall)]);
    const before = sent();
    expect(before.map(({ headers }) => headers['ndt-restamped'])).toEqual(['1', undefined]);
    expect(before.map(({ body }) => (JSON.parse(body) as { collected_at: string }).collected_at)).toEqual([
      epochText(RIGHT),
      epochText(RIGHT),
    ]);
    disk.mounted = true;
    clock.monotonic += 60_000;
    outbox.maintain();
    expect(outbox.whereabouts(), told.text()).toEqual({ where: 'disk', cause: undefined });
    expect(sent().map(({ headers, body }) => [headers['ndt-restamped'], body])).toEqual(
      before.map(({ headers, body }) => [headers['ndt-restamped'], body]),
    );
    outbox.close();
  });
});
