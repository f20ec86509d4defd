/**
 * What sysfs says of interfaces, beside the procfs that their counters are read from.
 *
 * A sysfs shows the interfaces of the network namespace in which it was mounted, a procfs those of the process that reads it (or of the
 * process whose folder it is). Where the two are not the same, one name stands for two interfaces, and nothing of it may be used.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';

export interface LinkSpeed {
  device: string;
  /** [Mbit/s] */
  mbps: number;
}

/** The sysfs beside a procfs: `/sys` for `/proc`, `/host/sys` for `/host/proc/1`. */
export function sysfsBeside(procfsRoot: string): string | undefined {
  const match = /^(.*)\/proc(\/[^/]+)?\/*$/.exec(procfsRoot);
  return match === null ? undefined : `${match[1] ?? ''}/sys`;
}

/** The same, where both are of one network namespace; undefined where they are not, or where that cannot be told. */
export function sysfsOfSameNetwork(procfsRoot: string): string | undefined {
  const sys = sysfsBeside(procfsRoot);
  if (sys === undefined) return undefined;
  try {
    const names = namesIn(readFileSync(`${procfsRoot}/net/dev`, 'utf8'));
    // Not only interfaces are in it: `bonding_masters` is a file.
    const links = readdirSync(`${sys}/class/net`, { withFileTypes: true }).filter((entry) => !entry.isFile());
    const known = new Set(links.map(({ name }) => name));
    if (known.size !== names.length || !names.every((name) => known.has(name))) return undefined;
    // The kernel numbers interfaces by namespace, and the same names seldom have the same numbers in two of them.
    for (const [name, index] of indexesIn(readFileSync(`${procfsRoot}/net/dev_mcast`, 'utf8'))) {
      if (known.has(name) && attribute(sys, name, 'ifindex') !== index) return undefined;
    }
    return sys;
  } catch {
    return undefined;
  }
}

/** Whether two procfs are of one network namespace. Not known for certain is no. */
export function sameNetwork(a: string, b: string): boolean {
  if (a.replace(/\/+$/, '') === b) return true;
  const seen = (root: string) => {
    const names = namesIn(readFileSync(`${root}/net/dev`, 'utf8')).sort();
    const indexes = indexesIn(readFileSync(`${root}/net/dev_mcast`, 'utf8')).map((pair) => pair.join(' '));
    return indexes.length === 0 ? undefined : JSON.stringify([names, [...new Set(indexes)].sort()]);
  };
  try {
    const first = seen(a);
    return first !== undefined && first === seen(b);
  } catch {
    return false;
  }
}

/** Names of interfaces, as in `/proc/net/dev`. An alias of an old kernel (`eth0:1`) is no interface. */
export function namesIn(netDev: string): string[] {
  return netDev.split('\n').flatMap((line) => /^\s*([^\s:]+):(?!\d+:)/.exec(line)?.[1] ?? []);
}

/** Interfaces' numbers, as far as `/proc/net/dev_mcast` has them: `2    eth0   1   0   01005e000001`. */
function indexesIn(devMcast: string): Array<[name: string, index: string]> {
  return devMcast.split('\n').flatMap((line) => {
    const [index, name] = line.trim().split(/\s+/);
    return index === undefined || name === undefined ? [] : [[name, index] satisfies [string, string]];
  });
}

/** An attribute of an interface, or undefined where the kernel does not tell it: some are errors while a link is down. */
export function attribute(sys: string, device: string, name: string): string | undefined {
  try {
    const text = readFileSync(`${sys}/class/net/${device}/${name}`, 'utf8').trim();
    return text === '' ? undefined : text;
  } catch {
    return undefined;
  }
}

/** Speed of a link [Mbit/s]; undefined where the kernel does not tell it (-1, an error, or a number that stands for it). */
export function speedOf(sys: string, device: string): number | undefined {
  const speed = Number(attribute(sys, device, 'speed'));
  // Some drivers hand an unsigned -1 on, of 32 or 16 bits.
  return Number.isSafeInteger(speed) && speed > 0 && speed !== 65_535 && speed !== 4_294_967_295 ? speed : undefined;
}

/**
 * The fastest of the interfaces, the first of equals; undefined where the kernel tells no speed. Where one of them is a wire, only wires
 * count: a pod's end (veth) says 10 Gbit/s whatever its node is connected with.
 */
export function fastest(procfsRoot: string, devices: readonly string[]): LinkSpeed | undefined {
  const sys = sysfsOfSameNetwork(procfsRoot);
  if (sys === undefined) return undefined;
  const wires = devices.filter((device) => isWire(`${sys}/class/net/${device}`));
  let best: LinkSpeed | undefined;
  for (const device of wires.length > 0 ? wires : devices) {
    const mbps = speedOf(sys, device);
    if (mbps !== undefined && mbps > (best?.mbps ?? 0)) best = { device, mbps };
  }
  return best;
}

/** Whether an interface is hardware, or lies upon such as bonds and VLANs do; a bridge has no speed of its own. Ends at ten layers. */
function isWire(folder: string, layers = 10): boolean {
  if (existsSync(`${folder}/device`)) return true;
  if (layers === 0 || existsSync(`${folder}/bridge`)) return false;
  try {
    return readdirSync(folder).some((name) => name.startsWith('lower_') && isWire(`${folder}/${name}`, layers - 1));
  } catch {
    return false;
  }
}
