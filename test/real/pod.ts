/**
 * Our images, built by buildah out of a Debian that debootstrap made, and containers of them as a kubelet would start them: the root
 * read-only, the volumes, the user, the capabilities and the environment of the manifest, the program as the first process of its own
 * process namespace. What a cluster adds is not there: cgroups, seccomp, and a network of many nodes. Needs root.
 */
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findProgram } from '../../scripts/programs.ts';
import type { Container, PodSpec } from '../kubernetes-policy.ts';
import { Running } from '../programs.ts';
import { until } from '../until.ts';
import { buildRoot, hasMachine } from './debian-machine.ts';

export const hasImages: boolean = hasMachine && ['buildah', 'unshare', 'setpriv'].every((name) => findProgram(name) !== undefined);
export const NEEDS_IMAGES = hasImages ? '' : ' (skipped: needs root, buildah, debootstrap, systemd-nspawn, unshare and ip)';

const DOCKERFILES = fileURLToPath(new URL('../../packaging/docker', import.meta.url));
const run = promisify(execFile);

/** An image unpacked, and what it says of its start. */
export interface Image {
  root: string;
  env: string[];
  entrypoint: string[];
  user: string;
  workingDir: string;
}

/** Images of ours; `remove` deletes them. */
export class Images {
  private readonly dir = mkdtempSync(join(tmpdir(), 'ndt-images-'));

  /** @param dist the binaries of `npm run package`, which is the context of the build. @param arch as in their folder's name */
  async build(name: string, dist: string, arch: string): Promise<Image> {
    const file = join(DOCKERFILES, `${name}.Dockerfile`);
    const base = /^FROM (\S+)$/m.exec(readFileSync(file, 'utf8'))?.[1] ?? '';
    if ((await this.buildah('images', '--quiet', '--filter', `reference=${base}`)) === '') await this.debian(base);
    await this.buildah('build', '--isolation=chroot', '--pull-never', `--build-arg=ARCH=${arch}`, `--file=${file}`, `--tag=${name}`, dist);
    const root = await this.buildah('mount', await this.buildah('from', '--pull-never', `localhost/${name}`));
    const told = JSON.parse(await this.buildah('inspect', '--type=image', name)) as {
      OCIv1: { config: { User: string; Env: string[]; Entrypoint: string[]; WorkingDir: string } };
    };
    const { User: user, Env: env, Entrypoint: entrypoint, WorkingDir: workingDir } = told.OCIv1.config;
    return { root, env, entrypoint, user, workingDir };
  }

  /** Stands for the official image of Debian, which nothing here can fetch: the same packages, and a few more. */
  private async debian(name: string): Promise<void> {
    const container = await this.buildah('from', 'scratch');
    const root = await this.buildah('mount', container);
    await run('cp', ['-a', '--reflink=auto', `${await buildRoot()}/.`, root]);
    await this.buildah('commit', '--rm', container, name);
  }

  private async buildah(...args: string[]): Promise<string> {
    const storage = ['--root', join(this.dir, 'storage'), '--runroot', join(this.dir, 'run'), '--storage-driver', 'vfs'];
    return (await run('buildah', [...storage, ...args], { timeout: 300_000, maxBuffer: 64 * 1024 * 1024 })).stdout.trim();
  }

  async remove(): Promise<void> {
    await this.buildah('rm', '--all');
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** A folder as the kubelet mounts a ConfigMap: files that are links through one link, which a change turns over. */
export class MountedFiles {
  readonly path: string;
  private version = 0;

  constructor(path: string, files: { [name: string]: string }) {
    this.path = path;
    mkdirSync(path, { recursive: true });
    chmodSync(path, 0o755);
    this.put(files);
    for (const name of Object.keys(files)) symlinkSync(`..data/${name}`, join(path, name));
  }

  put(files: { [name: string]: string }): void {
    this.version += 1;
    const version = `..v${this.version}`;
    mkdirSync(join(this.path, version));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(this.path, version, name), text, { mode: 0o644 });
    symlinkSync(version, join(this.path, '..next'));
    renameSync(join(this.path, '..next'), join(this.path, '..data'));
  }
}

export interface PodOptions {
  pod: PodSpec;
  image: Image;
  /** A network namespace, which stands for the cluster's network. */
  network: string;
  /** What stands for each volume, by its name; one without is an empty folder in memory, as an `emptyDir` is. */
  volumes: { [name: string]: string };
  /** Of this machine and the services, as the cluster's name server has them. */
  hosts: string;
  nodeName: string;
  /** A folder of the pod's own. */
  dir: string;
}

/** The pod's containers of before, each to its end, and then its program, running. */
export async function startPod(options: PodOptions): Promise<Running> {
  for (const each of options.pod.initContainers ?? []) {
    const before = container(options, each);
    const { code, signal } = await before.exited;
    if (code !== 0) throw new Error(`the container ${each.name} ended (${code ?? signal}): ${before.log}`);
  }
  const [first] = options.pod.containers;
  if (first === undefined) throw new Error('the pod has no container');
  return container(options, first);
}

/** The program of a container, which is the first process of its namespace; the one that was started outside watches it. */
export async function firstProcess({ child, pid }: Running): Promise<number> {
  const children = () => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return Number(await until(() => child.exitCode === null && children() !== '' && children(), 'the container’s first process'));
}

function container({ pod, image, network, volumes, hosts, nodeName, dir }: PodOptions, each: Container): Running {
  const security = { ...pod.securityContext, ...each.securityContext };
  const mounts = (each.volumeMounts ?? []).map(({ name, mountPath, readOnly }) => ({ from: volumes[name], to: mountPath, readOnly }));
  // As a runtime makes them, before the root is closed.
  for (const to of ['/proc', '/dev', ...mounts.map((mount) => mount.to)]) mkdirSync(join(image.root, to), { recursive: true });
  writeFileSync(join(dir, 'hosts'), hosts);
  const [uid = '0', gid = '0'] = image.user.split(':');
  const capabilities = ['-all', ...(security.capabilities?.add ?? []).map((name) => `+${name.toLowerCase()}`)].join(',');
  const user = [`--reuid=${security.runAsUser ?? uid}`, `--regid=${security.runAsGroup ?? gid}`];
  user.push(pod.securityContext?.fsGroup === undefined ? '--clear-groups' : `--groups=${pod.securityContext.fsGroup}`);
  const variables = new Map(image.env.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]));
  // The node's name is the only field that our manifests refer to.
  for (const { name, value } of each.env ?? [])
    variables.set(name, value === undefined ? nodeName : value.replaceAll('$(NODE_NAME)', nodeName));
  const script = `
    mount --make-rprivate /
    mount --bind "$ROOT" "$ROOT"
    mount -t proc proc "$ROOT/proc"
    mount -t tmpfs -o mode=0755 tmpfs "$ROOT/dev"
    for device in null zero full random urandom; do touch "$ROOT/dev/$device"; mount --bind /dev/$device "$ROOT/dev/$device"; done
    mount --bind "$HOSTS" "$ROOT/etc/hosts"
    ${mounts
      .map(({ from, to, readOnly }) =>
        from === undefined
          ? `mount -t tmpfs -o mode=0777 tmpfs "$ROOT${to}"`
          : `mount --bind "${from}" "$ROOT${to}"; ${readOnly === true ? `mount -o remount,bind,ro "$ROOT${to}"` : ''}`,
      )
      .join('\n')}
    ${security.readOnlyRootFilesystem === true ? 'mount -o remount,bind,ro "$ROOT"' : ''}
    cd "$ROOT"
    exec chroot . setpriv ${user.join(' ')} --bounding-set=${capabilities} --inh-caps=-all \
      ${security.allowPrivilegeEscalation === false ? '--no-new-privs' : ''} env -i --chdir=${image.workingDir} "$@"`;
  const command = each.command ?? image.entrypoint;
  const environment = [...variables].map(([name, value]) => `${name}=${value}`);
  return new Running(
    {
      command: ['ip', 'netns', 'exec', network, 'unshare', '--mount', '--pid', '--fork', '--kill-child', 'sh', '-euc', script, 'sh'],
      env: { PATH: process.env.PATH, ROOT: image.root, HOSTS: join(dir, 'hosts') },
    },
    [...environment, ...command, ...(each.args ?? [])],
  );
}

/** What a program in the cluster's network answers, asked from within it. */
export function ask(network: string, url: string, token = ''): { status: number; body: string } {
  const script = `
    const response = await fetch(process.argv[1], { headers: process.argv[2] === '' ? {} : { authorization: 'Bearer ' + process.argv[2] } })
      .catch((error) => ({ status: 0, text: () => String(error.cause ?? error) }));
    console.log(JSON.stringify({ status: response.status, body: await response.text() }));`;
  const args = ['netns', 'exec', network, process.execPath, '--input-type=module', '--eval', script, url, token];
  return JSON.parse(execFileSync('ip', args, { encoding: 'utf8' })) as { status: number; body: string };
}
