import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname, release, totalmem } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Inventory, parseInventory } from '../../common/inventory.ts';
import { expectExactlyOnce } from '../exactly-once.ts';
import { fromSources, Pair, Running, runOnce } from '../programs.ts';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

/** A router that is this machine, and one that is not. */
const routers = [{ here: { interfaces: ['lo'], polling_interval: 0.2 } }, { away: { test_metrics: true, polling_interval: 0.2 } }];

async function makePair(settings: object = {}): Promise<Pair> {
  const dir = tempDir();
  const pair = await Pair.make(dir, { routers, ...settings });
  const periods = Object.fromEntries([0, 1, 2].map((n) => [`period_${n}`, { total_bytes: String(n * 1000), total_packets: String(n) }]));
  writeFileSync(join(dir, 'test_metrics_away.json'), JSON.stringify(periods));
  onTestFinished(() => pair.stop());
  return pair;
}

type Shown = { inventory: (Omit<Inventory, 'type' | 'router' | 'collected_at'> & { at: number }) | null };
const shown = async (pair: Pair, router: string) => (await pair.get<Shown>(`/api/v1/routers/${router}`)).inventory;

/** What waits at the agent. */
function waiting(dir: string): Array<{ topic: string; body: string }> {
  const db = new Database(join(dir, 'data/agent/outbox.db'), { readonly: true });
  try {
    return db.prepare<[], { topic: string; body: string }>('SELECT topic, body FROM records ORDER BY seq').all();
  } finally {
    db.close();
  }
}

describe('an inventory', () => {
  it('of this machine is shown by the aggregator, one for each start and none for other machines', async () => {
    const pair = await makePair();
    await pair.aggregator();
    for (let start = 1; start <= 2; start += 1) {
      const [before, namesBefore] = [Date.now() / 1000, namesHere()];
      const agent = await pair.agent();
      await agent.says('inventory taken');
      await until(() => pair.inventories().length === start, `inventory ${start}`);
      const inventory = await until(async () => {
        const found = await shown(pair, 'here');
        return found !== null && found.at >= before - 1 ? found : undefined;
      }, 'the inventory in the store');
      expect(inventory).toMatchObject({
        agent: 'edge',
        os: { kernel: release(), hostname: hostname(), arch: process.arch },
        memory: { total_bytes: totalmem() },
        ndt: { node: process.versions.node },
      });
      // One of another test may have come or gone meanwhile.
      const [told, now] = [inventory.interfaces.map(({ name }) => name), namesHere()];
      expect(told).toEqual(expect.arrayContaining(now.filter((name) => namesBefore.includes(name))));
      expect([...namesBefore, ...now]).toEqual(expect.arrayContaining(told));
      expect(inventory.interfaces.find(({ name }) => name === 'lo')).toMatchObject({ ip4: '127.0.0.1', virtual: true, speed_mbps: null });
      expect(await shown(pair, 'away')).toBeNull();
      // The process that read the machine is gone.
      expect(childrenOf(agent.pid)).toEqual([]);
      expect(agent.log).not.toContain('"level":40');
      expect(await agent.stop()).toEqual({ code: 0, signal: null });
    }
    expect(new Set(pair.inventories().map(({ router }) => router))).toEqual(new Set(['here']));
    expect(await expectExactlyOnce(pair)).toBeGreaterThan(10);
    const { agents } = await pair.get<{ agents: Array<{ difference: number; unexplained: { count: number } }> }>('/api/v1/ledger');
    expect(agents).toMatchObject([{ difference: 0, unexplained: { count: 0 } }]);
  }, 60_000);

  it('costs the agent none of the library: only the process beside it loads that', async () => {
    const pair = await makePair();
    const list = join(pair.dir, 'loaded');
    const hook = `import { registerHooks } from 'node:module'; import { appendFileSync } from 'node:fs';
      registerHooks({ load(url, context, next) { appendFileSync(${JSON.stringify(list)}, url + '\\n'); return next(url, context); } });`;
    const { command, env } = fromSources('agent');
    pair.origin.agent = { command, env: { ...env, NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(hook)}` } };
    const agent = await pair.agent();
    await agent.says('inventory taken');
    await agent.stop();
    const loaded = readFileSync(list, 'utf8');
    expect(loaded).toContain('/agent/inventory/child.ts\n');
    expect(loaded).not.toMatch(/systeminformation|inventory\/machine/);
  }, 30_000);

  it('survives kill -9 of the agent while nobody takes it', async () => {
    const pair = await makePair();
    for (let start = 0; start < 3; start += 1) {
      const agent = await pair.agent();
      await agent.says('inventory taken');
      await agent.kill9();
    }
    expect(waiting(pair.dir).filter(({ topic }) => topic === 'ndt.inventory')).toHaveLength(3);
    await pair.aggregator();
    const agent = await pair.agent();
    await agent.says('inventory taken');
    await until(() => pair.inventories().length === 4, 'all four of them');
    await agent.stop();
    await expectExactlyOnce(pair);
    // The newest is shown, whichever came last.
    const db = new Database(join(pair.dir, 'data/aggregator/store.db'), { readonly: true });
    onTestFinished(() => void db.close());
    const newest = pair.inventories().at(-1)?.seq;
    await until(() => db.prepare('SELECT seq FROM inventories').pluck().get() === newest, 'the newest to be in the store');
  }, 60_000);

  it('is not made where the interval is 0, and is made anew when the routers of this machine change, not otherwise', async () => {
    const pair = await makePair({ inventory: { interval: 0 } });
    await pair.aggregator();
    const agent = await pair.agent();
    const settings = JSON.parse(readFileSync(pair.config, 'utf8')) as object;
    const reload = async (change: object) => {
      const before = agent.log.split('configuration reloaded').length;
      pair.configure({ ...settings, ...change });
      await until(() => agent.log.split('configuration reloaded').length > before, 'the reload');
    };
    await until(() => pair.stored('processed').length > 10, 'records');
    await reload({ inventory: {} });
    await agent.says('inventory taken');
    await reload({ inventory: {}, experiment_id: '2' });
    await reload({ inventory: {}, experiment_id: '3', routers: [...routers, { also: { interfaces: ['lo'] } }] });
    await until(() => pair.inventories().length >= 3, 'the inventories of the change');
    await agent.stop();
    // One of the first; of the change one for each router of this machine.
    expect(pair.inventories().map(({ router }) => router)).toEqual(['here', 'here', 'also']);
  }, 60_000);
});

it('prints the inventory by hand, and nothing that identifies the machine for ever', () => {
  const { status, stdout, stderr } = runOnce('agent', ['inventory']);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const machine = JSON.parse(stdout) as object;
  expect(Object.keys(machine)).toEqual(['system', 'os', 'cpu', 'memory', 'interfaces', 'interfaces_left_out']);
  expect(stdout).not.toMatch(/serial|uuid|machine.?id/i);
  for (const file of ['/etc/machine-id', '/sys/class/dmi/id/product_uuid', '/sys/class/dmi/id/product_serial']) {
    const id = contentOf(file);
    if (id !== undefined && id.length > 7) expect(stdout, file).not.toContain(id);
  }
  expect(runOnce('agent', ['--help']).stdout).toMatch(/inventory +print what this machine is made of/);
});

it('a root that is none of a proc file system is refused: an inventory without interfaces would be untrue', () => {
  const { status, stdout, stderr } = runOnce('agent', ['inventory', '--procfs-root', '/nowhere']);
  expect({ status, stdout }).toEqual({ status: 69, stdout: '' });
  expect(stderr).toMatch(/^ndt-agent: \/nowhere\/net\/dev cannot be read \(.*ENOENT.*\): .*procfs_root/);
});

const canNamespace =
  process.getuid?.() === 0 && spawnSync('unshare', ['-mn', 'sh', '-c', 'ip link add v0 type veth peer name v1']).status === 0;

describe.skipIf(!canNamespace)('a capacity that nobody configured (needs root and iproute2)', () => {
  /** An agent on a router of its own: a network with a pair of interfaces of which the kernel says that they are fast. */
  async function onRouter(script: string, settings: object): Promise<{ log: string; throughput: number[]; inventory: Inventory }> {
    const pair = await Pair.make(tempDir(), { routers: [{ r1: { interfaces: ['wan0'], polling_interval: 0.2 } }], ...settings });
    const { command, env } = fromSources('agent');
    const before = `ip link add wan0 type veth peer name far0; for i in lo wan0 far0; do ip link set $i up; done; ${script}; exec "$@"`;
    const agent = new Running({ command: ['unshare', '-mn', 'sh', '-ec', before, 'sh', ...command], env }, [
      'run',
      '--config',
      pair.config,
    ]);
    onTestFinished(() => agent.kill9());
    await agent.says('inventory taken');
    await agent.kill9();
    const records = waiting(pair.dir);
    const body = records.find(({ topic }) => topic === 'ndt.inventory')?.body ?? '';
    const throughput = records
      .filter(({ topic }) => topic === 'TP_r1')
      .map(({ body }) => (JSON.parse(body) as { debug_params: { max_throughput_mbps: number } }).debug_params.max_throughput_mbps);
    expect(throughput.length).toBeGreaterThan(2);
    return { log: agent.log, throughput: [...new Set(throughput)], inventory: parseInventory(body) };
  }
  const speedOf = ({ interfaces }: Inventory, name: string) => interfaces.find((link) => link.name === name)?.speed_mbps;

  it('is the speed of the monitored link, from the first record on', async () => {
    const { log, throughput, inventory } = await onRouter('mount -t sysfs sysfs /sys', {});
    expect(throughput).toEqual([10_000]);
    expect(log).toContain('router r1: 100 % occupation is 10000 Mbit/s (the speed of wan0, and max_throughput_mbps is not configured)');
    expect(log.match(/100 % occupation/g)).toHaveLength(1);
    expect(inventory.interfaces.map(({ name }) => name).sort()).toEqual(['far0', 'lo', 'wan0']);
    expect(speedOf(inventory, 'wan0')).toBe(10_000);
  }, 60_000);

  it('gives way to a configured one', async () => {
    const { log, throughput, inventory } = await onRouter('mount -t sysfs sysfs /sys', { max_throughput_mbps: 250 });
    expect(throughput).toEqual([250]);
    expect(log).not.toContain('100 % occupation');
    expect(speedOf(inventory, 'wan0')).toBe(10_000);
  }, 60_000);

  it('is 1000 where sysfs shows another network than procfs', async () => {
    const { log, throughput, inventory } = await onRouter('true', {});
    expect(throughput).toEqual([1000]);
    expect(log).toContain('100 % occupation is 1000 Mbit/s (no monitored interface tells its speed');
    expect(inventory.interfaces.map(({ name }) => name).sort()).toEqual(['far0', 'lo', 'wan0']);
    expect(inventory.interfaces.find(({ name }) => name === 'wan0')).toMatchObject({
      speed_mbps: null,
      mtu: null,
      state: null,
      virtual: null,
    });
  }, 60_000);
});

function namesHere(): string[] {
  const lines = readFileSync('/proc/net/dev', 'utf8').split('\n').slice(2);
  return lines.flatMap((line) => (line.includes(':') ? [line.slice(0, line.indexOf(':')).trim()] : [])).sort();
}

function childrenOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) => {
    const children = contentOf(`/proc/${pid}/task/${task}/children`);
    return children === undefined || children === '' ? [] : children.split(' ');
  });
}

function contentOf(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return undefined;
  }
}
