/**
 * The inventory of a router: what it is made of, as a record of its own.
 *
 * What is not known is null. There are no serial numbers and no UUIDs in it, on purpose: they identify a machine for ever, and nobody
 * needs them to read a chart.
 */
import { RecordError, TIMESTAMP } from './record.ts';

/** A machine, as far as it could be told. */
export interface Machine {
  system: { manufacturer: string | null; model: string | null; virtual: boolean | null };
  os: { distribution: string | null; release: string | null; kernel: string | null; arch: string | null; hostname: string | null };
  cpu: {
    manufacturer: string | null;
    brand: string | null;
    physical_cores: number | null;
    /** Threads that run at once. */
    cores: number | null;
    speed_ghz: number | null;
  };
  memory: { total_bytes: number | null };
  interfaces: NetworkInterface[];
  /** Interfaces beyond the most that a record lists. */
  interfaces_left_out: number;
}

export interface NetworkInterface {
  name: string;
  mac: string | null;
  ip4: string | null;
  ip4_subnet: string | null;
  ip6: string | null;
  ip6_subnet: string | null;
  speed_mbps: number | null;
  mtu: number | null;
  /** `up`, `down`, … as the kernel names it. */
  state: string | null;
  /** Whether no device is behind it. */
  virtual: boolean | null;
}

export interface Inventory extends Machine {
  type: 'inventory';
  router: string;
  agent: string;
  /** Unix seconds with fraction, as the times in the records. */
  collected_at: string;
  ndt: { version: string; node: string };
}

export const MOST_INTERFACES = 1000;
/** Of a text [characters]: nothing a machine says of itself is longer. */
const LONGEST = 256;

type Fields = { [name: string]: unknown };

/** @throws RecordError with the path of the wrong field */
export function parseInventory(json: string): Inventory {
  const fields = objectOf(jsonOf(json), '');
  if (fields.type !== 'inventory') throw new RecordError('type', 'expected "inventory"');
  const collected_at = fields.collected_at;
  if (typeof collected_at !== 'string' || !TIMESTAMP.test(collected_at))
    throw new RecordError('collected_at', 'expected Unix seconds as text, such as "1745233635.217"');
  const ndt = objectOf(fields.ndt, 'ndt');
  return {
    type: 'inventory',
    router: present(fields.router, 'router'),
    agent: present(fields.agent, 'agent'),
    collected_at,
    ...machineOf(fields),
    ndt: { version: present(ndt.version, 'ndt.version'), node: present(ndt.node, 'ndt.node') },
  };
}

/** What the child of an agent printed. @throws RecordError with the path of the wrong field */
export function parseMachine(json: string): Machine {
  return machineOf(objectOf(jsonOf(json), ''));
}

function machineOf(fields: Fields): Machine {
  const system = objectOf(fields.system, 'system');
  const os = objectOf(fields.os, 'os');
  const cpu = objectOf(fields.cpu, 'cpu');
  const memory = objectOf(fields.memory, 'memory');
  const { interfaces } = fields;
  if (!Array.isArray(interfaces) || interfaces.length > MOST_INTERFACES)
    throw new RecordError('interfaces', `expected a list of at most ${MOST_INTERFACES}`);
  return {
    system: {
      manufacturer: text(system, 'manufacturer', 'system'),
      model: text(system, 'model', 'system'),
      virtual: truth(system, 'virtual', 'system'),
    },
    os: {
      distribution: text(os, 'distribution', 'os'),
      release: text(os, 'release', 'os'),
      kernel: text(os, 'kernel', 'os'),
      arch: text(os, 'arch', 'os'),
      hostname: text(os, 'hostname', 'os'),
    },
    cpu: {
      manufacturer: text(cpu, 'manufacturer', 'cpu'),
      brand: text(cpu, 'brand', 'cpu'),
      physical_cores: whole(cpu, 'physical_cores', 'cpu'),
      cores: whole(cpu, 'cores', 'cpu'),
      speed_ghz: positive(cpu, 'speed_ghz', 'cpu'),
    },
    memory: { total_bytes: whole(memory, 'total_bytes', 'memory') },
    interfaces: interfaces.map((value: unknown, i) => interfaceOf(value, `interfaces[${i}]`)),
    interfaces_left_out: typeof fields.interfaces_left_out === 'number' ? Math.max(0, Math.trunc(fields.interfaces_left_out)) : 0,
  };
}

function interfaceOf(value: unknown, at: string): NetworkInterface {
  const fields = objectOf(value, at);
  return {
    name: present(fields.name, `${at}.name`),
    mac: text(fields, 'mac', at),
    ip4: text(fields, 'ip4', at),
    ip4_subnet: text(fields, 'ip4_subnet', at),
    ip6: text(fields, 'ip6', at),
    ip6_subnet: text(fields, 'ip6_subnet', at),
    speed_mbps: positive(fields, 'speed_mbps', at),
    mtu: whole(fields, 'mtu', at),
    state: text(fields, 'state', at),
    virtual: truth(fields, 'virtual', at),
  };
}

function jsonOf(json: string): unknown {
  try {
    return JSON.parse(json) as unknown;
  } catch (error) {
    throw new RecordError('', `not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function objectOf(value: unknown, at: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new RecordError(at, 'expected an object');
  return value as Fields;
}

function present(value: unknown, at: string): string {
  if (typeof value !== 'string' || value === '' || value.length > LONGEST)
    throw new RecordError(at, `expected text of 1 to ${LONGEST} characters`);
  return value;
}

/** Missing is null: an older agent may not tell what a newer one does. */
function text(fields: Fields, name: string, at: string): string | null {
  return fields[name] === undefined || fields[name] === null ? null : present(fields[name], `${at}.${name}`);
}

function truth(fields: Fields, name: string, at: string): boolean | null {
  const value = fields[name] ?? null;
  if (value !== null && typeof value !== 'boolean') throw new RecordError(`${at}.${name}`, 'expected true, false or null');
  return value;
}

function positive(fields: Fields, name: string, at: string): number | null {
  const value = fields[name] ?? null;
  if (value !== null && !(typeof value === 'number' && Number.isFinite(value) && value > 0))
    throw new RecordError(`${at}.${name}`, 'expected a number above 0, or null');
  return value as number | null;
}

function whole(fields: Fields, name: string, at: string): number | null {
  const value = positive(fields, name, at);
  if (value !== null && !Number.isSafeInteger(value)) throw new RecordError(`${at}.${name}`, 'expected a whole number above 0, or null');
  return value;
}
