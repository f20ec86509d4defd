import { isIP, isIPv4, isIPv6, SocketAddress } from 'node:net';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { addressOfBytes, ipv6Groups, isIpv4, readAddress, readAddressOrHex, readMac } from './addresses.ts';

/** Texts that are nearly addresses. */
const nearly = fc.oneof(
  fc.ipV4(),
  fc.ipV6(),
  fc
    .array(fc.constantFrom('0', '1', '25', '256', 'f', 'ffff', 'g', ':', '::', '.', '%', '1.2.3.4', ' '), { maxLength: 14 })
    .map((parts) => parts.join('')),
);

it('takes the addresses that Node takes, without a zone', () => {
  fc.assert(
    fc.property(nearly, (text) => {
      expect(isIpv4(text)).toBe(isIPv4(text));
      expect(ipv6Groups(text) !== undefined).toBe(isIPv6(text) && !text.includes('%'));
    }),
    { numRuns: 2000 },
  );
});

it('has one key for every way to write an address', () => {
  fc.assert(
    fc.property(fc.ipV6(), (text) => {
      const long =
        ipv6Groups(text)
          ?.map((group) => group.toString(16).toUpperCase().padStart(4, '0'))
          .join(':') ?? '';
      const [short, full] = [readAddress(text), readAddress(long)];
      if (short === undefined || short === '' || full === undefined || full === '') throw new Error(text);
      expect(full.key).toBe(short.key);
    }),
  );
});

it('writes the address of bytes as RFC 5952 has it', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(0, 0, 0, 1, 16, 255), { minLength: 16, maxLength: 16 }), (bytes) => {
      const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] ?? 0) * 256 + (bytes[2 * i + 1] ?? 0)).toString(16)).join(':');
      const { text, family } = addressOfBytes(bytes) ?? { text: '', family: 4 };
      // Node writes IPv4-compatible addresses with dots, which RFC 5952 leaves open.
      if (family === 6 && !/^::[0-9a-f]{1,4}:[0-9a-f]{1,4}$/.test(text))
        expect(text).toBe(new SocketAddress({ address: groups, family: 'ipv6' }).address);
      expect(
        ipv6Groups(text)
          ?.map((group) => group.toString(16))
          .join(':') ?? groups,
      ).toBe(groups);
    }),
  );
});

it.each([
  ['10.0.27.116', { family: 4, text: '10.0.27.116', key: '10.0.27.116' }],
  ['::ffff:10.0.27.116', { family: 4, text: '10.0.27.116', key: '10.0.27.116' }],
  ['::FFFF:a00:1b74', { family: 4, text: '10.0.27.116', key: '10.0.27.116' }],
  ['2001:DB8::A', { family: 6, text: '2001:DB8::A', key: '2001:db8:0:0:0:0:0:a' }],
  [[10, 0, 0, 1], { family: 4, text: '10.0.0.1', key: '10.0.0.1' }],
  [[32, 1, 13, 184, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], { family: 6, text: '2001:db8::1', key: '2001:db8:0:0:0:0:0:1' }],
  ['', ''],
  [[], ''],
  ['10.0.0', undefined],
  ['010.0.0.1', undefined],
  ['10.0.0.1/24', undefined],
  ['fe80::1%eth0', undefined],
  ['0a000001', undefined],
  [[10, 0, 0, 256], undefined],
  [[10, 0, 0], undefined],
  [['10', 0, 0, 1], undefined],
  [167772161, undefined],
  [null, undefined],
  [{}, undefined],
])('reads %j', (raw, address) => {
  expect(readAddress(raw)).toEqual(address);
});

it('reads an address in hexadecimal digits where that is asked for', () => {
  expect(readAddressOrHex('0a090909')).toEqual(readAddress('10.9.9.9'));
  expect(readAddressOrHex('20010db8000000000000000000000009')).toMatchObject({ text: '2001:db8::9' });
  expect(readAddressOrHex('10.9.9.9')).toEqual(readAddress('10.9.9.9'));
  expect([readAddressOrHex('0a0909'), readAddressOrHex(''), isIP('0a090909')]).toEqual([undefined, '', 0]);
});

it('reads MAC addresses', () => {
  expect(['02:00:5e:10:00:01', '02:00:5E:10:00:FF'].map(readMac)).toEqual(['02:00:5e:10:00:01', '02:00:5E:10:00:FF']);
  expect(
    ['', '02-00-5e-10-00-01', '02:00:5e:10:00', '02:00:5e:10:00:01:02', 'x2:00:5e:10:00:01', 2, null]
      .map(readMac)
      .every((mac) => mac === undefined),
  ).toBe(true);
});
