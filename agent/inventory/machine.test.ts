import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, hostname, networkInterfaces, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { MOST_INTERFACES, parseMachine } from '../../common/inventory.ts';
import { tempDir } from '../../test/tempdir.ts';
import { known, machineFrom, readMachine, type Told } from './machine.ts';

const onLinux = process.platform === 'linux';

describe.skipIf(!onLinux)('this machine (on Linux)', () => {
  it('is told by systeminformation as the kernel tells it, in the form that is sent', async () => {
    const before = networkInterfaces();
    const machine = await readMachine('/proc');
    expect(parseMachine(JSON.stringify(machine))).toEqual(machine);
    expect(machine.os).toMatchObject({ kernel: release(), hostname: hostname(), arch: process.arch });
    expect(machine.os.distribution).not.toBeNull();
    expect(machine.cpu.cores).toBe(cpus().length);
    expect(machine.memory.total_bytes).toBe(totalmem());
    for (const [name, addresses] of Object.entries(networkInterfaces())) {
      // One of another test, which came meanwhile.
      if (before[name] === undefined) continue;
      const link = machine.interfaces.find((candidate) => candidate.name === name);
      expect(
        addresses?.map(({ address }) => address),
        name,
      ).toContain(link?.ip4 ?? link?.ip6);
    }
  }, 30_000);

  it('seen from another network tells of the watched one what can be seen, and nothing of its own', async () => {
    // A container that is shown its host's network counters alone, as in k8s/.
    const root = join(tempDir(), 'proc/1');
    writeNetwork(root, ['lo', 'eth0', 'cni0']);
    const machine = await readMachine(root);
    expect(machine.os).toEqual({ distribution: null, release: null, kernel: release(), arch: process.arch, hostname: null });
    expect(machine.memory.total_bytes).toBe(totalmem());
    const nothing = { mac: null, ip4: null, ip4_subnet: null, ip6: null, ip6_subnet: null };
    expect(machine.interfaces).toEqual(
      ['lo', 'eth0', 'cni0'].map((name) => ({ name, ...nothing, speed_mbps: null, mtu: null, state: null, virtual: null })),
    );
  }, 30_000);

  it('without a proc file system has no interfaces', async () => {
    expect((await readMachine(tempDir())).interfaces).toEqual([]);
  }, 30_000);
});

function writeNetwork(root: string, names: string[]): void {
  mkdirSync(join(root, 'net'), { recursive: true });
  writeFileSync(join(root, 'net/dev'), ['Inter-|', ' face |', ...names.map((name) => `${name}: 0 0`)].join('\n'));
  writeFileSync(join(root, 'net/dev_mcast'), names.map((name, i) => `${1000 + i} ${name} 1 0 01005e000001\n`).join(''));
}

describe('what the library puts where it knows nothing', () => {
  const told = (change: { system?: object; os?: object; cpu?: object }): Told =>
    ({
      system: { manufacturer: '', model: 'Computer', virtual: false, ...change.system },
      os: { distro: 'unknown', release: 'unknown', kernel: '6.1.0', arch: 'arm64', hostname: 'r1', ...change.os },
      cpu: { manufacturer: '', brand: '', vendor: '', model: '', physicalCores: 4, cores: 4, speed: 0, flags: '', ...change.cpu },
      memory: { total: 0 },
      links: [],
      // The library's answers have dozens of fields that are not read.
    }) as unknown as Told;
  const seen = { procfsRoot: '/nowhere/proc', own: true, ownSystem: true };

  it('is null', () => {
    const machine = machineFrom(told({}), seen);
    expect(machine).toMatchObject({
      system: { manufacturer: null, virtual: false },
      os: { distribution: null, release: null, hostname: 'r1' },
      cpu: { manufacturer: null, brand: null, physical_cores: null, cores: 4, speed_ghz: null },
      memory: { total_bytes: null },
    });
    expect(machineFrom(told({ cpu: { model: '17', physicalCores: 2 } }), seen).cpu.physical_cores).toBe(2);
    expect(machineFrom(told({ cpu: { model: '17', physicalCores: 1.5 } }), seen).cpu.physical_cores).toBeNull();
  });

  it('and a guest is one where its processor says so', () => {
    expect(machineFrom(told({ cpu: { flags: 'fpu x2apic hypervisor lahf_lm' } }), seen).system.virtual).toBe(true);
    expect(machineFrom(told({ system: { virtual: true } }), seen).system.virtual).toBe(true);
  });

  it.each([
    '',
    ' ',
    '-',
    'unknown',
    'Unknown',
    'N/A',
    'Default string',
    'To Be Filled By O.E.M.',
    'System Product Name',
    'Docker Container',
    '\0\0',
  ])('"%s" says nothing', (text) => expect(known(text)).toBeNull());

  it('text of firmware is cut and cleaned, not changed otherwise', () => {
    expect(known('  APU2\u0000\n')).toBe('APU2');
    expect(known('Computer 2000')).toBe('Computer 2000');
    expect(known('x'.repeat(1000))).toHaveLength(256);
  });
});

it('lists so many interfaces and counts the others', () => {
  const root = join(tempDir(), 'proc');
  writeNetwork(
    root,
    Array.from({ length: MOST_INTERFACES + 7 }, (_, i) => `ppp${i}`),
  );
  const empty = { system: {}, os: {}, cpu: {}, memory: {}, links: [] } as unknown as Told;
  const machine = machineFrom(empty, { procfsRoot: root, own: false, ownSystem: false });
  expect([machine.interfaces.length, machine.interfaces_left_out]).toEqual([MOST_INTERFACES, 7]);
});
