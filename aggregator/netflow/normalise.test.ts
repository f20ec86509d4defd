import { expect, it } from 'vitest';
import { DIRECTIONS, ENGINE_TYPES, FORWARDING_STATUSES, PROTOCOLS, PROTOCOLS_BY_NAME, TCP_FLAGS, TOP_LABEL_TYPES } from './enumerations.ts';
import { parseJson } from './integers.ts';
import { at, LEAVES, type LeafPath, type LeafValue } from './leaves.ts';
import { type Fields, type Naming, type NormaliseOptions, normalise } from './normalise.ts';

const CAMEL = { SrcAddr: '10.0.0.1', DstAddr: '10.0.0.2' };
const CAMEL6 = { SrcAddr: '2001:db8::1', DstAddr: '2001:db8::2' };
const SNAKE = { src_addr: '10.0.0.1', dst_addr: '10.0.0.2' };

interface Outcome {
  leaves: Partial<Record<LeafPath, LeafValue>>;
  leftOut: LeafPath[];
  times: Array<number | undefined>;
}

function outcome(fields: Fields, naming: Naming = 'camel', options: NormaliseOptions = {}): Outcome {
  const leftOut: LeafPath[] = [];
  const flow = normalise(fields, naming, options, (leaf) => leftOut.push(leaf));
  if (typeof flow === 'string') throw new Error(flow);
  const leaves = Object.fromEntries(
    LEAVES.flatMap(({ path }) => (flow.values[at(path)] === undefined ? [] : [[path, flow.values[at(path)]]])),
  );
  return { leaves, leftOut, times: [flow.startMs, flow.endMs, flow.receivedMs] };
}

/** What a field gives, beside what the addresses give alone. */
function given(fields: Fields, base: Fields = CAMEL, naming: Naming = 'camel'): Outcome['leaves'] {
  const without = outcome(base, naming).leaves;
  const { leaves } = outcome({ ...base, ...fields }, naming);
  return Object.fromEntries(Object.entries(leaves).filter(([path, value]) => path !== 'flow-id' && without[path as LeafPath] !== value));
}

it.each<[string, LeafPath, Readonly<Record<number, string>>]>([
  ['FlowDirection', 'direction', { 0: 'ingress', 1: 'egress' }],
  [
    'Proto',
    'protocol',
    { 1: 'icmp', 2: 'igmp', 6: 'tcp', 8: 'egp', 9: 'igp', 17: 'udp', 58: 'icmp-ipv6', 103: 'pim', 115: 'l2tp', 132: 'sctp', 143: 'eth' },
  ],
  ['EngineType', 'engine-type', { 0: 'rp', 1: 'vip-linecard', 2: 'pdc/dfc' }],
  ['MPLSTopLabelType', 'mpls/top-label-type', { 0: 'unknown', 1: 'te-midpt', 2: 'atom', 3: 'vpn', 4: 'bgp', 5: 'ldp' }],
  [
    'ForwardingStatus',
    'forwarding-status',
    {
      0: 'unknown',
      64: 'unknown-forwarded',
      65: 'forwarded-frag',
      66: 'forwarded-not-frag',
      128: 'unknown-dropped',
      129: 'acl-deny',
      130: 'acl-drop',
      131: 'unroutable',
      132: 'adjacency',
      133: 'fragment-df',
      134: 'bad-header-check',
      135: 'bad-tot-len',
      136: 'bad-header-len',
      137: 'bad-ttl',
      138: 'policer',
      139: 'wred',
      140: 'rpf',
      141: 'for-us',
      142: 'bad-out-interf',
      143: 'hardware',
      192: 'unknown-consumed',
      193: 'term-punt-adjacency',
      194: 'term-incomp-adjacency',
      195: 'term-for-us',
    },
  ],
])('%s has the names of the contract and counts any other number', (field, path, names) => {
  for (let number = 0; number < 300; number++) {
    const { leaves, leftOut } = outcome({ ...CAMEL, [field]: number });
    expect([number, leaves[path], leftOut]).toEqual([number, names[number], names[number] === undefined ? [path] : []]);
  }
});

it('has those same names in its tables', () => {
  expect([DIRECTIONS, PROTOCOLS, ENGINE_TYPES, TOP_LABEL_TYPES, FORWARDING_STATUSES].map((table) => Object.keys(table).length)).toEqual([
    2, 11, 3, 6, 24,
  ]);
  expect(PROTOCOLS_BY_NAME.get('TCP')).toBe(6);
  expect([...PROTOCOLS_BY_NAME.keys()].includes('?')).toBe(false);
});

it('writes TCP flags in the order of their bits', () => {
  expect(TCP_FLAGS).toEqual(['fin', 'syn', 'rst', 'psh', 'ack', 'urg', 'ece', 'cwr']);
  for (let value = 0; value < 256; value++) {
    const text = outcome({ ...CAMEL, TCPFlags: value }).leaves['tcp-flags'];
    const bits = String(text)
      .split(' ')
      .reduce((sum, name) => sum + (name === '' ? 0 : 1 << ['fin', 'syn', 'rst', 'psh', 'ack', 'urg', 'ece', 'cwr'].indexOf(name)), 0);
    expect(bits).toBe(value);
  }
  expect(outcome({ ...CAMEL, TCPFlags: 0x12 }).leaves['tcp-flags']).toBe('syn ack');
  expect(outcome({ ...CAMEL, TCPFlags: 0x100 })).toMatchObject({ leftOut: ['tcp-flags'] });
});

it.each<[Fields, Outcome['leaves']]>([
  [{ IcmpType: 8, IcmpCode: 0 }, { 'icmp-type': 2048 }],
  [{ IcmpType: 3, IcmpCode: 13 }, { 'icmp-type': 781 }],
  [{ IcmpType: 3 }, { 'icmp-type': 768 }],
  [
    { SrcVlan: 7, DstVlan: 65535 },
    { 'vlan/src-id': 7, 'vlan/dst-id': 65535 },
  ],
  [{ Etype: 2048, NextHop: '' }, { 'ipv4/next-hop': '0.0.0.0' }],
  [{ BgpNextHop: '' }, { 'bgp/next-hop': '0.0.0.0' }],
  [{ BgpNextHop: '2001:db8::1' }, { 'bgp/next-hop-ipv6': '2001:db8::1' }],
  [{ SamplerAddress: '2001:db8::1' }, { 'sampler-address-ipv6': '2001:db8::1' }],
  [
    { SrcPrefix: '10.0.0.0', SrcNet: 8 },
    { 'ipv4/src-prefix': '10.0.0.0/8', 'ipv4/src-mask': 8 },
  ],
  [{ DstPrefix: '10.0.0.0/9' }, { 'ipv4/dst-prefix': '10.0.0.0/9' }],
  [{ SrcPrefix: '', DstPrefix: '' }, {}],
  [{ MPLSTopLabelIP: '' }, { 'mpls/top-label-ip': '0.0.0.0' }],
  [
    { Bytes: 5, Packets: 1, IPTos: 8, IPTTL: 64, SrcMac: '02:00:00:00:00:01' },
    { 'bytes-in': 5, 'pkts-in': 1, 'src-tos': 8, 'min-ttl': 64, 'src-mac-in': '02:00:00:00:00:01' },
  ],
  [{ HasMpls: false, MPLS1Label: 0, MplsLabelIp: [] }, {}],
  [
    { HasMPLS: true, MPLS1Label: 9, MPLSLabelIP: '10.9.9.9' },
    { 'mpls/label-1': 9, 'mpls/top-label-ip': '10.9.9.9' },
  ],
  [{ InIf: '18446744073709551615', SrcPort: '443' }, { 'src-port': 443 }],
])('%j gives %j', (fields, leaves) => {
  expect(given(fields)).toEqual(leaves);
});

it.each<[Fields, Outcome['leaves']]>([
  [
    { Etype: 34525, NextHop: '', BgpNextHop: '' },
    { 'ipv6/next-hop': '0:0:0:0:0:0:0:0', 'bgp/next-hop-ipv6': '0:0:0:0:0:0:0:0' },
  ],
  [{ NextHop: '0.0.0.0' }, { 'ipv6/next-hop': '0:0:0:0:0:0:0:0' }],
  [{ NextHop: '192.0.2.1' }, { 'ipv6/next-hop': '::ffff:192.0.2.1' }],
  [{ SrcNet: 128, DstNet: 129 }, { 'ipv6/src-mask': 128 }],
  [
    { IPv6FlowLabel: 1048575, IPv6OptionHeaders: 4294967295 },
    { 'ipv6/flow-label': 1048575, 'ipv6/opt-headers': 4294967295 },
  ],
  [{ Ipv6FlowLabel: 7 }, { 'ipv6/flow-label': 7 }],
  [{ FragmentId: 1, SrcPrefix: '10.0.0.0/8' }, {}],
])('of an IPv6 flow, %j gives %j', (fields, leaves) => {
  expect(given(fields, CAMEL6)).toEqual(leaves);
});

it.each<[Fields, Outcome['leaves']]>([
  [{ proto: 'TCP', etype: 'IPv4' }, { protocol: 'tcp' }],
  [{ proto: 'IPv6-ICMP' }, { protocol: 'icmp-ipv6' }],
  [{ proto: 'ICMPv6' }, { protocol: 'icmp-ipv6' }],
  [{ proto: 'Ethernet' }, { protocol: 'eth' }],
  [{ proto: 17 }, { protocol: 'udp' }],
  [{ src_net: '10.0.0.0/24', dst_net: 'invalid Prefix' }, { 'ipv4/src-mask': 24 }],
  [{ observation_domain_id: 7 }, { 'source-id': 7 }],
  [
    { mpls_label: [100, 200], mpls_ip: ['10.9.9.9', '10.8.8.8'] },
    { 'mpls/label-1': 100, 'mpls/label-2': 200, 'mpls/top-label-ip': '10.9.9.9' },
  ],
  [{ mpls_label: [], mpls_ip: [] }, {}],
  [{ has_mpls: false, mpls_1_label: 0, mpls_label_ip: [] }, {}],
  [
    { has_mpls: true, mpls_1_label: 9, mpls_label_ip: [10, 9, 9, 9] },
    { 'mpls/label-1': 9, 'mpls/top-label-ip': '10.9.9.9' },
  ],
  [
    { time_received: 7, time_flow_start: 5, time_flow_end_ms: 6500 },
    { 'time-received': 7, 'first-switched': 5, 'last-switched': 6500 },
  ],
  [
    { flow_direction: 1, ip_ttl: 63, ip_tos: 184 },
    { direction: 'egress', 'min-ttl': 63, 'src-tos': 184 },
  ],
])('of version 2, %j gives %j', (fields, leaves) => {
  expect(given(fields, SNAKE, 'snake')).toEqual(leaves);
});

it('counts labels beyond the tenth', () => {
  const labels = Array.from({ length: 12 }, (_, i) => i + 1);
  const { leaves, leftOut } = outcome({ ...SNAKE, mpls_label: labels }, 'snake');
  expect([leaves['mpls/label-10'], leftOut]).toEqual([10, ['mpls/label-10', 'mpls/label-10']]);
});

it.each<[string, Fields, Naming, unknown[], unknown[]]>([
  ['seconds', { TimeFlowStart: 10, TimeFlowEnd: 12, TimeReceived: 13 }, 'camel', [10, 12, 13], [10_000, 12_000, 13_000]],
  [
    'milliseconds where they are there',
    { TimeFlowStart: 10, TimeFlowEnd: 12, TimeFlowStartMs: 10_500, TimeFlowEndMs: 12_250 },
    'camel',
    [10_500, 12_250, undefined],
    [10_500, 12_250, undefined],
  ],
  [
    'seconds where the milliseconds are 0 or wrong',
    { TimeFlowStart: 10, TimeFlowEnd: 12, TimeFlowStartMs: 0, TimeFlowEndMs: 'x' },
    'camel',
    [10, 12, undefined],
    [10_000, 12_000, undefined],
  ],
  ['milliseconds of 0 without seconds', { TimeFlowStartMs: 0 }, 'camel', [0, undefined, undefined], [0, undefined, undefined]],
  [
    'nanoseconds',
    { time_flow_start_ns: '1681583295157000000', time_flow_end_ns: '1681583295157999999', time_received_ns: '1681583295999999999' },
    'snake',
    [1681583295157, 1681583295157, 1681583295],
    [1681583295157, 1681583295157, 1681583295999],
  ],
  [
    'a time of day',
    { time_received_ns: '2023-04-15T18:28:15.157626123Z' },
    'snake',
    [undefined, undefined, 1681583295],
    [undefined, undefined, 1681583295157],
  ],
  [
    'no time at all',
    { time_received_ns: 'yesterday', time_flow_start_ns: -1 },
    'snake',
    [undefined, undefined, undefined],
    [undefined, undefined, undefined],
  ],
])('reads %s', (_, fields, naming, leaves, times) => {
  const result = outcome({ ...(naming === 'camel' ? CAMEL : SNAKE), ...fields }, naming);
  expect(['first-switched', 'last-switched', 'time-received'].map((path) => result.leaves[path as LeafPath])).toEqual(leaves);
  expect(result.times).toEqual(times);
});

it('does not round nanoseconds on the way to milliseconds', () => {
  // As a double the number is 1681583295156999936: a millisecond less.
  const fields = parseJson('{"src_addr":"10.0.0.1","dst_addr":"10.0.0.2","time_flow_start_ns":1681583295157000000}') as Fields;
  expect(Number(1681583295157000000n).toString()).toBe('1681583295157000000');
  expect(BigInt(Number(1681583295157000000n))).toBe(1681583295156999936n);
  expect(outcome(fields, 'snake').leaves['first-switched']).toBe(1681583295157);
});

it('writes first- and last-switched in the unit asked for', () => {
  const fields = { ...CAMEL, TimeFlowStart: 10, TimeFlowEndMs: 12_999 };
  const switched = (options: NormaliseOptions, all: Fields = fields) => {
    const { leaves } = outcome(all, 'camel', options);
    return [leaves['first-switched'], leaves['last-switched']];
  };
  expect(switched({})).toEqual([10, 12_999]);
  expect(switched({ switchedUnit: 's' })).toEqual([10, 12]);
  expect(switched({ switchedUnit: 'ms' })).toEqual([10_000, 12_999]);
  const late = { ...CAMEL, TimeFlowStart: '18446744073709551', TimeFlowEnd: '18446744073709552' };
  expect(switched({ switchedUnit: 'ms' }, late)).toEqual([18446744073709551000n, undefined]);
});

it('gives the same id to the same flow in every shape, and another to another', () => {
  const id = (fields: Fields, naming: Naming = 'camel') => outcome(fields, naming).leaves['flow-id'];
  const flow = { SrcAddr: '2001:db8::1', DstAddr: '2001:db8:0:1::53', SrcPort: 51000, DstPort: 53, Proto: 17 };
  expect(id(flow)).toBe(1918027837);
  expect(id({ ...flow, SrcAddr: '2001:DB8:0:0::0:1', BytesIn: 9, TimeReceived: 1 })).toBe(1918027837);
  expect(id({ src_addr: '2001:db8::1', dst_addr: '2001:db8:0:1::53', src_port: 51000, dst_port: 53, proto: 'UDP' }, 'snake')).toBe(
    1918027837,
  );
  const others = [{ SrcPort: 51001 }, { DstPort: 54 }, { Proto: 6 }, { SrcAddr: '2001:db8::2' }, { DstAddr: '2001:db8::2' }];
  for (const other of others) expect(id({ ...flow, ...other })).not.toBe(1918027837);
  // The protocol has no name and so no leaf; it tells flows apart all the same.
  expect(id({ ...flow, Proto: 47 })).not.toBe(id({ ...flow, Proto: 50 }));
});

it.each([
  [{}, 'camel', 'no source address (SrcAddr)'],
  [{ SrcAddr: '', DstAddr: '' }, 'camel', 'no source address (SrcAddr)'],
  [{ SrcAddr: '10.0.0.1' }, 'camel', 'no destination address (DstAddr)'],
  [{ SrcAddr: '10.0.0.1', DstAddr: null }, 'camel', 'no destination address (DstAddr)'],
  [{ src_addr: '10.0.0.1', dst_addr: '' }, 'snake', 'no destination address (dst_addr)'],
  [{ SrcAddr: 'host', DstAddr: '10.0.0.1' }, 'camel', 'source address is no IP address: "host"'],
  [{ SrcAddr: [1, 2, 3], DstAddr: '10.0.0.1' }, 'camel', 'source address is no IP address: [1,2,3]'],
] as Array<[Fields, Naming, string]>)('refuses %j', (fields, naming, reason) => {
  expect(normalise(fields, naming, {}, () => {})).toBe(reason);
});

it.each([
  ['a list', '[', ']'],
  ['an object', '{"a":', '}'],
])('refuses %s in place of an address, however deep', (what, open, close) => {
  const deep: unknown = JSON.parse(`${open.repeat(20_000)}0${close.repeat(20_000)}`);
  expect(normalise({ SrcAddr: deep, DstAddr: '10.0.0.1' }, 'camel', {}, () => {})).toBe(`source address is no IP address: ${what}`);
});
