/**
 * What this machine is made of, asked of `systeminformation`, which runs a few dozen commands for that (`lscpu`, `dmidecode`, `ip`, …):
 * so a process of its own does it, and ends.
 *
 * What belongs to a name space of its own is told only where it is the watched one's. Seen from a container that watches its host
 * (`procfs_root` is not `/proc`), CPU, memory and kernel are the host's, but host name, distribution and addresses are the container's.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { networkInterfaces as addressesOf, constants, setPriority } from 'node:os';
import type { Systeminformation } from 'systeminformation';
import { type Machine, MOST_INTERFACES, type NetworkInterface } from '../../common/inventory.ts';
import { attribute, namesIn, sameNetwork, speedOf, sysfsOfSameNetwork } from '../sysfs.ts';

/** The library runs 30 commands for each interface: beyond so many, addresses alone are asked for, of Node. */
const MOST_ASKED = 64;

/** Of this process itself: then everything that it sees is the watched machine's. */
const OWN = /^\/proc(\/(self|thread-self))?\/*$/;

/** Makes this process the one that waits, and the one that goes, where a machine is short of time or memory. */
export function standBack(): void {
  for (const step of [() => setPriority(constants.priority.PRIORITY_LOW), () => writeFileSync('/proc/self/oom_score_adj', '1000')]) {
    try {
      step();
    } catch {
      // A service manager may forbid the one and not the other, and then has bounds of its own.
    }
  }
}

/** @param procfsRoot where the watched machine's proc file system is seen */
export async function readMachine(procfsRoot: string): Promise<Machine> {
  const { default: information } = await import('systeminformation');
  const own = sameNetwork(procfsRoot, '/proc');
  // One after the other: each of them starts processes.
  const system = await information.system();
  const os = await information.osInfo();
  const cpu = await information.cpu();
  const memory = await information.mem();
  const asked = own && Object.keys(addressesOf()).length <= MOST_ASKED;
  const links = asked ? [await information.networkInterfaces()].flat() : [];
  return machineFrom({ system, os, cpu, memory, links }, { procfsRoot, own, ownSystem: OWN.test(procfsRoot) });
}

/** What the library told. */
export interface Told {
  system: Systeminformation.SystemData;
  os: Systeminformation.OsData;
  cpu: Systeminformation.CpuData;
  memory: Pick<Systeminformation.MemData, 'total'>;
  links: readonly Systeminformation.NetworkInterfacesData[];
}

export interface Seen {
  procfsRoot: string;
  /** Whether our addresses are the watched machine's. */
  own: boolean;
  /** Whether our host name and distribution are. */
  ownSystem: boolean;
}

/** The library's answers without what it puts where it knows nothing. */
export function machineFrom({ system, os, cpu, memory, links }: Told, { procfsRoot, own, ownSystem }: Seen): Machine {
  const names = interfaceNames(procfsRoot);
  return {
    system: {
      manufacturer: known(system.manufacturer),
      model: modelOf(system.model),
      // What a hypervisor tells every guest's processor; the library looks at names of devices, and at the kernel's log where it may.
      virtual: system.virtual || / hypervisor( |$)/.test(cpu.flags),
    },
    os: {
      distribution: ownSystem ? known(os.distro) : null,
      release: ownSystem ? known(os.release) : null,
      kernel: known(os.kernel),
      arch: known(os.arch),
      hostname: ownSystem ? known(os.hostname) : null,
    },
    cpu: {
      manufacturer: known(cpu.manufacturer),
      brand: known(cpu.brand),
      // Without lscpu the library takes every thread for a core of its own.
      physical_cores: cpu.vendor === '' && cpu.model === '' ? null : count(cpu.physicalCores),
      cores: count(cpu.cores),
      speed_ghz: above0(cpu.speed),
    },
    memory: { total_bytes: count(memory.total) },
    interfaces: interfacesOf(procfsRoot, names.slice(0, MOST_INTERFACES), links, own),
    interfaces_left_out: Math.max(0, names.length - MOST_INTERFACES),
  };
}

function interfacesOf(root: string, names: string[], links: Told['links'], own: boolean): NetworkInterface[] {
  const sys = sysfsOfSameNetwork(root);
  const told = new Map(links.map((link) => [link.ifaceName, link]));
  const addresses = own ? addressesOf() : {};
  return names.map((name) => {
    const link = told.get(name);
    const ip4 = link === undefined ? addresses[name]?.find(({ family }) => family === 'IPv4') : undefined;
    const ip6 = link === undefined ? addresses[name]?.find(({ family }) => family === 'IPv6') : undefined;
    return {
      name,
      mac: macOf((sys === undefined ? undefined : attribute(sys, name, 'address')) ?? (own ? link?.mac : undefined)),
      ip4: known(link?.ip4 ?? ip4?.address),
      ip4_subnet: known(link?.ip4subnet ?? ip4?.netmask),
      ip6: known(link?.ip6 ?? ip6?.address),
      ip6_subnet: known(link?.ip6subnet ?? ip6?.netmask),
      // The library knows also how fast a radio link is.
      speed_mbps: sys === undefined ? null : (speedOf(sys, name) ?? above0(link?.speed)),
      mtu: sys === undefined ? null : count(Number(attribute(sys, name, 'mtu'))),
      state: sys === undefined ? null : known(attribute(sys, name, 'operstate')),
      virtual: sys === undefined ? null : !existsSync(`${sys}/class/net/${name}/device`),
    };
  });
}

function interfaceNames(procfsRoot: string): string[] {
  try {
    return namesIn(readFileSync(`${procfsRoot}/net/dev`, 'utf8'));
  } catch {
    return [];
  }
}

/** Texts that say nothing, of the library and of boards that nobody gave a name. */
const NOTHING =
  /^(-+|unknown|none|n\/a|null|undefined|computer|docker container|virtual machine|default string|not (specified|defined|available|applicable)|system (product name|manufacturer)|to be filled by .*|o\.?e\.?m\.?)$/i;
const LONGEST = 256;

/** Text that says something, or null. */
export function known(text: string | undefined | null): string | null {
  // Firmware pads its texts with control characters.
  const clean = (text ?? '')
    .replace(/\p{Cc}+/gu, ' ')
    .trim()
    .slice(0, LONGEST);
  return clean === '' || NOTHING.test(clean) ? null : clean;
}

/** The library's word, or the board's own: a device tree has it where there is no BIOS, and a container has none of it in its name. */
function modelOf(model: string): string | null {
  const board = ['/sys/class/dmi/id/product_name', '/proc/device-tree/model'];
  return known(model) ?? board.map((file) => known(contentOf(file))).find((text) => text !== null) ?? null;
}

function contentOf(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function macOf(mac: string | undefined): string | null {
  return mac === undefined || !/^[0-9a-f]{2}(:[0-9a-f]{2})+$/i.test(mac) || /^[0:]+$/.test(mac) ? null : mac;
}

function above0(value: number | null | undefined): number | null {
  return typeof value === 'number' && Number.isFinite(value) && value > 0 ? value : null;
}

function count(value: number | undefined): number | null {
  return Number.isSafeInteger(value) ? above0(value) : null;
}
