/** IP and MAC addresses as GoFlow2 writes them, checked against what YANG's types take. */
import { readSmall } from './integers.ts';

export interface Address {
  readonly family: 4 | 6;
  /** As it came (an IPv4-mapped IPv6 address: the IPv4 address). Always a valid `ipv4-address-no-zone` or `ipv6-address-no-zone`. */
  readonly text: string;
  /** The same for every way to write the address. */
  readonly key: string;
}

const ZEROS: readonly number[] = [0, 0, 0, 0, 0, 0, 0, 0];
const MAC = /^[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}$/;
const HEX_BYTES = /^(?:[0-9a-fA-F]{8}|[0-9a-fA-F]{32})$/;

/**
 * Reads an address: text, or the bytes of one as an array (version 1 writes some fields so).
 * @returns '' for one that is not set (empty text, no bytes), undefined for what is no address
 */
export function readAddress(raw: unknown): Address | '' | undefined {
  if (typeof raw === 'string') return raw === '' ? '' : parseAddress(raw);
  if (Array.isArray(raw)) return raw.length === 0 ? '' : addressOfBytes(raw);
  return undefined;
}

/** Like `readAddress`, and takes the bytes as hexadecimal digits too, as early releases of version 2 write `mpls_ip`. */
export function readAddressOrHex(raw: unknown): Address | '' | undefined {
  return typeof raw === 'string' && HEX_BYTES.test(raw) ? addressOfBytes(Buffer.from(raw, 'hex')) : readAddress(raw);
}

function parseAddress(text: string): Address | undefined {
  if (isIpv4(text)) return { family: 4, text, key: text };
  const groups = ipv6Groups(text);
  if (groups === undefined) return undefined;
  return mappedIpv4(groups) ?? { family: 6, text, key: hexOf(groups) };
}

/** The address of 4 or 16 bytes in network order. */
export function addressOfBytes(bytes: ArrayLike<unknown>): Address | undefined {
  const values: number[] = [];
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (typeof byte !== 'number' || readSmall(byte, 255) === undefined || i === 16) return undefined;
    values.push(byte);
  }
  if (values.length === 4) return ipv4(`${values[0]}.${values[1]}.${values[2]}.${values[3]}`);
  if (values.length !== 16) return undefined;
  const groups = Array.from({ length: 8 }, (_, i) => (values[2 * i] ?? 0) * 256 + (values[2 * i + 1] ?? 0));
  return mappedIpv4(groups) ?? { family: 6, text: compressed(groups), key: hexOf(groups) };
}

function ipv4(text: string): Address {
  return { family: 4, text, key: text };
}

/** Four decimal numbers of 0…255 without leading zeros. */
export function isIpv4(text: string): boolean {
  if (text.length < 7 || text.length > 15) return false;
  let dots = 0;
  let digits = 0;
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x2e) {
      if (digits === 0) return false;
      dots++;
      digits = 0;
      value = 0;
      continue;
    }
    if (c < 0x30 || c > 0x39 || (digits > 0 && value === 0)) return false;
    value = value * 10 + c - 0x30;
    digits++;
    if (value > 255) return false;
  }
  return dots === 3 && digits > 0;
}

/** The eight groups of an IPv6 address (RFC 4291, section 2.2), undefined when the text is none. A zone (`%eth0`) is not taken. */
export function ipv6Groups(text: string): number[] | undefined {
  if (text.length < 2 || text.length > 45) return undefined;
  const groups: number[] = [];
  /** How many groups stand before the `::`; none seen yet when negative. */
  let gap = -1;
  let at = 0;
  if (text.startsWith('::')) {
    gap = 0;
    at = 2;
  }
  while (at < text.length) {
    let end = at;
    let group = 0;
    for (let digit = hexDigit(text, end); digit >= 0; digit = hexDigit(text, ++end)) group = group * 16 + digit;
    if (text[end] === '.') {
      const low = text.slice(at);
      if (!isIpv4(low)) return undefined;
      const [a = 0, b = 0, c = 0, d = 0] = low.split('.').map(Number);
      groups.push(a * 256 + b, c * 256 + d);
      break;
    }
    if (end === at || end - at > 4) return undefined;
    groups.push(group);
    if (end === text.length) break;
    if (text[end] !== ':') return undefined;
    at = end + 1;
    // A single colon at the end belongs to nothing.
    if (at === text.length) return undefined;
    if (text[at] !== ':') continue;
    if (gap >= 0) return undefined;
    gap = groups.length;
    at++;
  }
  if (gap < 0) return groups.length === 8 ? groups : undefined;
  if (groups.length > 7) return undefined;
  groups.splice(gap, 0, ...ZEROS.slice(groups.length));
  return groups;
}

/** The value of a hexadecimal digit, -1 for anything else. */
function hexDigit(text: string, at: number): number {
  const code = text.charCodeAt(at);
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

/** `::ffff:192.0.2.1` is an IPv4 address in an IPv6 field. */
function mappedIpv4(groups: readonly number[]): Address | undefined {
  const [a, b, c, d, e, f, high = 0, low = 0] = groups;
  if (a !== 0 || b !== 0 || c !== 0 || d !== 0 || e !== 0 || f !== 0xffff) return undefined;
  return ipv4(`${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`);
}

/** The form of RFC 5952: lower case, the longest run of two or more zero groups as `::`, the first of equals. */
function compressed(groups: readonly number[]): string {
  let best = 0;
  let bestAt = 0;
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (groups[at + length] === 0) length++;
    if (length > best) {
      best = length;
      bestAt = at;
    }
  }
  return best < 2 ? hexOf(groups) : `${hexOf(groups.slice(0, bestAt))}::${hexOf(groups.slice(bestAt + best))}`;
}

function hexOf(groups: readonly number[]): string {
  return groups.map((group) => group.toString(16)).join(':');
}

/** Six pairs of hexadecimal digits with colons. */
export function readMac(raw: unknown): string | undefined {
  return typeof raw === 'string' && MAC.test(raw) ? raw : undefined;
}
