/** Flows as GoFlow2 could write them, and as it never would: generators for property tests. */
import fc from 'fast-check';

/** Marks digits that stand in JSON as a number larger than any double holds exactly. */
const RAW = '\u0000';

const ipv4 = fc.ipV4();
const ipv6 = fc.ipV6();
const mapped = ipv4.map((address) => `::ffff:${address}`);
const address = fc.oneof(
  { weight: 4, arbitrary: ipv4 },
  { weight: 3, arbitrary: ipv6 },
  mapped,
  fc.constantFrom('0.0.0.0', '::', '::1', '255.255.255.255'),
);
const unset = fc.constantFrom('', null);
const bytes = fc.oneof(
  fc.array(fc.nat(255), { minLength: 4, maxLength: 4 }),
  fc.array(fc.nat(255), { minLength: 16, maxLength: 16 }),
  fc.constant([]),
);
/** Whatever JSON can hold. */
const junk = fc.oneof(
  fc.jsonValue({ maxDepth: 1 }),
  fc.double(),
  fc.constantFrom('1e3', '007', '-1', 'NaN', '10.0.0.0/24', '10.0.0.0', '0x10', '::ffff:1.2.3.4'),
);
const hop = fc.oneof({ weight: 5, arbitrary: address }, unset, bytes, junk);

/** Integers around every bound that a leaf has, as numbers or (`RAW`) as digits. */
const integer = fc.oneof(
  { weight: 5, arbitrary: fc.nat(300) },
  fc.constantFrom(
    32,
    33,
    128,
    129,
    255,
    256,
    4095,
    65535,
    65536,
    1048575,
    1048576,
    2 ** 31 - 1,
    2 ** 31,
    2 ** 32 - 1,
    2 ** 32,
    2 ** 53 - 1,
  ),
  fc.integer(),
  fc.bigInt({ min: -(2n ** 65n), max: 2n ** 65n }).map((value) => RAW + value),
  fc.constantFrom(2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 64n).map((value) => RAW + value),
  fc.constantFrom('1e19', '1.5', '1e400', '-0', '18446744073709551615.0').map((value) => RAW + value),
);
const number = fc.oneof({ weight: 9, arbitrary: integer }, junk, unset);
const mac = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .array(fc.nat(255), { minLength: 6, maxLength: 6 })
      .map((pairs) => pairs.map((pair) => pair.toString(16).padStart(2, '0')).join(':')),
  },
  unset,
  junk,
);
const net = fc.oneof(
  { weight: 3, arbitrary: number },
  fc.tuple(address, fc.nat(140)).map(([base, length]) => `${base}/${length}`),
  fc.constant('invalid Prefix'),
);
const prefix = fc.oneof(
  address,
  fc.tuple(address, fc.nat(40)).map(([base, length]) => `${base}/${length}`),
  unset,
  bytes,
  junk,
);
const named = fc.oneof(
  { weight: 3, arbitrary: number },
  fc.constantFrom('TCP', 'UDP', 'IPv6-ICMP', 'ICMPv6', 'GRE', 'Ethernet', 'unknown', ''),
);
const etype = fc.oneof(fc.constantFrom(2048, 34525, 2054, 'IPv4', 'IPv6', ''), number);
const labels = fc.oneof(fc.array(number, { maxLength: 12 }), junk);
const hops = fc.oneof(fc.array(fc.oneof(address, fc.constantFrom('0a090909', 'deadbeef', '')), { maxLength: 2 }), junk);

const NUMBERS = {
  seed: `SequenceNum Count SystemUptime UnixSeconds SourceId FlowDirection TimeReceived TimeFlowStart TimeFlowEnd TimeFlowStartMs TimeFlowEndMs
    BytesIn PacketsIn BytesOut PacketsOut SrcPort DstPort InIf OutIf SrcVlan DstVlan SrcTos DstTos ForwardingStatus MinTTL MaxTTL TCPFlags IcmpType
    IcmpCode IPv6FlowLabel IPv6OptionHeaders FragmentId SrcAS DstAS MPLSPalRd MPLSPrefixLen MPLSTopLabelType EngineType EngineId SamplingRate
    MPLS1Label MPLS2Label MPLS3Label MPLS4Label MPLS5Label MPLS6Label MPLS7Label MPLS8Label MPLS9Label MPLS10Label`,
  v1: `TimeReceived SequenceNum SamplingRate FlowDirection TimeFlowStart TimeFlowEnd TimeFlowStartMs TimeFlowEndMs Bytes Packets SrcPort DstPort InIf OutIf
    SrcVlan DstVlan IpTos IPTos ForwardingStatus IpTtl IPTTL TcpFlags IcmpType IcmpCode Ipv6FlowLabel FragmentId SrcAs DstAs Mpls_1Label MPLS2Label Mpls_3Label`,
  v2: `time_received_ns sequence_num sampling_rate flow_direction time_flow_start_ns time_flow_end_ns bytes packets src_port dst_port in_if out_if src_vlan
    dst_vlan ip_tos forwarding_status ip_ttl tcp_flags icmp_type icmp_code ipv6_flow_label fragment_id src_as dst_as observation_domain_id`,
};

function allOf(names: string, of: fc.Arbitrary<unknown>): Record<string, fc.Arbitrary<unknown>> {
  return Object.fromEntries(names.split(/\s+/).map((name) => [name, of]));
}

/** A flow with both addresses and any other field missing, right or wrong. */
function flow(required: [string, string], fields: Record<string, fc.Arbitrary<unknown>>): fc.Arbitrary<string> {
  return fc
    .record({ [required[0]]: address, [required[1]]: address, ...fields } as Record<string, fc.Arbitrary<unknown>>, {
      requiredKeys: required,
    })
    .map((value) => jsonOf(value));
}

export const seedFlow = flow(['SrcAddr', 'DstAddr'], {
  ...allOf(NUMBERS.seed, number),
  ...allOf('SamplerAddress NextHop BgpNextHop MPLSTopLabelIP', hop),
  ...allOf('SrcMacIn DstMacIn SrcMacOut DstMacOut', mac),
  ...allOf('SrcNet DstNet', net),
  ...allOf('SrcPrefix DstPrefix', prefix),
  Proto: named,
  Etype: etype,
});

export const v1Flow = flow(['SrcAddr', 'DstAddr'], {
  ...allOf(NUMBERS.v1, number),
  ...allOf('SamplerAddress NextHop BgpNextHop MplsLabelIp', hop),
  ...allOf('SrcMac DstMac', mac),
  ...allOf('SrcNet DstNet', net),
  Proto: named,
  Etype: etype,
  HasMpls: fc.oneof(fc.boolean(), junk),
});

export const v2Flow = flow(['src_addr', 'dst_addr'], {
  ...allOf(NUMBERS.v2, number),
  ...allOf('sampler_address next_hop bgp_next_hop', hop),
  ...allOf('src_mac dst_mac', mac),
  ...allOf('src_net dst_net', net),
  proto: named,
  etype,
  mpls_label: labels,
  mpls_ip: hops,
  time_received_ns: fc.oneof(
    number,
    fc.date({ min: new Date(0), noInvalidDate: true }).map((date) => date.toISOString()),
  ),
});

/** One flow of any JSON shape, as text. */
export const anyFlow: fc.Arbitrary<string> = fc.oneof(seedFlow, v1Flow, v2Flow);

/** JSON with the marked digits as numbers. */
export function jsonOf(value: unknown): string {
  return JSON.stringify(value).replace(/"\\u0000([^"]*)"/g, '$1');
}
