/**
 * One flow of GoFlow2, whichever its shape, to the values of netflow-v9.yang.
 *
 * A field that is missing gives no leaf. A value that its leaf cannot have (out of range, of a wrong type, a number without a name)
 * gives no leaf either and is counted under the leaf's path: the flow still goes out, and what goes out is always valid.
 */
import { type Address, readAddress, readAddressOrHex } from './addresses.ts';
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPES_BY_NAME, PROTOCOLS, PROTOCOLS_BY_NAME } from './enumerations.ts';
import { flowId, type Tuple } from './flow-id.ts';
import { type Integer, MAX_UINT64, narrow, readSmall, readUint64 } from './integers.ts';
import { at, LEAVES, type LeafPath, type LeafValue } from './leaves.ts';
import { msOfNs, msOfSeconds, type SwitchedUnit, secondsOfNs } from './times.ts';

/** A flow as it was decoded: field names of GoFlow2, values of any type. */
export type Fields = Readonly<Record<string, unknown>>;

/** Names in CamelCase (the seed's GoFlow2 and version 1) or in snake_case (version 2, and its protobuf once decoded). */
export type Naming = 'camel' | 'snake';

export interface Flow {
  /** By position in `LEAVES`. */
  readonly values: Array<LeafValue | undefined>;
  readonly tuple: Tuple;
  /** Of the first and last packet and of arrival at the collector [Unix ms]; undefined where the flow does not say. */
  readonly startMs: number | undefined;
  readonly endMs: number | undefined;
  readonly receivedMs: number | undefined;
}

export interface NormaliseOptions {
  /** Unit of first-/last-switched: as it came (seconds, or milliseconds where the flow has them), or always the one given. */
  switchedUnit?: SwitchedUnit;
}

/** Told the path of every leaf that had to be left out. */
export type LeftOut = (leaf: LeafPath) => void;

const PROTOCOL_NAMES = new Map(Object.entries(PROTOCOLS).map(([number, name]) => [Number(number), name]));
const IPV4_UNSET = '0.0.0.0';
const IPV6_UNSET = '0:0:0:0:0:0:0:0';

const SINGLE = {
  camel: LEAVES.flatMap(({ path, read, camel: names }, position) => (read && names.length > 0 ? [{ path, read, names, position }] : [])),
  snake: LEAVES.flatMap(({ path, read, snake: names }, position) => (read && names.length > 0 ? [{ path, read, names, position }] : [])),
};
const SINGLE_WITHOUT_MPLS = {
  camel: SINGLE.camel.filter(({ path }) => !path.startsWith('mpls/')),
  snake: SINGLE.snake.filter(({ path }) => !path.startsWith('mpls/')),
};

/** @returns the flow, or why it cannot be one: a flow needs both addresses */
export function normalise(fields: Fields, naming: Naming, options: NormaliseOptions, leftOut: LeftOut): Flow | string {
  return new Normaliser(fields, naming, options.switchedUnit ?? 'input', leftOut).flow();
}

class Normaliser {
  private readonly fields: Fields;
  private readonly naming: Naming;
  private readonly unit: SwitchedUnit;
  private readonly leftOut: LeftOut;
  private readonly values: Array<LeafValue | undefined> = new Array(LEAVES.length).fill(undefined);

  constructor(fields: Fields, naming: Naming, unit: SwitchedUnit, leftOut: LeftOut) {
    this.fields = fields;
    this.naming = naming;
    this.unit = unit;
    this.leftOut = leftOut;
  }

  flow(): Flow | string {
    const source = this.endpoint('source', 'SrcAddr', 'src_addr');
    if (typeof source === 'string') return source;
    const destination = this.endpoint('destination', 'DstAddr', 'dst_addr');
    if (typeof destination === 'string') return destination;
    // Version 1 says whether the packet had labels and writes zeros where it had none.
    const noMpls = (this.raw('HasMpls', 'has_mpls') ?? this.raw('HasMPLS', undefined)) === false;
    this.singleFields((noMpls ? SINGLE_WITHOUT_MPLS : SINGLE)[this.naming]);
    const protocol = this.protocol();
    const sourcePort = this.values[PORTS.source] ?? 0;
    const destinationPort = this.values[PORTS.destination] ?? 0;
    const tuple = { source: `${source.key},${sourcePort}`, destination: `${destination.key},${destinationPort}`, protocol };
    this.put('flow-id', flowId(tuple));
    this.icmp();
    const six = this.isIpv6(source, destination);
    if (six) this.ipv6(source, destination);
    else this.ipv4(source, destination);
    this.bgp(six);
    if (!noMpls) this.mpls();
    this.sampler();
    return { values: this.values, tuple, ...this.times() };
  }

  /** The fields that are a leaf as they are. */
  private singleFields(leaves: (typeof SINGLE)['camel']): void {
    for (const { path, read, names, position } of leaves) {
      let raw: unknown;
      for (let i = 0; raw === undefined && i < names.length; i++) raw = this.fields[names[i] ?? ''];
      if (raw === undefined || raw === null) continue;
      const value = read(raw);
      if (value !== undefined) this.values[position] = value;
      // An empty address is one that is not set; an empty text where a number should be is a wrong type.
      else if (raw !== '' || !path.includes('mac')) this.leftOut(path);
    }
  }

  /** The field of that name; undefined also for JSON's null, and where this naming has none. */
  private raw(camel: string | undefined, snake: string | undefined): unknown {
    const name = this.naming === 'camel' ? camel : snake;
    const raw = name === undefined ? undefined : this.fields[name];
    return raw === null ? undefined : raw;
  }

  private put(path: LeafPath, value: LeafValue): void {
    this.values[at(path)] = value;
  }

  /** Writes a value that was there and could be read; counts one that was there and could not. */
  private take(path: LeafPath, raw: unknown, value: LeafValue | undefined): void {
    if (value !== undefined) this.put(path, value);
    else if (raw !== undefined) this.leftOut(path);
  }

  private endpoint(which: string, camel: string, snake: string): Address | string {
    const raw = this.raw(camel, snake);
    const address = readAddress(raw);
    if (address === '' || raw === undefined) return `no ${which} address (${this.naming === 'camel' ? camel : snake})`;
    return address ?? `${which} address is no IP address: ${shown(raw)}`;
  }

  /** As a number where it is known, for the flow's identity. */
  private protocol(): string {
    const raw = this.raw('Proto', 'proto');
    if (raw === undefined) return '';
    const number = readSmall(raw, 0xff) ?? (typeof raw === 'string' ? PROTOCOLS_BY_NAME.get(raw.toUpperCase()) : undefined);
    this.take('protocol', raw, PROTOCOL_NAMES.get(number ?? -1));
    if (number !== undefined) return String(number);
    return typeof raw === 'string' ? raw.toUpperCase() : '';
  }

  private icmp(): void {
    const rawType = this.raw('IcmpType', 'icmp_type');
    if (rawType === undefined) return;
    const type = readSmall(rawType, 0xff);
    const code = readSmall(this.raw('IcmpCode', 'icmp_code') ?? 0, 0xff);
    this.take('icmp-type', rawType, type === undefined || code === undefined ? undefined : type * 256 + code);
  }

  /**
   * The ethertype decides, unless an address contradicts it: an IPv6 address fits no IPv4 leaf, but every IPv4 address can be written
   * as an IPv6 one. `ip-version` is left out where the ethertype says something else than the addresses.
   */
  private isIpv6(source: Address, destination: Address): boolean {
    const raw = this.raw('Etype', 'etype');
    const etype = readSmall(raw, 0xffff) ?? (typeof raw === 'string' ? ETHERTYPES_BY_NAME.get(raw.toUpperCase()) : undefined);
    const six = source.family === 6 || destination.family === 6 || etype === ETHERTYPE_IPV6;
    const agrees = raw === undefined || etype === (six ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4);
    this.take('ip-version', raw, agrees ? (six ? 'ipv6' : 'ipv4') : undefined);
    return six;
  }

  private ipv4(source: Address, destination: Address): void {
    this.put('ipv4/src-address', source.text);
    this.put('ipv4/dst-address', destination.text);
    const sourceMask = this.mask('ipv4/src-mask', this.raw('SrcNet', 'src_net'), 32);
    const destinationMask = this.mask('ipv4/dst-mask', this.raw('DstNet', 'dst_net'), 32);
    this.prefix('ipv4/src-prefix', this.raw('SrcPrefix', undefined), sourceMask);
    this.prefix('ipv4/dst-prefix', this.raw('DstPrefix', undefined), destinationMask);
    const rawHop = this.raw('NextHop', 'next_hop');
    const hop = readAddress(rawHop);
    this.take('ipv4/next-hop', rawHop, hop === '' ? IPV4_UNSET : hop?.family === 4 ? hop.text : undefined);
    const fragment = this.raw('FragmentId', 'fragment_id');
    this.take('ipv4/identification', fragment, readSmall(fragment, 0xffff));
  }

  private ipv6(source: Address, destination: Address): void {
    this.put('ipv6/src-address', asIpv6(source));
    this.put('ipv6/dst-address', asIpv6(destination));
    this.mask('ipv6/src-mask', this.raw('SrcNet', 'src_net'), 128);
    this.mask('ipv6/dst-mask', this.raw('DstNet', 'dst_net'), 128);
    const rawHop = this.raw('NextHop', 'next_hop');
    const hop = readAddress(rawHop);
    const unset = hop === '' || (hop?.family === 4 && hop.text === IPV4_UNSET);
    this.take('ipv6/next-hop', rawHop, unset ? IPV6_UNSET : hop === undefined ? undefined : asIpv6(hop));
    const label = this.raw('IPv6FlowLabel', 'ipv6_flow_label') ?? this.raw('Ipv6FlowLabel', undefined);
    this.take('ipv6/flow-label', label, readSmall(label, 0xfffff));
    const headers = this.raw('IPv6OptionHeaders', undefined);
    this.take('ipv6/opt-headers', headers, readSmall(headers, 0xffffffff));
  }

  /** A prefix length, or the prefix as version 2 writes it: `10.0.27.0/24`. */
  private mask(path: LeafPath, raw: unknown, max: number): number | undefined {
    const slash = typeof raw === 'string' ? raw.indexOf('/') : -1;
    const length = readSmall(typeof raw === 'string' && slash >= 0 ? raw.slice(slash + 1) : raw, max);
    this.take(path, raw, length);
    return length;
  }

  /** NetFlow has only the address of a prefix (field 44); its length is that of the mask. */
  private prefix(path: LeafPath, raw: unknown, mask: number | undefined): void {
    if (raw === undefined || raw === '' || (Array.isArray(raw) && raw.length === 0)) return;
    const [text, length, more] = typeof raw === 'string' ? raw.split('/') : [raw];
    const address = readAddress(text);
    const bits = length === undefined ? mask : readSmall(length, 32);
    const known = address !== undefined && address !== '' && address.family === 4 && more === undefined && bits !== undefined;
    const meaningful = known && (length !== undefined || bits > 0 || address.text === IPV4_UNSET);
    this.take(path, raw, meaningful ? `${address.text}/${bits}` : undefined);
  }

  private bgp(six: boolean): void {
    const raw = this.raw('BgpNextHop', 'bgp_next_hop');
    const hop = readAddress(raw);
    if (hop === '') this.put(six ? 'bgp/next-hop-ipv6' : 'bgp/next-hop', six ? IPV6_UNSET : IPV4_UNSET);
    else this.take(hop?.family === 6 ? 'bgp/next-hop-ipv6' : 'bgp/next-hop', raw, hop?.text);
  }

  private mpls(): void {
    const labels = this.raw(undefined, 'mpls_label');
    if (Array.isArray(labels)) this.labels(labels);
    else this.take('mpls/label-1', labels, undefined);
    // Version 2 has a list of addresses, none where there are no labels; version 1 the bytes of one.
    const list = this.raw(undefined, 'mpls_ip');
    const first = Array.isArray(list) ? list[0] : list;
    const raw =
      first ?? this.raw('MPLSTopLabelIP', 'mpls_label_ip') ?? this.raw('MPLSLabelIP', undefined) ?? this.raw('MplsLabelIp', undefined);
    const top = readAddressOrHex(raw);
    if (top === '') this.put('mpls/top-label-ip', IPV4_UNSET);
    else this.take(top?.family === 6 ? 'mpls/top-label-ipv6' : 'mpls/top-label-ip', raw, top?.text);
  }

  private labels(labels: readonly unknown[]): void {
    for (const [i, raw] of labels.entries()) {
      const path = MPLS_LABELS[i];
      if (path === undefined) this.leftOut('mpls/label-10');
      else this.take(path, raw, readSmall(raw, 0xffffffff));
    }
  }

  private sampler(): void {
    const raw = this.raw('SamplerAddress', 'sampler_address');
    const sampler = readAddress(raw);
    if (sampler !== '') this.take(sampler?.family === 6 ? 'sampler-address-ipv6' : 'sampler-address', raw, sampler?.text);
  }

  private times(): Pick<Flow, 'startMs' | 'endMs' | 'receivedMs'> {
    const ns = this.raw(undefined, 'time_received_ns');
    const seconds = this.raw('TimeReceived', 'time_received');
    const received = ns === undefined ? readUint64(seconds) : secondsOfNs(ns);
    this.take('time-received', ns ?? seconds, received);
    return {
      startMs: this.switched('first-switched', FIRST),
      endMs: this.switched('last-switched', LAST),
      receivedMs: ns === undefined ? msOfSeconds(received) : msOfNs(ns),
    };
  }

  /** Takes the finest form that is there. @returns the time in ms, where a double can hold it */
  private switched(path: LeafPath, names: typeof FIRST): number | undefined {
    const ns = this.raw(undefined, names.ns);
    const rawMs = ns ?? this.raw(names.camelMs, names.snakeMs);
    const ms = ns === undefined ? readUint64(rawMs) : msOfNs(ns);
    const rawSeconds = this.raw(names.camel, names.snake);
    const seconds = readUint64(rawSeconds);
    // A version 1 that knows no milliseconds of a flow leaves them at 0.
    if (ms === undefined || (ms === 0 && seconds !== undefined)) {
      this.take(path, rawSeconds ?? rawMs, this.unit === 'ms' ? times1000(seconds) : seconds);
      return msOfSeconds(seconds);
    }
    this.take(path, rawMs, this.unit === 's' ? narrow(BigInt(ms) / 1000n) : ms);
    return typeof ms === 'number' ? ms : undefined;
  }
}

const FIRST = {
  camel: 'TimeFlowStart',
  camelMs: 'TimeFlowStartMs',
  snake: 'time_flow_start',
  snakeMs: 'time_flow_start_ms',
  ns: 'time_flow_start_ns',
};
const LAST: typeof FIRST = {
  camel: 'TimeFlowEnd',
  camelMs: 'TimeFlowEndMs',
  snake: 'time_flow_end',
  snakeMs: 'time_flow_end_ms',
  ns: 'time_flow_end_ns',
};
const PORTS = { source: at('src-port'), destination: at('dst-port') };
const MPLS_LABELS = LEAVES.map(({ path }) => path).filter((path) => path.startsWith('mpls/label-'));

function asIpv6(address: Address): string {
  return address.family === 6 ? address.text : `::ffff:${address.text}`;
}

function times1000(seconds: Integer | undefined): Integer | undefined {
  if (seconds === undefined) return undefined;
  const ms = BigInt(seconds) * 1000n;
  return ms > MAX_UINT64 ? undefined : narrow(ms);
}

function shown(raw: unknown): string {
  let text: string;
  try {
    text = typeof raw === 'bigint' ? String(raw) : (JSON.stringify(raw) ?? String(raw));
  } catch {
    // Nested so deeply that it cannot be printed.
    text = Array.isArray(raw) ? 'a list' : 'an object';
  }
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
