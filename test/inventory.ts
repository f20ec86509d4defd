/** An inventory as an agent sends it, for tests to vary. */
import type { Inventory, NetworkInterface } from '../common/inventory.ts';

function link(settings: Partial<NetworkInterface> & { name: string }): NetworkInterface {
  return {
    mac: null,
    ip4: null,
    ip4_subnet: null,
    ip6: null,
    ip6_subnet: null,
    speed_mbps: null,
    mtu: 1500,
    state: 'up',
    virtual: false,
    ...settings,
  };
}

export function inventoryWith(settings: Partial<Inventory>): Inventory {
  return {
    type: 'inventory',
    router: 'r1',
    agent: 'a1',
    collected_at: '1745233635.217',
    system: { manufacturer: 'PC Engines', model: 'apu2', virtual: false },
    os: { distribution: 'Debian GNU/Linux', release: '12', kernel: '6.1.0', arch: 'x64', hostname: 'r1' },
    cpu: { manufacturer: 'AMD', brand: 'GX-412TC SOC', physical_cores: 4, cores: 4, speed_ghz: 1 },
    memory: { total_bytes: 4_000_000_000 },
    interfaces: [
      link({ name: 'eth0', mac: '02:00:00:00:00:01', ip4: '192.0.2.1', ip4_subnet: '255.255.255.0', speed_mbps: 1000 }),
      link({ name: 'eth1', mac: '02:00:00:00:00:02', state: 'down' }),
    ],
    interfaces_left_out: 0,
    ndt: { version: '0.1.0', node: '24.21.0' },
    ...settings,
  };
}
