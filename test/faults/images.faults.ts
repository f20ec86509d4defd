/** The images that the Dockerfiles make, in pods as the manifests have them: on one machine, without the cluster. */
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type PodSpec, type Workload, workloads } from '../kubernetes-policy.ts';
import { ARCH, buildPackage, canPackage } from '../package.ts';
import type { Running } from '../programs.ts';
import { buildKustomize, hasKubernetes, type Manifest, NEEDS_KUBERNETES, render } from '../real/kubernetes.ts';
import { ask, firstProcess, hasImages, type Image, Images, MountedFiles, NEEDS_IMAGES, type PodOptions, startPod } from '../real/pod.ts';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

const OVERLAY = fileURLToPath(new URL('../../k8s/overlays/embedded', import.meta.url));
const TOKEN = 'a token of the Secret';
const HOSTS = '127.0.0.1 localhost node-1 aggregator.ndt\n';

describe.skipIf(!hasImages || !hasKubernetes || !canPackage)(`the images, in pods of k8s/${NEEDS_IMAGES}${NEEDS_KUBERNETES}`, () => {
  const images = new Images();
  const network = `ndt-pods-${process.pid}`;
  let dist: string | undefined;
  let built: Map<string, Image>;
  let manifests: Manifest[];

  beforeAll(async () => {
    dist = buildPackage(['--arch', ARCH]);
    await buildKustomize();
    manifests = await render(OVERLAY);
    built = new Map();
    for (const name of ['ndt-agent', 'ndt-aggregator']) built.set(name, await images.build(name, dist, ARCH));
    execFileSync('ip', ['netns', 'add', network]);
    execFileSync('ip', ['-n', network, 'link', 'set', 'lo', 'up']);
  }, 900_000);

  afterAll(async () => {
    execFileSync('ip', ['netns', 'delete', network]);
    await images.remove();
    if (dist !== undefined) rmSync(dist, { recursive: true, force: true });
  }, 60_000);

  const workload = (name: string): Workload => {
    const found = workloads(manifests).find((each) => each.name === name);
    if (found === undefined) throw new Error(`${OVERLAY} has no ${name}`);
    return found;
  };
  const configMap = (namespace: string, name = '') =>
    manifests.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.namespace === namespace && metadata.name === name)?.data ?? {};

  /** A pod's volumes as folders of a test, empty ones aside. */
  function volumesOf({ namespace, pod }: Workload, dir: string) {
    const volumes: { [name: string]: string } = {};
    let config: MountedFiles | undefined;
    for (const { name, configMap: map, secret, hostPath } of pod.volumes ?? []) {
      const folder = join(dir, name);
      if (map !== undefined) config = new MountedFiles(folder, configMap(namespace, map.name));
      else if (secret !== undefined) new MountedFiles(folder, { token: TOKEN });
      // What is written to is a folder of its own here, made as the kubelet makes it; the rest is this machine's.
      else if (hostPath?.path.startsWith('/var/')) mkdirSync(folder);
      else if (hostPath === undefined) continue;
      volumes[name] = hostPath === undefined || hostPath.path.startsWith('/var/') ? folder : hostPath.path;
    }
    return { volumes, config };
  }

  function podOf(name: string, image: string, dir: string): { options: PodOptions; config: MountedFiles | undefined } {
    const each = workload(name);
    const { volumes, config } = volumesOf(each, dir);
    const found = built.get(image);
    if (found === undefined) throw new Error(`no image ${image} was built`);
    return { options: { pod: each.pod, image: found, network, volumes, hosts: HOSTS, nodeName: 'node-1', dir }, config };
  }

  /** Waits until each probe of the pod's program is content. */
  async function probed(pod: PodSpec, running: Running): Promise<void> {
    const [first] = pod.containers;
    for (const probe of [first?.startupProbe, first?.livenessProbe, first?.readinessProbe]) {
      const { path, port } = probe?.httpGet ?? {};
      const number = first?.ports?.find(({ name }) => name === port)?.containerPort;
      const url = `http://127.0.0.1:${number}${path}`;
      await until(
        () => running.child.exitCode === null && ask(network, url).status === 200,
        () => `${url} to be content; ${running.log.slice(-2000)}`,
        60_000,
      );
    }
  }

  const killedAtLast = ({ child }: Running) => onTestFinished(() => void child.kill('SIGKILL'));

  /** As the kubelet ends a container: SIGTERM to its first process. */
  async function end(running: Running): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    process.kill(await firstProcess(running), 'SIGTERM');
    return await running.exited;
  }

  test('name the user that the manifests ask for, and the programs say their version', async () => {
    for (const [name, image] of built) {
      const { runAsUser, runAsGroup } = workload(name.replace('ndt-', '')).pod.securityContext ?? {};
      expect(image.user).toBe(`${runAsUser}:${runAsGroup}`);
      for (const program of name === 'ndt-agent' ? ['ndt-agent'] : ['ndt-aggregator', 'ndt-ml']) {
        const dir = tempDir();
        const each = { name: program, image: name, command: [program, '--version'], securityContext: { readOnlyRootFilesystem: true } };
        const runtime = { name: 'runtime', mountPath: '/run/ndt' };
        const pod = { containers: [{ ...each, volumeMounts: [runtime] }] };
        const running = await startPod({ pod, image, network, volumes: {}, hosts: HOSTS, nodeName: 'node-1', dir });
        expect(await running.exited, running.log).toEqual({ code: 0, signal: null });
      }
    }
  });

  test('agent and aggregator: probes, records of the node, a changed ConfigMap, an end in time, and what waited arrives', async () => {
    const dir = tempDir();
    // A folder of a test is its user's alone.
    chmodSync(dir, 0o755);
    for (const name of ['aggregator', 'agent', 'data']) mkdirSync(join(dir, name));
    // As `fsGroup` has it.
    chownSync(join(dir, 'data'), 0, 65532);
    chmodSync(join(dir, 'data'), 0o2770);
    const aggregator = podOf('aggregator', 'ndt-aggregator', join(dir, 'aggregator'));
    aggregator.options.volumes.data = join(dir, 'data');
    const serving = await startPod(aggregator.options);
    killedAtLast(serving);
    await probed(aggregator.options.pod, serving);

    const agent = podOf('agent', 'ndt-agent', join(dir, 'agent'));
    let running = await startPod(agent.options);
    killedAtLast(running);
    await probed(agent.options.pod, running);

    const api = 'http://127.0.0.1:9480/api/v1';
    expect(ask(network, `${api}/routers`).status).toBe(401);
    const records = () => {
      const { status, body } = ask(network, `${api}/records?router=node-1&stage=inferred&limit=1000`, TOKEN);
      return status === 200
        ? (JSON.parse(body) as { records: Array<{ record: { epoch_timestamp: string; interfaces: string[] } }> }).records
        : [];
    };
    await until(
      () => records().length > 0,
      () => `records; the agent says ${running.log.slice(-2000)}`,
      60_000,
    );
    // The node is this machine: what is told is not the pod's own network, which has nothing but lo.
    const own = readdirSync('/sys/class/net').filter((name) => name !== 'lo');
    expect(own).toEqual(expect.arrayContaining(records()[0]?.record.interfaces ?? ['none']));

    const settings = JSON.parse(configMap('ndt-agent', 'agent-config')['agent.json'] ?? '') as object;
    agent.config?.put({ 'agent.json': JSON.stringify({ ...settings, polling_interval: 0.5 }) });
    await running.says('configuration reloaded (the file changed)');

    // The aggregator is away; what the agent holds outlives its pod.
    const before = Date.now();
    expect(await end(serving)).toEqual({ code: 0, signal: null });
    const waiting = () => (JSON.parse(ask(network, 'http://127.0.0.1:9470/readyz').body) as { pending: number }).pending;
    await until(() => waiting() >= 6, 'records to wait', 60_000);
    expect(await end(running)).toEqual({ code: 0, signal: null });
    const after = Date.now();
    expect(existsSync(join(agent.options.volumes.buffer ?? '', 'agent/outbox.db'))).toBe(true);
    const again = await startPod(aggregator.options);
    killedAtLast(again);
    running = await startPod(agent.options);
    killedAtLast(running);
    const times = () => records().map(({ record }) => Number(record.epoch_timestamp) * 1000);
    await until(
      () => times().filter((time) => time > before && time < after).length >= 5,
      () => `what waited; the agent says ${running.log.slice(-2000)}`,
      60_000,
    );
    for (const program of [running, again]) expect(await end(program)).toEqual({ code: 0, signal: null });
  }, 180_000);
});
