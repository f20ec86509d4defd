import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { Load } from './compilers.ts';
import { AGENT_FLAGS } from './node-flags.ts';

/** One look a second at so many percent of a core each. */
function looks(load: Load, ...percents: number[]): boolean[] {
  return percents.map((percent) => load.look(percent * 10, 1000));
}

const seconds = (n: number, percent: number) => Array<number>(n).fill(percent);

function busy(): Load {
  const load = new Load();
  expect(looks(load, 90, 90, 90)).toEqual([false, false, true]);
  return load;
}

describe('load', () => {
  test('of a poll a second is none, nor is what comes once', () => {
    expect(looks(new Load(), ...seconds(100, 1))).not.toContain(true);
    expect(looks(new Load(), 100, 100, 1, 1, 60, 1, 11, 11, 9, 11, 11)).not.toContain(true);
  });

  test('that lasts is busy from the third look on', () => {
    expect(looks(new Load(), 1, 11, 11, 11, 11)).toEqual([false, false, false, true, true]);
  });

  test('is a share: of a late look as well, and with a clock that stood still it is none', () => {
    const load = new Load();
    for (let i = 0; i < 10; i += 1) expect(load.look(400, 5000)).toBe(false);
    expect(load.look(0, 0)).toBe(false);
    expect([load.look(600, 5000), load.look(600, 5000), load.look(600, 5000)]).toEqual([false, false, true]);
  });

  test('that went away is idle after half a minute, also where garbage is collected meanwhile', () => {
    expect(looks(busy(), ...seconds(29, 1))).not.toContain(false);
    expect(looks(busy(), ...seconds(29, 1), 1).at(-1)).toBe(false);
    expect(looks(busy(), ...seconds(19, 1), 40, ...seconds(9, 1), 1).at(-1)).toBe(false);
  });

  test('that is between idle and busy stays what it was', () => {
    expect(looks(busy(), ...seconds(300, 5))).not.toContain(false);
    expect(looks(new Load(), ...seconds(300, 5))).not.toContain(true);
  });

  test('comes and goes any number of times', () => {
    const load = busy();
    for (let i = 0; i < 3; i += 1) {
      expect(looks(load, ...seconds(30, 0)).at(-1)).toBe(false);
      expect(looks(load, 50, 50, 50).at(-1)).toBe(true);
    }
  });
});

interface Course {
  /** Processor time of the same work before and after it got fast [ms], and when that was. */
  first: number;
  then: number;
  fastAfterMs: number;
}

test('a busy process gets its compilers, and is faster by a multiple', () => {
  const script = `
    import { compileWhenBusy } from ${JSON.stringify(new URL('compilers.ts', import.meta.url).href)};
    compileWhenBusy();
    const began = performance.now();
    let first = Infinity;
    function work() {
      let sum = 0;
      for (let i = 0; i < 1e6; i++) sum = (sum + (i ^ (i >> 3))) | 0;
      return sum;
    }
    function turn() {
      const before = process.cpuUsage();
      work();
      const { user, system } = process.cpuUsage(before);
      const then = (user + system) / 1000;
      const fastAfterMs = performance.now() - began;
      if ((first < Infinity && then * 4 < first) || fastAfterMs > 20_000) console.log(JSON.stringify({ first, then, fastAfterMs }));
      else {
        first = Math.min(first, then);
        setImmediate(turn);
      }
    }
    turn();
  `;
  const { status, stdout, stderr } = spawnSync(process.execPath, [...AGENT_FLAGS, '--input-type=module', '--eval', script], {
    encoding: 'utf8',
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const { first, then, fastAfterMs } = JSON.parse(stdout) as Course;
  console.log(`a turn takes ${first} ms at first, ${then} ms after ${(fastAfterMs / 1000).toFixed(1)} s`);
  expect(then).toBeLessThan(first / 4);
  // Before the third look there are none: they would be done with it in a moment.
  expect(fastAfterMs).toBeGreaterThan(2500);
});
