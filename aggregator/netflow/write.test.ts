import { expect, it } from 'vitest';
import { at, LEAVES, type LeafValue } from './leaves.ts';
import { writeFlow } from './write.ts';

function values(leaves: { [path: string]: LeafValue }): Array<LeafValue | undefined> {
  return LEAVES.map(({ path }) => leaves[path]);
}

it('writes integers exactly, as numbers or as RFC 7951 has them', () => {
  const flow = values({
    'time-received': 5,
    count: 2,
    'bytes-in': 18446744073709551615n,
    'pkts-in': 0,
    'src-port': 80,
    'mpls/pal-rd': 9007199254740993n,
  });
  expect(writeFlow(flow, false)).toBe(
    '{"netflow-v9:netflow":{"collector-goflow2":{"time-received":5},"export-packet":{"count":2,"flow-data-record":[{"bytes-in":18446744073709551615,"pkts-in":0,"src-port":80,"mpls":{"pal-rd":9007199254740993}}]}}}',
  );
  expect(writeFlow(flow, true)).toBe(
    '{"netflow-v9:netflow":{"collector-goflow2":{"time-received":"5"},"export-packet":{"count":2,"flow-data-record":[{"bytes-in":"18446744073709551615","pkts-in":"0","src-port":80,"mpls":{"pal-rd":"9007199254740993"}}]}}}',
  );
});

it('leaves out containers without a leaf', () => {
  expect(writeFlow(values({ 'flow-id': 1 }), false)).toBe('{"netflow-v9:netflow":{"export-packet":{"flow-data-record":[{"flow-id":1}]}}}');
  expect(writeFlow(values({ 'flow-id': 1, 'tcp-flags': '', 'vlan/dst-id': 3, 'ipv4/src-mask': 0 }), false)).toContain(
    '[{"flow-id":1,"tcp-flags":"","vlan":{"dst-id":3},"ipv4":{"src-mask":0}}]',
  );
});

it('has a place for every leaf', () => {
  const all = LEAVES.map(({ encoding }, i): LeafValue => (encoding === 'text' ? `t${i}` : i));
  const { 'collector-goflow2': collector, 'export-packet': packet } = JSON.parse(writeFlow(all, false))['netflow-v9:netflow'];
  const { 'flow-data-record': records, ...header } = packet;
  const found = [...Object.values(collector), ...Object.values(header), ...flat(records[0])];
  expect(found.map(String).sort()).toEqual(all.map(String).sort());
  expect(records[0].bgp['next-hop']).toBe(`t${at('bgp/next-hop')}`);
});

function flat(value: object): unknown[] {
  return Object.values(value).flatMap((inner: unknown) => (typeof inner === 'object' && inner !== null ? flat(inner) : [inner]));
}
