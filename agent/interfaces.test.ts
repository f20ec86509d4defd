import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InterfaceFilter, matches } from './interfaces.ts';

const EXCLUDED = ['lo', 'veth*', 'docker*', 'br-*'];

describe('matches', () => {
  test.each([
    ['eth0', 'eth0', true],
    ['eth0', 'eth01', false],
    ['eth*', 'eth', true],
    ['eth*', 'eth0.100', true],
    ['eth*', 'beth0', false],
    ['*', '', true],
    ['*.100', 'eth0.100', true],
    ['*.100', '.10', false],
    ['e*h*0', 'eth0', true],
    ['e*0*0', 'e0', false],
    ['ab*ba', 'aba', false],
    ['*a*b*', 'xaxbx', true],
    ['*a*b*', 'xbxax', false],
    ['**', 'any', true],
    ['a**b', 'ab', true],
    ['eth?', 'eth0', false],
    ['e.h0', 'eth0', false],
  ])('%j takes %j: %j', (pattern, name, expected) => {
    expect(matches(pattern, name)).toBe(expected);
  });

  test('agrees with a regular expression for any pattern', () => {
    const letters = fc.array(fc.constantFrom('a', 'b', '*', '.'), { maxLength: 8 }).map((a) => a.join(''));
    const name = fc.array(fc.constantFrom('a', 'b', '.'), { maxLength: 12 }).map((a) => a.join(''));
    fc.assert(
      fc.property(letters, name, (pattern, text) => {
        const expected = new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll('*', '.*')}$`, 's').test(text);
        return matches(pattern, text) === expected;
      }),
      { numRuns: 5000 },
    );
  });

  test('takes no time on a name made to be slow', () => {
    const started = performance.now();
    expect(matches(`${'a*'.repeat(50)}b`, 'a'.repeat(200_000))).toBe(false);
    expect(performance.now() - started).toBeLessThan(1000);
  });
});

describe('InterfaceFilter', () => {
  test('a pattern takes what it matches, in the order of the source, but nothing excluded', () => {
    const filter = new InterfaceFilter(['*'], EXCLUDED);
    expect(filter.choose(['tun0', 'lo', 'eth1', 'veth12ab', 'docker0', 'br-1', 'bridge0', 'eth0'])).toEqual({
      chosen: ['tun0', 'eth1', 'bridge0', 'eth0'],
      missing: [],
    });
  });

  test('a name is taken although it is excluded', () => {
    const filter = new InterfaceFilter(['lo', 'v*'], EXCLUDED);
    expect(filter.choose(['lo', 'veth0', 'vlan5', 'eth0'])).toEqual({ chosen: ['lo', 'vlan5'], missing: [] });
  });

  test('names that are not there are told, patterns without a match are not', () => {
    const filter = new InterfaceFilter(['eth2', 'eth0', 'wan*'], EXCLUDED);
    expect(filter.choose(['eth0', 'eth1'])).toEqual({ chosen: ['eth0'], missing: ['eth2'] });
  });

  test('an interface offered twice is chosen once', () => {
    expect(new InterfaceFilter(['eth*'], []).choose(['eth0', 'eth0'])).toEqual({ chosen: ['eth0'], missing: [] });
  });
});
