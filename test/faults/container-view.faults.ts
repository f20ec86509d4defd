/**
 * What the agents of k8s/ see from inside their pods: a node of network, process and mount namespaces of its own, and in it a container
 * of others, in which parts of the node's /proc and /sys are mounted where the manifests have them.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { parseMachine } from '../../common/inventory.ts';
import { findProgram } from '../../scripts/programs.ts';
import type { PodSpec } from '../kubernetes-policy.ts';
import { tempDir } from '../tempdir.ts';

const can =
  process.getuid?.() === 0 &&
  findProgram('ip') !== undefined &&
  findProgram('unshare') !== undefined &&
  findProgram('setpriv') !== undefined;
const NEEDS = can ? '' : ' (skipped: needs root, ip, unshare and setpriv)';
const agent = fileURLToPath(new URL('../../agent/main.ts', import.meta.url));

/** The interfaces of the node and of the container. */
const NODE_HAS = ['nodeif0', 'nodeif1'];
const CONTAINER_HAS = ['ownif0', 'ownif1'];

/** The root of a procfs beside which there is no sysfs, of one beside which the node's is, and of all of the node's /proc. */
const NARROW = 'bare/proc/1';
const MOUNTED = 'host/proc/1';
const WHOLE = 'whole/proc/1';

/** What the manifests mount read-only of a node, and where. */
function mountsOfManifest(): Array<{ from: string; to: string }> {
  const documents = parseAllDocuments(readFileSync(fileURLToPath(new URL('../../k8s/base/agent.yaml', import.meta.url)), 'utf8'));
  const pod = documents
    .map((each) => each.toJS() as { kind: string; spec: { template: { spec: PodSpec } } })
    .find(({ kind }) => kind === 'DaemonSet')?.spec.template.spec;
  return (pod?.containers[0]?.volumeMounts ?? []).flatMap(({ name, mountPath, readOnly }) => {
    const from = pod?.volumes?.find((volume) => volume.name === name)?.hostPath?.path;
    return from === undefined || readOnly !== true ? [] : [{ from, to: mountPath }];
  });
}

/** Runs a command in the container; what the manifests mount lies below $DIR. */
function inContainer(dir: string, command: string[]) {
  const mounts = [...mountsOfManifest(), { from: '/proc/1/net', to: '/bare/proc/1/net' }, { from: '/proc', to: '/whole/proc' }];
  for (const { to } of mounts) mkdirSync(join(dir, to), { recursive: true });
  const container = `
    mount --make-rprivate /
    ${mounts.map(({ from, to }) => `mount --bind ${from} "$DIR${to}" && mount -o remount,bind,ro "$DIR${to}"`).join('\n')}
    mount -t proc proc /proc
    ip link add ownif0 type veth peer name ownif1
    exec "$@"`;
  // The shell stays: it is the node's first process, whose network is looked at.
  const node = `
    ip link add nodeif0 type veth peer name nodeif1
    for name in lo nodeif0 nodeif1; do ip link set $name up; done
    mount -t sysfs sysfs /sys
    unshare --net --pid --mount --fork sh -euc "$CONTAINER" sh "$@" || exit $?
    exit 0`;
  return spawnSync('unshare', ['--net', '--pid', '--mount-proc', '--mount', '--fork', 'sh', '-euc', node, 'sh', ...command], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, DIR: dir, CONTAINER: container },
    timeout: 60_000,
  });
}

/** As the pods' security context has it, but for the user. */
const WITHOUT_CAPABILITIES = ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs'];

describe.skipIf(!can)(`the view from a pod${NEEDS}`, () => {
  // The kernel says of a pair of interfaces that it has 10 Gbit/s.
  for (const [root, shown, seen, mbps] of [
    [MOUNTED, 'the folders of the node that the manifests mount', NODE_HAS, 10_000],
    [NARROW, 'the node’s counters alone', NODE_HAS, 1000],
    [WHOLE, 'all of the node’s /proc', NODE_HAS, 1000],
    ['/proc', 'its own /proc', CONTAINER_HAS, 1000],
  ] as const)
    test(`an agent without capabilities that is shown ${shown} reports ${seen === NODE_HAS ? 'the node’s interfaces' : 'its own'}`, () => {
      const dir = tempDir();
      const config = join(dir, 'agent.json');
      const procfs_root = root.startsWith('/') ? root : join(dir, root);
      writeFileSync(config, JSON.stringify({ routers: [{ 'node-1': { source: 'procfs', procfs_root } }] }));
      const { stdout, stderr } = inContainer(dir, [...WITHOUT_CAPABILITIES, process.execPath, agent, 'once', '--config', config]);
      expect(stderr).toBe('');
      const record = JSON.parse(stdout) as { interfaces: string[]; debug_params: { max_throughput_mbps: number } };
      expect(record.interfaces.toSorted()).toEqual(seen);
      expect(record.debug_params.max_throughput_mbps).toBe(mbps);
    });

  for (const [root, seen] of [
    [MOUNTED, NODE_HAS],
    [NARROW, NODE_HAS],
    [WHOLE, NODE_HAS],
    ['/proc', CONTAINER_HAS],
  ] as const)
    test(`an inventory of ${root} has ${seen === NODE_HAS ? 'the node’s interfaces, and nothing of the container’s' : 'the container’s own'}`, () => {
      const dir = tempDir();
      const procfs = root.startsWith('/') ? root : join(dir, root);
      const { stdout, stderr, status } = inContainer(dir, [
        ...WITHOUT_CAPABILITIES,
        process.execPath,
        agent,
        'inventory',
        '--procfs-root',
        procfs,
      ]);
      expect(status, stderr).toBe(0);
      const { os, memory, interfaces } = parseMachine(stdout);
      expect(interfaces.map(({ name }) => name).filter((name) => name !== 'lo')).toEqual(expect.arrayContaining([...seen]));
      expect(interfaces.filter(({ name }) => name !== 'lo')).toHaveLength(seen.length);
      // Where there is no sysfs beside it, or one of another network, nothing may be told.
      const links = root === MOUNTED ? [10_000, 1500, 'up', true] : [null, null, null, null];
      for (const { name, speed_mbps, mtu, state, virtual } of interfaces)
        expect([speed_mbps, mtu, state, virtual]).toEqual(name === 'lo' && root === MOUNTED ? [null, 65_536, null, true] : links);
      expect([os.kernel, memory.total_bytes]).toEqual([release(), totalmem()]);
      expect(os.hostname).toBe(seen === NODE_HAS ? null : hostname());
    });

  test('the node’s counters and links are there for the pods’ user', () => {
    const dir = tempDir();
    // The folder of a test is its user's alone.
    const user = ['--reuid=65532', '--regid=65532', '--clear-groups'];
    const { stdout, stderr } = inContainer(dir, [
      'sh',
      '-euc',
      `chmod 0755 "$DIR"; exec ${WITHOUT_CAPABILITIES.join(' ')} ${user.join(' ')} cat "$DIR/host/proc/1/net/dev" "$DIR/host/sys/class/net/nodeif0/speed"`,
    ]);
    expect(stderr).toBe('');
    for (const name of NODE_HAS) expect(stdout).toContain(`${name}:`);
    expect(stdout).toMatch(/\n10000\n$/);
    for (const name of CONTAINER_HAS) expect(stdout).not.toContain(name);
  });
});
