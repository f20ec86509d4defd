import fc from 'fast-check';
import { expect, it } from 'vitest';
import { anyFlow } from '../../test/goflow2.ts';
import { tcpFlow } from '../../test/netflow.ts';
import { CSV_HEADER, csvLine } from './csv.ts';
import { decodeJson, namingOf } from './flow.ts';
import { LEAVES } from './leaves.ts';
import { normalise } from './normalise.ts';

function cells(line: string): { [column: string]: string } {
  const names = CSV_HEADER.split(',');
  const values = line.split(',');
  expect(values).toHaveLength(names.length);
  return Object.fromEntries(names.map((name, i) => [name, values[i] ?? '']));
}

it('has a column for every leaf, one for both address families', () => {
  const names = CSV_HEADER.split(',');
  expect(new Set(names).size).toBe(names.length);
  expect(names.slice(0, 4)).toEqual(['time-received', 'sampler-address', 'sampler-address-ipv6', 'sequence-number']);
  expect(names).toContain('src-address');
  expect(names).toContain('bgp-src-as');
  const both = LEAVES.filter(({ path }) => path.startsWith('ipv6/') && LEAVES.some((leaf) => leaf.path === path.replace('ipv6/', 'ipv4/')));
  expect(names).toHaveLength(LEAVES.length - both.length);
});

it('writes what a flow has, and nothing where it has nothing', () => {
  const four = cells(csvLine(tcpFlow({ BytesIn: '18446744073709551615', TCPFlags: 18, SrcAS: 5 }).values));
  expect(four).toMatchObject({
    'src-address': '10.0.0.1',
    'bytes-in': '18446744073709551615',
    'tcp-flags': 'syn ack',
    'bgp-src-as': '5',
    'pkts-in': '',
    'ip-version': 'ipv4',
  });
  const six = cells(csvLine(tcpFlow({ SrcAddr: '2001:db8::1', DstAddr: '2001:db8::2', Etype: 34525 }).values));
  expect(six).toMatchObject({ 'src-address': '2001:db8::1', 'dst-address': '2001:db8::2', 'ip-version': 'ipv6' });
});

it('never needs quotes', () => {
  fc.assert(
    fc.property(anyFlow, (text) => {
      const decoded = decodeJson(Buffer.from(text));
      if (typeof decoded === 'string') throw new Error(decoded);
      const flow = normalise(decoded.fields, namingOf(decoded.shape), {}, () => {});
      if (typeof flow === 'string') throw new Error(flow);
      const line = csvLine(flow.values);
      expect(line).toMatch(/^[\w.:/ ,-]*$/);
      cells(line);
    }),
  );
});
