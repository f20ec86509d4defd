import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../common/config.ts';
import { tempDir } from '../test/tempdir.ts';
import { routersInForce } from './capacity.ts';
import { fastest, namesIn, sameNetwork, speedOf, sysfsBeside, sysfsOfSameNetwork } from './sysfs.ts';

interface Link {
  index: number;
  speed?: string;
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
  for (const [name, { index, speed }] of Object.entries(inSys)) {
    mkdirSync(join(dir, 'sys/class/net', name), { recursive: true });
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
