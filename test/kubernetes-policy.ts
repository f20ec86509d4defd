/** What every manifest of ours keeps to, beyond what Kubernetes' schema asks for. */
import type { Manifest } from './real/kubernetes.ts';

interface SecurityContext {
  privileged?: boolean;
  allowPrivilegeEscalation?: boolean;
  readOnlyRootFilesystem?: boolean;
  runAsNonRoot?: boolean;
  runAsUser?: number;
  runAsGroup?: number;
  fsGroup?: number;
  capabilities?: { drop?: string[]; add?: string[] };
  seccompProfile?: { type: string };
}

interface Probe {
  httpGet?: { path: string; port: string | number };
}

export interface Container {
  name: string;
  image: string;
  command?: string[];
  args?: string[];
  env?: Array<{ name: string; value?: string }>;
  securityContext?: SecurityContext;
  resources?: { requests?: { [name: string]: string }; limits?: { [name: string]: string } };
  ports?: Array<{ name: string; containerPort: number }>;
  startupProbe?: Probe;
  livenessProbe?: Probe;
  readinessProbe?: Probe;
  volumeMounts?: Array<{ name: string; mountPath: string; readOnly?: boolean; subPath?: string; subPathExpr?: string }>;
}

export interface Volume {
  name: string;
  hostPath?: { path: string };
  configMap?: { name: string };
  secret?: { secretName: string };
}

export interface PodSpec {
  containers: Container[];
  initContainers?: Container[];
  volumes?: Volume[];
  securityContext?: SecurityContext;
  automountServiceAccountToken?: boolean;
  hostNetwork?: boolean;
  hostPID?: boolean;
  hostIPC?: boolean;
}

export interface Workload {
  kind: string;
  name: string;
  namespace: string;
  labels: { [name: string]: string };
  pod: PodSpec;
}

/** All that Pod Security `restricted` forbids and the agents of the nodes need: what tells of their links, a folder for the buffer, and one capability to hand that over. */
const AGENT = {
  namespace: 'ndt-agent',
  paths: new Map([
    ['/proc/1/net', { readOnly: true }],
    ['/sys/class/net', { readOnly: true }],
    ['/sys/devices', { readOnly: true }],
    ['/var/lib/ndt-agent', { readOnly: false }],
  ]),
  initContainer: 'buffer',
  capability: 'CHOWN',
} as const;

export function workloads(manifests: readonly Manifest[]): Workload[] {
  return manifests.flatMap(({ kind, metadata, spec }) => {
    const template = spec?.template as { metadata: { labels: { [name: string]: string } }; spec: PodSpec } | undefined;
    if (template === undefined) return [];
    return [
      { kind, name: metadata.name, namespace: metadata.namespace ?? 'default', labels: template.metadata.labels, pod: template.spec },
    ];
  });
}

/** What is against the rules, in words; empty when nothing is. */
export function violations(manifests: readonly Manifest[]): string[] {
  return [...workloads(manifests).flatMap(ofWorkload), ...ofNamespaces(manifests), ...ofSelectors(manifests)];
}

function ofWorkload(workload: Workload): string[] {
  const { pod, namespace } = workload;
  const where = `${workload.kind} ${namespace}/${workload.name}`;
  const isAgent = namespace === AGENT.namespace && workload.kind === 'DaemonSet';
  const found: string[] = [];
  const ask = (holds: boolean, what: string) => void (holds || found.push(`${where}: ${what}`));
  ask(pod.hostNetwork !== true && pod.hostPID !== true && pod.hostIPC !== true, 'shares a namespace of its node');
  ask(pod.securityContext?.runAsNonRoot === true, 'may run as root');
  ask((pod.securityContext?.runAsUser ?? 0) > 0, 'has no user of its own');
  ask(pod.securityContext?.seccompProfile?.type === 'RuntimeDefault', 'has no seccomp profile');
  ask(pod.automountServiceAccountToken === false, 'gets a token of the cluster that it has no use for');
  const mounts = [...pod.containers, ...(pod.initContainers ?? [])].flatMap((container) => container.volumeMounts ?? []);
  for (const volume of pod.volumes ?? []) {
    const { hostPath } = volume;
    if (hostPath === undefined) continue;
    const allowed = isAgent ? AGENT.paths.get(hostPath.path) : undefined;
    ask(allowed !== undefined, `reaches ${hostPath.path} of its node`);
    const writes = mounts.some(({ name, readOnly }) => name === volume.name && readOnly !== true);
    ask(!writes || allowed?.readOnly === false, `may write to ${hostPath.path} of its node`);
  }
  for (const container of pod.initContainers ?? []) {
    const handsOver = isAgent && container.name === AGENT.initContainer;
    found.push(...ofContainer(container, `${where}/${container.name}`, handsOver ? [AGENT.capability] : []));
    ask(handsOver || container.securityContext?.runAsUser !== 0, `${container.name} runs as root`);
  }
  for (const container of pod.containers) {
    found.push(...ofContainer(container, `${where}/${container.name}`, []));
    ask(container.securityContext?.runAsUser !== 0 && container.securityContext?.runAsNonRoot !== false, `${container.name} runs as root`);
    ask(container.livenessProbe !== undefined && container.readinessProbe !== undefined, `${container.name} has no probes`);
  }
  return found;
}

function ofContainer(container: Container, where: string, capabilities: readonly string[]): string[] {
  const found: string[] = [];
  const ask = (holds: boolean, what: string) => void (holds || found.push(`${where}: ${what}`));
  const context = container.securityContext;
  const { limits, requests } = container.resources ?? {};
  ask(context?.privileged !== true, 'is privileged');
  ask(context?.allowPrivilegeEscalation === false, 'may gain privileges');
  ask(context?.readOnlyRootFilesystem === true, 'may write to its root');
  ask(context?.capabilities?.drop?.includes('ALL') === true, 'keeps capabilities');
  ask(
    (context?.capabilities?.add ?? []).every((name) => capabilities.includes(name)),
    'adds capabilities',
  );
  ask(/:[^/:]+$/.test(container.image) && !container.image.endsWith(':latest'), `has an image without a version (${container.image})`);
  ask(limits?.cpu !== undefined && limits.memory !== undefined, 'has no limits');
  ask(requests?.cpu !== undefined && requests.memory !== undefined, 'has no requests');
  for (const { mountPath, subPath, subPathExpr } of container.volumeMounts ?? [])
    ask(subPath === undefined && subPathExpr === undefined, `${mountPath} is a subPath, which never changes while the pod runs`);
  return found;
}

function ofNamespaces(manifests: readonly Manifest[]): string[] {
  return manifests
    .filter(({ kind }) => kind === 'Namespace')
    .flatMap(({ metadata: { name, labels = {} } }) => {
      const denied = manifests.some(({ kind, metadata, spec }) => {
        const types = spec?.policyTypes as string[] | undefined;
        const everyPod = JSON.stringify(spec?.podSelector) === '{}';
        return kind === 'NetworkPolicy' && metadata.namespace === name && everyPod && types?.length === 2 && spec?.ingress === undefined;
      });
      const level = labels['pod-security.kubernetes.io/enforce'];
      return [
        ...(denied ? [] : [`Namespace ${name}: no policy denies what is not named`]),
        ...(level === 'restricted' || name === AGENT.namespace ? [] : [`Namespace ${name}: enforces ${level} instead of restricted`]),
      ];
    });
}

/** Services, budgets and policies that select nothing protect nothing. */
function ofSelectors(manifests: readonly Manifest[]): string[] {
  const pods = workloads(manifests);
  return manifests.flatMap(({ kind, metadata, spec }) => {
    if (!['Service', 'PodDisruptionBudget', 'NetworkPolicy'].includes(kind)) return [];
    const selector = (spec?.podSelector ?? spec?.selector) as Selector | { [label: string]: string };
    const labels = isSelector(selector)
      ? (selector.matchLabels ?? {})
      : Object.keys(selector).length === 0 || kind === 'NetworkPolicy'
        ? {}
        : (selector as { [label: string]: string });
    const expressions = isSelector(selector) ? (selector.matchExpressions ?? []) : [];
    const selected = pods.some(
      (pod) =>
        pod.namespace === metadata.namespace &&
        Object.entries(labels).every(([name, value]) => pod.labels[name] === value) &&
        expressions.every(({ key, values }) => values.includes(pod.labels[key] ?? '')),
    );
    return selected ? [] : [`${kind} ${metadata.namespace}/${metadata.name}: selects no pod`];
  });
}

interface Selector {
  matchLabels?: { [label: string]: string };
  matchExpressions?: Array<{ key: string; operator: 'In'; values: string[] }>;
}

function isSelector(selector: object): selector is Selector {
  return 'matchLabels' in selector || 'matchExpressions' in selector;
}
