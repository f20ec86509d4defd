import fc from 'fast-check';
import { expect, it } from 'vitest';
import { flowId, reversed, tupleText } from './flow-id.ts';

const UDP = { source: '10.0.27.116,123', destination: '37.235.53.152,123', protocol: '17' };

it('stays what it is (numbers worked out by another program from the description)', () => {
  expect(flowId(UDP)).toBe(292646266);
  expect(flowId(reversed(UDP))).toBe(1258692411);
  expect(flowId({ source: '2001:db8:0:0:0:0:0:1,51000', destination: '2001:db8:0:1:0:0:0:53,53', protocol: '17' })).toBe(1918027837);
  expect(tupleText(UDP)).toBe('10.0.27.116,123,37.235.53.152,123,17');
});

it('is a positive int32', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (source, destination) => {
      const id = flowId({ source, destination, protocol: '6' });
      expect(Number.isInteger(id) && id >= 1 && id <= 0x7fffffff).toBe(true);
    }),
  );
});

it('spreads flows that differ little as chance would', () => {
  const ids = new Set<number>();
  const lowBits = new Array<number>(16).fill(0);
  const count = 40_000;
  for (let i = 0; i < count; i++) {
    const id = flowId({ source: `10.0.0.1,${1024 + i}`, destination: '10.0.0.2,443', protocol: '6' });
    ids.add(id);
    const bucket = id & 15;
    lowBits[bucket] = (lowBits[bucket] ?? 0) + 1;
  }
  // 40,000 of 2^31: 0.37 collisions are expected.
  expect(count - ids.size).toBeLessThanOrEqual(4);
  for (const n of lowBits) expect(Math.abs(n - count / 16)).toBeLessThan(300);
});
