/**
 * The output as a table: every leaf of netflow-v9.yang in the order it is written, and for those that are one field of GoFlow2 taken
 * as it is, that field's names. The writer, the CSV columns and the counts of left-out values all go by this table; a test holds it
 * against the YANG module.
 */
import { readMac } from './addresses.ts';
import { DIRECTIONS, ENGINE_TYPES, FORWARDING_STATUSES, TCP_FLAG_TEXTS, TOP_LABEL_TYPES } from './enumerations.ts';
import { type Integer, readSmall, readUint64 } from './integers.ts';

/** Checked and ready to be written: an integer, or text that needs no escaping (also decimals: their digits). */
export type LeafValue = Integer | string;

/** How a value stands in JSON. 64-bit integers and decimals are text where RFC 7951, section 6.1 is asked for. */
export type Encoding = 'number' | 'wide' | 'text';

type Read = (raw: unknown) => LeafValue | undefined;

export interface Leaf<Path extends string = string> {
  /** The containers below `flow-data-record` and the name, joined by `/`. */
  readonly path: Path;
  readonly encoding: Encoding;
  /** Set where the leaf is one field, and `read` gives undefined for a value the leaf cannot have. */
  readonly read?: Read;
  /**
   * The field's names in the order they are tried: CamelCase (the seed's GoFlow2, version 1) and snake_case (version 2, and version 1 with
   * `-format.tag=json`).
   */
  readonly camel: readonly string[];
  readonly snake: readonly string[];
}

const upTo =
  (max: number): Read =>
  (raw) =>
    readSmall(raw, max);
const uint8 = upTo(0xff);
const uint16 = upTo(0xffff);
const uint32 = upTo(0xffffffff);
const positiveInt32 = upTo(0x7fffffff);
const named = (names: Readonly<Record<number, string>>): Read => {
  const byNumber = new Map(Object.entries(names).map(([number, name]) => [Number(number), name]));
  return (raw) => byNumber.get(readSmall(raw, 0xffffffff) ?? -1);
};
const flags: Read = (raw) => TCP_FLAG_TEXTS[readSmall(raw, 0xff) ?? -1];

function leaf<Path extends string>(path: Path, encoding: Encoding, read?: Read, camel = '', snake = ''): Leaf<Path> {
  const names = (list: string): string[] => list.split(' ').filter((name) => name !== '');
  return { path, encoding, ...(read === undefined ? {} : { read }), camel: names(camel), snake: names(snake) };
}

const COLLECTOR = [leaf('time-received', 'wide'), leaf('sampler-address', 'text'), leaf('sampler-address-ipv6', 'text')] as const;

const PACKET = [
  leaf('sequence-number', 'number', uint32, 'SequenceNum', 'sequence_num'),
  leaf('count', 'number', uint16, 'Count'),
  leaf('system-uptime', 'number', uint32, 'SystemUptime'),
  leaf('unix-seconds', 'number', uint32, 'UnixSeconds'),
  leaf('source-id', 'number', uint32, 'SourceId', 'observation_domain_id'),
] as const;

const RECORD = [
  leaf('flow-id', 'number'),
  leaf('direction', 'text', named(DIRECTIONS), 'FlowDirection', 'flow_direction'),
  leaf('first-switched', 'wide'),
  leaf('last-switched', 'wide'),
  leaf('bytes-in', 'wide', readUint64, 'BytesIn Bytes', 'bytes'),
  leaf('pkts-in', 'wide', readUint64, 'PacketsIn Packets', 'packets'),
  leaf('bytes-out', 'wide', readUint64, 'BytesOut'),
  leaf('pkts-out', 'wide', readUint64, 'PacketsOut'),
  leaf('ip-version', 'text'),
  leaf('protocol', 'text'),
  leaf('src-port', 'number', uint16, 'SrcPort', 'src_port'),
  leaf('dst-port', 'number', uint16, 'DstPort', 'dst_port'),
  leaf('tcp-flags', 'text', flags, 'TCPFlags TcpFlags', 'tcp_flags'),
  leaf('icmp-type', 'number'),
  leaf('src-tos', 'number', uint8, 'SrcTos IPTos IpTos', 'ip_tos'),
  leaf('dst-tos', 'number', uint8, 'DstTos'),
  leaf('min-ttl', 'number', uint8, 'MinTTL IPTTL IpTtl', 'ip_ttl'),
  leaf('max-ttl', 'number', uint8, 'MaxTTL'),
  leaf('snmp-in', 'number', positiveInt32, 'InIf', 'in_if'),
  leaf('snmp-out', 'number', positiveInt32, 'OutIf', 'out_if'),
  leaf('src-mac-in', 'text', readMac, 'SrcMacIn SrcMac', 'src_mac'),
  leaf('dst-mac-in', 'text', readMac, 'DstMacIn DstMac', 'dst_mac'),
  leaf('src-mac-out', 'text', readMac, 'SrcMacOut'),
  leaf('dst-mac-out', 'text', readMac, 'DstMacOut'),
  leaf('forwarding-status', 'text', named(FORWARDING_STATUSES), 'ForwardingStatus', 'forwarding_status'),
  leaf('sampling-interval', 'number', uint32, 'SamplingRate', 'sampling_rate'),
  leaf('engine-type', 'text', named(ENGINE_TYPES), 'EngineType'),
  leaf('engine-id', 'number', uint8, 'EngineId'),
  leaf('vlan/src-id', 'number', uint16, 'SrcVlan', 'src_vlan'),
  leaf('vlan/dst-id', 'number', uint16, 'DstVlan', 'dst_vlan'),
  leaf('bgp/src-as', 'number', uint32, 'SrcAS SrcAs', 'src_as'),
  leaf('bgp/dst-as', 'number', uint32, 'DstAS DstAs', 'dst_as'),
  leaf('bgp/next-hop', 'text'),
  leaf('bgp/next-hop-ipv6', 'text'),
  leaf('ipv4/src-address', 'text'),
  leaf('ipv4/dst-address', 'text'),
  leaf('ipv4/src-mask', 'number'),
  leaf('ipv4/dst-mask', 'number'),
  leaf('ipv4/src-prefix', 'text'),
  leaf('ipv4/dst-prefix', 'text'),
  leaf('ipv4/next-hop', 'text'),
  leaf('ipv4/identification', 'number'),
  leaf('ipv6/src-address', 'text'),
  leaf('ipv6/dst-address', 'text'),
  leaf('ipv6/src-mask', 'number'),
  leaf('ipv6/dst-mask', 'number'),
  leaf('ipv6/next-hop', 'text'),
  leaf('ipv6/flow-label', 'number'),
  leaf('ipv6/opt-headers', 'number'),
  leaf('mpls/pal-rd', 'wide', readUint64, 'MPLSPalRd'),
  leaf('mpls/prefix-len', 'number', upTo(128), 'MPLSPrefixLen'),
  leaf('mpls/top-label-type', 'text', named(TOP_LABEL_TYPES), 'MPLSTopLabelType'),
  leaf('mpls/top-label-ip', 'text'),
  leaf('mpls/top-label-ipv6', 'text'),
  leaf('mpls/label-1', 'number', uint32, 'MPLS1Label Mpls_1Label', 'mpls_1_label'),
  leaf('mpls/label-2', 'number', uint32, 'MPLS2Label Mpls_2Label', 'mpls_2_label'),
  leaf('mpls/label-3', 'number', uint32, 'MPLS3Label Mpls_3Label', 'mpls_3_label'),
  leaf('mpls/label-4', 'number', uint32, 'MPLS4Label'),
  leaf('mpls/label-5', 'number', uint32, 'MPLS5Label'),
  leaf('mpls/label-6', 'number', uint32, 'MPLS6Label'),
  leaf('mpls/label-7', 'number', uint32, 'MPLS7Label'),
  leaf('mpls/label-8', 'number', uint32, 'MPLS8Label'),
  leaf('mpls/label-9', 'number', uint32, 'MPLS9Label'),
  leaf('mpls/label-10', 'number', uint32, 'MPLS10Label'),
] as const;

/** Filled by the optional stages only: see aggregate.ts and bidirectional.ts. */
const STAGES = [
  leaf('reverse/flow-id', 'number'),
  leaf('reverse/first-switched', 'wide'),
  leaf('reverse/last-switched', 'wide'),
  leaf('reverse/bytes-in', 'wide'),
  leaf('reverse/pkts-in', 'wide'),
  leaf('reverse/bytes-out', 'wide'),
  leaf('reverse/pkts-out', 'wide'),
  leaf('reverse/tcp-flags', 'text'),
  leaf('reverse/flows', 'wide'),
  leaf('aggregate/window-start', 'wide'),
  leaf('aggregate/window-end', 'wide'),
  leaf('aggregate/flows', 'wide'),
  leaf('aggregate/duration', 'wide'),
  leaf('aggregate/bytes-in-per-second', 'wide'),
  leaf('aggregate/pkts-in-per-second', 'wide'),
  leaf('aggregate/bytes-in-per-packet', 'wide'),
  leaf('aggregate/bytes-out-per-second', 'wide'),
  leaf('aggregate/pkts-out-per-second', 'wide'),
  leaf('aggregate/bytes-out-per-packet', 'wide'),
] as const;

const ALL = [...COLLECTOR, ...PACKET, ...RECORD, ...STAGES] as const;

export type LeafPath = (typeof ALL)[number]['path'];
export const LEAVES: readonly Leaf<LeafPath>[] = ALL;

/** Where the parts of a message begin in `LEAVES`. */
export const PACKET_AT = COLLECTOR.length;
export const RECORD_AT = PACKET_AT + PACKET.length;

const POSITIONS = new Map(LEAVES.map(({ path }, position) => [path, position]));

/** The position of a leaf in `LEAVES`, and of its value in a flow. */
export function at(path: LeafPath): number {
  const position = POSITIONS.get(path);
  if (position === undefined) throw new Error(`no leaf ${path}`);
  return position;
}
