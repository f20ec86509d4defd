/**
 * The identity of a flow: its 5-tuple, and a number for it.
 *
 * `flow-id` = the 5-tuple as text `source address,source port,destination address,destination port,protocol` (addresses in one
 * canonical form, protocol as its number), hashed with 32-bit FNV-1a, mixed with the finaliser of MurmurHash3 (FNV's low bits
 * change little with the last characters), shifted to 31 bits; 0 becomes 1. Two flows in 2^31 share an id: what sums up flows
 * must go by the tuple, as aggregate.ts does.
 */

export interface Tuple {
  /** `address,port` of each end. */
  readonly source: string;
  readonly destination: string;
  readonly protocol: string;
}

export function tupleText({ source, destination, protocol }: Tuple): string {
  return `${source},${destination},${protocol}`;
}

export function reversed({ source, destination, protocol }: Tuple): Tuple {
  return { source: destination, destination: source, protocol };
}

/** 1…2^31-1, the same for the same tuple for ever. */
export function flowId(tuple: Tuple): number {
  const text = tupleText(tuple);
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 1 || 1;
}
