import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../common/config.ts';
import { tempDir } from '../test/tempdir.ts';
import { routersInForce } from './capacity.ts';
import { fastest, namesIn, sameNetwork, speedOf, sysfsBeside, sysfsOfSameNetwork } from './sysfs.ts';

interface Link {
  index: number;
  speed?: string;
  /** It has a driver of hardware. */
  hardware?: boolean;
  /** What it lies upon. */
  lower?: string;
}

/** A proc and a sys file system of one machine, as a container sees its host's: `/host/proc/1` and `/host/sys`. */
function machine(links: { [name: string]: Link }, inSys: { [name: string]: Link } = links): string {
  const dir = tempDir();
  const root = join(dir, 'proc/1');
  mkdirSync(join(root, 'net'), { recursive: true });
  const lines = Object.keys(links).map((name) => `${name.padStart(6)}: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0`);
  const header = [
    'Inter-|   Receive                                                |  Transmit',
    ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed',
  ];
  writeFileSync(join(root, 'net/dev'), `${[...header, ...lines].join('\n')}\n`);
  const multicast = Object.entries(links).flatMap(([name, { index }]) =>
    name === 'lo' ? [] : [`${index}    ${name}  1  0  01005e000001`],
  );
  writeFileSync(join(root, 'net/dev_mcast'), multicast.map((line) => `${line}\n`).join(''));
  for (const [name, { index, speed, hardware, lower }] of Object.entries(inSys)) {
    mkdirSync(join(dir, 'sys/class/net', name, hardware === true ? 'device' : '.'), { recursive: true });
    if (name.startsWith('br')) mkdirSync(join(dir, 'sys/class/net', name, 'bridge'));
    if (lower !== undefined) symlinkSync(`../${lower}`, join(dir, 'sys/class/net', name, `lower_${lower}`));
    writeFileSync(join(dir, 'sys/class/net', name, 'ifindex'), `${index}\n`);
    if (speed !== undefined) writeFileSync(join(dir, 'sys/class/net', name, 'speed'), `${speed}\n`);
  }
  writeFileSync(join(dir, 'sys/class/net/bonding_masters'), '\n');
  return root;
}

const ROUTER = {
  lo: { index: 1 },
  eth0: { index: 2, speed: '1000' },
  eth1: { index: 3, speed: '10000' },
  wan: { index: 4, speed: '10000' },
};

describe('the speed of links', () => {
  it('is that of the fastest monitored one, the first of equals', () => {
    const root = machine(ROUTER);
    expect(fastest(root, ['lo', 'eth0'])).toEqual({ device: 'eth0', mbps: 1000 });
    expect(fastest(root, ['eth0', 'eth1', 'wan'])).toEqual({ device: 'eth1', mbps: 10_000 });
    expect(fastest(root, ['lo'])).toBeUndefined();
    expect(fastest(root, ['eth9'])).toBeUndefined();
  });

  it('is that of a wire where there is one: what has none names any speed', () => {
    // As on a node of Kubernetes: the pods' ends (veth) say 10 Gbit/s, and so does a bridge of them.
    const node = {
      ...{ lo: { index: 1 }, eth0: { index: 2, speed: '1000', hardware: true }, lxc1a: { index: 3, speed: '10000' } },
      br0: { index: 4, speed: '10000', lower: 'eth0' },
    };
    expect(fastest(machine(node), ['lxc1a', 'br0', 'eth0'])).toEqual({ device: 'eth0', mbps: 1000 });
    const bonded = {
      ...{ eth0: { index: 2, speed: '1000', hardware: true }, bond0: { index: 5, speed: '2000', lower: 'eth0' } },
      ...{ 'bond0.7': { index: 6, speed: '2000', lower: 'bond0' }, lxc1a: { index: 7, speed: '10000' } },
    };
    expect(fastest(machine(bonded), ['eth0', 'lxc1a', 'bond0'])).toEqual({ device: 'bond0', mbps: 2000 });
    expect(fastest(machine(bonded), ['eth0', 'lxc1a', 'bond0.7'])).toEqual({ device: 'bond0.7', mbps: 2000 });
    // The wire is there, and is not monitored.
    expect(fastest(machine(bonded), ['lxc1a'])).toEqual({ device: 'lxc1a', mbps: 10_000 });
    // It tells no speed: then nobody's is that of a wire, and a guess of another's is none.
    expect(fastest(machine({ ...node, eth0: { index: 2, speed: '-1', hardware: true } }), ['eth0', 'lxc1a'])).toBeUndefined();
    // A loop, which no kernel makes.
    expect(fastest(machine({ v1: { index: 2, speed: '5', lower: 'v1' } }), ['v1'])).toEqual({ device: 'v1', mbps: 5 });
  });

  it.each(['-1', '0', '65535', '4294967295', '', 'fast', '2.5'])('is not known where the kernel says "%s"', (speed) => {
    const root = machine({ eth0: { index: 2, speed } });
    expect(fastest(root, ['eth0'])).toBeUndefined();
    expect(speedOf(sysfsOfSameNetwork(root) ?? '', 'eth0')).toBeUndefined();
  });

  it('is not taken from another network: other names, other numbers, or nothing to tell by', () => {
    expect(sysfsOfSameNetwork(machine(ROUTER))).toMatch(/\/sys$/);
    expect(sysfsOfSameNetwork(machine(ROUTER, { ...ROUTER, eth9: { index: 9 } }))).toBeUndefined();
    expect(sysfsOfSameNetwork(machine(ROUTER, { lo: { index: 1 }, eth0: { index: 2, speed: '1000' } }))).toBeUndefined();
    expect(sysfsOfSameNetwork(machine(ROUTER, { ...ROUTER, eth0: { index: 17, speed: '1000' } }))).toBeUndefined();
    expect(sysfsOfSameNetwork(tempDir())).toBeUndefined();
    expect(sysfsOfSameNetwork(join(tempDir(), 'proc'))).toBeUndefined();
  });
});

it('knows where the sysfs of a procfs is', () => {
  expect(sysfsBeside('/proc')).toBe('/sys');
  expect(sysfsBeside('/proc/')).toBe('/sys');
  expect(sysfsBeside('/host/proc/1')).toBe('/host/sys');
  expect(sysfsBeside('/fixtures/linux-6')).toBeUndefined();
});

it('two procfs are of one network where names and numbers are the same', () => {
  expect(sameNetwork('/proc/', '/proc')).toBe(true);
  expect(sameNetwork(machine(ROUTER), machine(ROUTER))).toBe(true);
  expect(sameNetwork(machine(ROUTER), machine({ ...ROUTER, eth0: { index: 17 } }))).toBe(false);
  expect(sameNetwork(machine({ lo: { index: 1 } }), machine({ lo: { index: 1 } }))).toBe(false);
  expect(sameNetwork(tempDir(), '/proc')).toBe(false);
});

it('reads names as the kernel writes them', () => {
  expect(namesIn('Inter-| x\n face |bytes\n    lo: 1 2\neth0:12 3\neth0:1: 4 5\n br-lan.10: 1\n')).toEqual(['lo', 'eth0', 'br-lan.10']);
});

it('the capacities in force: configured ones stay, links tell the others', () => {
  const root = machine(ROUTER);
  const dump = (settings: object) => {
    const file = join(tempDir(), 'ndt.json');
    writeFileSync(file, JSON.stringify(settings));
    return routersInForce(loadConfig(file, {})).map((entry) => Object.values(entry)[0]?.max_throughput_mbps);
  };
  const routers = [
    { r1: { procfs_root: root } },
    { r2: { procfs_root: root, interfaces: ['eth0'] } },
    { r3: { procfs_root: root, max_throughput_mbps: 50 } },
    { r4: { url: 'http://192.0.2.1:9100/metrics' } },
    { r5: { procfs_root: tempDir() } },
  ];
  expect(dump({ routers })).toEqual([10_000, 1000, 50, undefined, undefined]);
  expect(dump({ routers, max_throughput_mbps: 7 })).toEqual([undefined, undefined, 50, undefined, undefined]);
});
