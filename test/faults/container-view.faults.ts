/**
 * What the agents of k8s/ see from inside their pods: a node of network, process and mount namespaces of its own, and in it a container
 * of others, in which a part of the node's /proc is mounted where the manifests have it.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { hostname, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parseMachine } from '../../common/inventory.ts';
import { findProgram } from '../../scripts/programs.ts';
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

/** Runs a command in the container; $DIR/narrow is the node's /proc/1/net alone, $DIR/whole all of the node's /proc. */
function inContainer(dir: string, command: string[]) {
  for (const folder of ['narrow/1/net', 'whole']) mkdirSync(join(dir, folder), { recursive: true });
  const container = `
    mount --make-rprivate /
    mount --bind /proc/1/net "$DIR/narrow/1/net" && mount -o remount,bind,ro "$DIR/narrow/1/net" && mount --bind /proc "$DIR/whole"
    mount -t proc proc /proc
    ip link add ownif0 type veth peer name ownif1
    exec "$@"`;
  // The shell stays: it is the node's first process, whose network is looked at.
  const node = `
    ip link add nodeif0 type veth peer name nodeif1
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
  for (const [root, shown, seen] of [
    ['narrow/1', 'the folder of the node that the manifests mount', NODE_HAS],
    ['whole/1', 'all of the node’s /proc', NODE_HAS],
    ['/proc', 'its own /proc', CONTAINER_HAS],
  ] as const)
    test(`an agent without capabilities that is shown ${shown} reports ${seen === NODE_HAS ? 'the node’s interfaces' : 'its own'}`, () => {
      const dir = tempDir();
      const config = join(dir, 'agent.json');
      const procfs_root = root.startsWith('/') ? root : join(dir, root);
      writeFileSync(config, JSON.stringify({ routers: [{ 'node-1': { source: 'procfs', procfs_root } }] }));
      const { stdout, stderr } = inContainer(dir, [...WITHOUT_CAPABILITIES, process.execPath, agent, 'once', '--config', config]);
      expect(stderr).toBe('');
      const record = JSON.parse(stdout) as { interfaces: string[] };
      expect(record.interfaces.toSorted()).toEqual(seen);
    });

  for (const [root, seen] of [
    ['narrow/1', NODE_HAS],
    ['whole/1', NODE_HAS],
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
      // Its /sys is of a third network: nothing may be taken from there.
      for (const { speed_mbps, mtu, state, virtual } of interfaces)
        expect([speed_mbps, mtu, state, virtual]).toEqual([null, null, null, null]);
      expect([os.kernel, memory.total_bytes]).toEqual([release(), totalmem()]);
      expect(os.hostname).toBe(seen === NODE_HAS ? null : hostname());
    });

  test('the node’s counters are there for the pods’ user', () => {
    const dir = tempDir();
    // The folder of a test is its user's alone.
    const user = ['--reuid=65532', '--regid=65532', '--clear-groups'];
    const { stdout, stderr } = inContainer(dir, [
      'sh',
      '-euc',
      `chmod 0755 "$DIR"; exec ${WITHOUT_CAPABILITIES.join(' ')} ${user.join(' ')} cat "$DIR/narrow/1/net/dev"`,
    ]);
    expect(stderr).toBe('');
    for (const name of NODE_HAS) expect(stdout).toContain(`${name}:`);
    for (const name of CONTAINER_HAS) expect(stdout).not.toContain(name);
  });
});
