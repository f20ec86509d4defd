/** Names of numbers: the enumerations of the output (contract of the topic `netflow-output`) and those that GoFlow2 itself writes. */

export const DIRECTIONS = { 0: 'ingress', 1: 'egress' } as const;

export const PROTOCOLS = {
  1: 'icmp',
  2: 'igmp',
  6: 'tcp',
  8: 'egp',
  9: 'igp',
  17: 'udp',
  58: 'icmp-ipv6',
  103: 'pim',
  115: 'l2tp',
  132: 'sctp',
  143: 'eth',
} as const;

export const ENGINE_TYPES = { 0: 'rp', 1: 'vip-linecard', 2: 'pdc/dfc' } as const;

export const TOP_LABEL_TYPES = { 0: 'unknown', 1: 'te-midpt', 2: 'atom', 3: 'vpn', 4: 'bgp', 5: 'ldp' } as const;

export const FORWARDING_STATUSES = {
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
} as const;

/** In the order of their bits. */
export const TCP_FLAGS = ['fin', 'syn', 'rst', 'psh', 'ack', 'urg', 'ece', 'cwr'] as const;

/** The text of each of the 256 values of the flags: names in bit order, joined by a space. */
export const TCP_FLAG_TEXTS: readonly string[] = Array.from({ length: 256 }, (_, value) =>
  TCP_FLAGS.filter((_, bit) => ((value >> bit) & 1) === 1).join(' '),
);

export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_IPV6 = 0x86dd;

/** What version 2's JSON has in `etype`, which is empty for any other. */
export const ETHERTYPES_BY_NAME: ReadonlyMap<string, number> = new Map([
  ['IPV4', ETHERTYPE_IPV4],
  ['IPV6', ETHERTYPE_IPV6],
  ['ARP', 0x0806],
]);

/** Keywords of IANA's registry "Assigned Internet Protocol Numbers", by number from 0. `?` where it has none of one word. */
const KEYWORDS = `HOPOPT ICMP IGMP GGP IPv4 ST TCP CBT EGP IGP BBN-RCC-MON NVP-II PUP ARGUS EMCON XNET CHAOS UDP MUX DCN-MEAS
HMP PRM XNS-IDP TRUNK-1 TRUNK-2 LEAF-1 LEAF-2 RDP IRTP ISO-TP4 NETBLT MFE-NSP MERIT-INP DCCP 3PC IDPR XTP DDP IDPR-CMTP TP++
IL IPv6 SDRP IPv6-Route IPv6-Frag IDRP RSVP GRE DSR BNA ESP AH I-NLSP SWIPE NARP Min-IPv4 TLSP SKIP IPv6-ICMP IPv6-NoNxt
IPv6-Opts ? CFTP ? SAT-EXPAK KRYPTOLAN RVD IPPC ? SAT-MON VISA IPCV CPNX CPHB WSN PVP BR-SAT-MON SUN-ND WB-MON WB-EXPAK
ISO-IP VMTP SECURE-VMTP VINES IPTM NSFNET-IGP DGP TCF EIGRP OSPFIGP Sprite-RPC LARP MTP AX.25 IPIP MICP SCC-SP ETHERIP ENCAP ?
GMTP IFMP PNNI PIM ARIS SCPS QNX A/N IPComp SNP Compaq-Peer IPX-in-IP VRRP PGM ? L2TP DDX IATP STP SRP
UTI SMP SM PTP ? FIRE CRTP CRUDP SSCOPMCE IPLT SPS PIPE SCTP FC RSVP-E2E-IGNORE ? UDPLite MPLS-in-IP manet HIP
Shim6 WESP ROHC Ethernet AGGFRAG NSH`;

/** Protocol numbers by the names that version 2's JSON has in `proto`, in upper case; its older releases write ICMPv6. */
export const PROTOCOLS_BY_NAME: ReadonlyMap<string, number> = new Map([
  ...KEYWORDS.split(/\s+/)
    .map((keyword, number): [string, number] => [keyword.toUpperCase(), number])
    .filter(([keyword]) => keyword !== '?'),
  ...Object.entries(PROTOCOLS).map(([number, name]): [string, number] => [name.toUpperCase(), Number(number)]),
  ['ICMPV6', 58],
]);
