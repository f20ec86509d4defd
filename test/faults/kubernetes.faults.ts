/** The manifests of k8s/, as they would be applied, against Kubernetes' own schema, our rules, and the programs that read their configuration. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../common/config.ts';
import pkg from '../../package.json' with { type: 'json' };
import { type PodSpec, violations, workloads } from '../kubernetes-policy.ts';
import { buildKustomize, fetchSchemas, hasKubernetes, type Manifest, NEEDS_KUBERNETES, render, Schemas } from '../real/kubernetes.ts';
import { tempDir } from '../tempdir.ts';

const OVERLAYS = fileURLToPath(new URL('../../k8s/overlays', import.meta.url));

describe.skipIf(!hasKubernetes)(`Kubernetes manifests${NEEDS_KUBERNETES}`, () => {
  const rendered = new Map<string, Manifest[]>();
  let schemas: Schemas;

  beforeAll(async () => {
    await Promise.all([buildKustomize(), fetchSchemas()]);
    schemas = new Schemas();
    for (const overlay of readdirSync(OVERLAYS)) rendered.set(overlay, await render(join(OVERLAYS, overlay)));
  }, 600_000);

  const of = (overlay: string) => rendered.get(overlay) ?? [];

  for (const overlay of readdirSync(OVERLAYS)) {
    test(`${overlay}: every manifest is one of Kubernetes`, () => {
      expect(of(overlay).length).toBeGreaterThan(15);
      expect(of(overlay).flatMap((manifest) => schemas.faults(manifest))).toEqual([]);
    });

    test(`${overlay}: nothing is against the rules`, () => {
      expect(violations(of(overlay))).toEqual([]);
    });

    test(`${overlay}: our images have the version of this tree`, () => {
      const images = workloads(of(overlay)).flatMap(({ pod }) =>
        [...pod.containers, ...(pod.initContainers ?? [])].map(({ image }) => image),
      );
      const ours = images.filter((image) => /^ndt-/.test(image));
      expect(ours.length).toBeGreaterThan(2);
      expect(new Set(ours.map((image) => image.split(':')[1]))).toEqual(new Set([pkg.version]));
    });

    test(`${overlay}: delete.sh finds all that it brings, and its images are named in one place`, () => {
      const others = of(overlay).filter(({ kind }) => kind !== 'Namespace');
      const unlabelled = others.filter(({ metadata }) => metadata.labels?.['app.kubernetes.io/part-of'] !== 'ndt');
      expect(unlabelled.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual([]);
      const kustomization = readFileSync(join(OVERLAYS, overlay, 'kustomization.yaml'), 'utf8');
      expect(kustomization).toContain('../../components/images');
      expect(kustomization).not.toMatch(/^images:/m);
    });

    test(`${overlay}: what is mounted is there, under a name that stays`, () => {
      const there = new Set(
        of(overlay)
          .filter(({ kind }) => kind === 'ConfigMap')
          .map(({ metadata }) => `${metadata.namespace}/${metadata.name}`),
      );
      for (const { namespace, pod } of workloads(of(overlay))) {
        for (const { configMap, secret } of pod.volumes ?? []) {
          if (configMap !== undefined) expect(there).toContain(`${namespace}/${configMap.name}`);
          // The scripts make it, because a repository holds no secrets.
          if (secret !== undefined) expect(secret.secretName).toBe('ndt-http');
        }
      }
    });

    test(`${overlay}: the programs take their configuration`, () => {
      let checked = 0;
      for (const { namespace, pod, name } of workloads(of(overlay))) {
        const volume = pod.volumes?.find(({ configMap }) => configMap !== undefined && configMap.name !== 'kafka-config');
        if (volume === undefined) continue;
        const map = of(overlay).find(
          ({ kind, metadata }) => kind === 'ConfigMap' && metadata.namespace === namespace && metadata.name === volume.configMap?.name,
        );
        const dir = tempDir();
        for (const [file, text] of Object.entries(map?.data ?? {})) writeFileSync(join(dir, file), text);
        const file = readdirSync(dir)[0] ?? '';
        const env = Object.fromEntries(
          (pod.containers[0]?.env ?? []).map((entry) => [entry.name, (entry.value ?? '').replaceAll('$(NODE_NAME)', 'node-1.example')]),
        );
        const loaded = loadConfig(join(dir, file), env);
        expect(loaded.warnings).toEqual([]);
        if (/agent/.test(name)) expect(loaded.routers.length).toBeGreaterThan(0);
        checked += 1;
      }
      expect(checked).toBeGreaterThan(1);
    });
  }

  test('the experiment has seven routers, each with a node exporter that its agent polls', () => {
    const text = of('experiment').find(({ metadata }) => metadata.name === 'experiment-config')?.data?.['agent.json'] ?? '';
    const dir = tempDir();
    writeFileSync(join(dir, 'agent.json'), text);
    const { routers } = loadConfig(join(dir, 'agent.json'), {});
    expect(routers.map(({ name, url, nodeExporter }) => [name, url, nodeExporter])).toEqual(
      [1, 2, 3, 4, 5, 6, 7].map((n) => [`r${n}`, `http://r-${n}.routers:9100/metrics`, `r${n}:9100`]),
    );
    const set = of('experiment').find(({ kind, metadata }) => kind === 'StatefulSet' && metadata.name === 'r');
    expect(set?.spec).toMatchObject({ replicas: 7, ordinals: { start: 1 }, serviceName: 'routers' });
  });

  test('the agents run on every node, and see of it what they need', () => {
    const agents = of('embedded').find(({ kind }) => kind === 'DaemonSet');
    const pod = (agents!.spec!.template as { spec: PodSpec & { tolerations: unknown } }).spec;
    expect(pod.tolerations).toEqual([{ operator: 'Exists' }]);
    expect(pod.volumes?.flatMap(({ hostPath }) => hostPath?.path ?? [])).toEqual([
      '/proc/1/net',
      '/sys/class/net',
      '/sys/devices',
      '/var/lib/ndt-agent',
    ]);
    expect(of('embedded').some(({ metadata }) => metadata.labels?.['app.kubernetes.io/component'] === 'ml')).toBe(false);
    expect(of('kafka').some(({ kind, metadata }) => kind === 'Deployment' && metadata.name === 'ml')).toBe(true);
  });

  test('what is against the rules is found, and what is no field of Kubernetes', () => {
    const broken = (change: (pod: PodSpec) => void) => {
      const manifests = structuredClone(of('embedded'));
      const aggregator = workloads(manifests).find(({ name }) => name === 'aggregator');
      if (aggregator === undefined) throw new Error('there is no aggregator');
      change(aggregator.pod);
      return { rules: violations(manifests).join('\n'), schema: manifests.flatMap((manifest) => schemas.faults(manifest)).join('\n') };
    };
    const first = (pod: PodSpec) => pod.containers[0]!;
    expect(broken((pod) => Object.assign(first(pod), { image: 'ndt-aggregator:latest' })).rules).toContain('without a version');
    expect(broken((pod) => Object.assign(first(pod), { image: 'registry.example:5000/ndt-aggregator' })).rules).toContain(
      'without a version',
    );
    expect(broken((pod) => Object.assign(first(pod), { securityContext: { privileged: true } })).rules).toContain('is privileged');
    expect(broken((pod) => delete first(pod).resources?.limits).rules).toContain('has no limits');
    expect(broken((pod) => delete first(pod).livenessProbe).rules).toContain('has no probes');
    expect(broken((pod) => pod.volumes?.push({ name: 'x', hostPath: { path: '/proc/1/net' } })).rules).toContain(
      'reaches /proc/1/net of its node',
    );
    expect(broken((pod) => Object.assign(pod.securityContext ?? {}, { runAsNonRoot: false })).rules).toContain('may run as root');
    expect(broken((pod) => Object.assign(first(pod), { livenesProbe: {} })).schema).toContain('livenesProbe');
    expect(broken((pod) => Object.assign(first(pod), { args: 'run' })).schema).toContain('must be array');
  });

  test('deploy.sh and delete.sh do in order what they say', () => {
    const dir = tempDir();
    const calls = join(dir, 'calls');
    mkdirSync(join(dir, 'bin'));
    // It answers as a cluster without our Secret does: what counts here is what it is asked for, and in which order.
    writeFileSync(
      join(dir, 'bin/kubectl'),
      `#!/bin/sh\necho "$*" >> ${calls}\ncase "$*" in *"get secret"*) exit 1;; *"get statefulset,"*) echo statefulset.apps/aggregator;; esac\ncat > /dev/null < /dev/null\n`,
      { mode: 0o755 },
    );
    const run = (script: string, ...args: string[]) =>
      spawnSync('sh', [fileURLToPath(new URL(`../../k8s/${script}`, import.meta.url)), ...args], {
        encoding: 'utf8',
        env: { ...process.env, PATH: `${join(dir, 'bin')}:${process.env.PATH}` },
      });
    expect(run('deploy.sh', '--nonsense').status).toBe(64);
    expect(run('deploy.sh', 'no-such-overlay').stderr).toContain('there is no overlay');
    const deployed = run('deploy.sh', 'embedded', '--wait', '--timeout', '90s');
    expect(deployed.status, deployed.stderr).toBe(0);
    const told = spawnSync('cat', [calls], { encoding: 'utf8' }).stdout;
    expect(told).toMatch(/create secret generic ndt-http[\s\S]*apply -k .*overlays\/embedded[\s\S]*rollout status .*--timeout=90s/);
    for (const [overlay, namespaces] of [
      ['embedded', ['ndt-agent', 'ndt']],
      [join(OVERLAYS, 'kafka'), ['ndt-agent', 'ndt']],
      ['experiment', ['ndt-experiment', 'ndt-agent', 'ndt']],
    ] as const) {
      writeFileSync(calls, '');
      const deleted = run('delete.sh', overlay, '--data');
      expect(deleted.status, deleted.stderr).toBe(0);
      expect(readFileSync(calls, 'utf8').match(/(?<=delete namespace )\S+/g)).toEqual(namespaces);
    }
  });
});
