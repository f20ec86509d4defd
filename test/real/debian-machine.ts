/**
 * A Debian machine of a test's own: a root file system made by debootstrap (once, then copied), booted with systemd-nspawn, with a
 * cable to a network namespace outside. Real systemd or OpenRC, dpkg and apt. Needs root.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findProgram } from '../../scripts/programs.ts';
import { until } from '../until.ts';

const NEEDED = ['debootstrap', 'systemd-nspawn', 'nsenter', 'ip'];

export const hasMachine: boolean = process.getuid?.() === 0 && NEEDED.every((name) => findProgram(name) !== undefined);
export const NEEDS_MACHINE = hasMachine ? '' : ' (skipped: needs root, debootstrap, systemd-nspawn and ip)';

const DIR = fileURLToPath(new URL('../../.ndt/debian', import.meta.url));
const INCLUDE = 'systemd,systemd-sysv,dbus,iproute2';
const run = promisify(execFile);

/** The release that this machine runs, and where its packages come from: apt knows. */
function release(): { codename: string; mirror: string } {
  const codename = /^VERSION_CODENAME=(\w+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? '';
  const format = '$(CODENAME) $(ORIGIN) $(COMPONENT) $(REPO_URI)';
  const lines = execFileSync('apt-get', ['indextargets', '--format', format, 'Created-By: Packages'], { encoding: 'utf8' }).split('\n');
  const mirror = lines
    .map((line) => line.split(' '))
    .find(([name, origin, component]) => name === codename && origin === 'Debian' && component === 'main')?.[3];
  if (mirror === undefined) throw new Error(`apt has no source of Debian ${codename}: apt-get update first`);
  return { codename, mirror };
}

export type Init = 'systemd' | 'openrc';

/** Who starts what on a machine: its program, the name of its process, whether it has got up, and how the machine is switched off. */
const INITS = {
  systemd: {
    command: ['-b'],
    comm: 'systemd',
    state: 'systemctl is-system-running',
    up: /running|degraded/,
    powerOff: 'systemctl poweroff',
  },
  openrc: {
    command: ['/sbin/openrc-init'],
    comm: 'openrc-init',
    state: 'rc-status --runlevel',
    up: /^default$/,
    powerOff: 'openrc-shutdown --poweroff now',
  },
} as const;

/** Makes the root file system when that was not done yet: a minute, and 80 MB from the mirror. */
export async function buildRoot(init: Init = 'systemd'): Promise<string> {
  const { codename, mirror } = release();
  if (init === 'systemd')
    return await builtOnce(codename, (work) => long('debootstrap', '--variant=minbase', `--include=${INCLUDE}`, codename, work, mirror));
  const base = await buildRoot();
  return await builtOnce(`${codename}-${init}`, async (work) => {
    await long('cp', '-a', '--reflink=auto', `${base}/.`, work);
    const install = `apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends ${init}`;
    await long('chroot', work, 'sh', '-c', install);
  });
}

/** A root file system that is there whole or not at all. */
async function builtOnce(name: string, build: (work: string) => Promise<void>): Promise<string> {
  const built = join(DIR, name);
  if (existsSync(built)) return built;
  mkdirSync(DIR, { recursive: true });
  const work = mkdtempSync(join(DIR, 'build-'));
  try {
    await build(work);
    // It is to be the machine's `/`, where every user goes.
    chmodSync(work, 0o755);
    renameSync(work, built);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return built;
}

async function long(command: string, ...args: string[]): Promise<void> {
  await run(command, args, { timeout: 600_000, maxBuffer: 64 * 1024 * 1024 });
}

/** Addresses of the cable's two ends. */
export const INSIDE = '10.213.47.2';
export const OUTSIDE = '10.213.47.1';

export class DebianMachine {
  /** Its root, as seen from here. */
  readonly root: string;
  /** Network namespace at the cable's other end. */
  readonly outside: string;
  private readonly inside: string;
  private readonly init: (typeof INITS)[Init];
  private nspawn: ChildProcess | undefined;
  private leader = 0;
  private said = '';

  private constructor(root: string, init: Init) {
    this.root = root;
    this.init = INITS[init];
    this.inside = `ndt-in-${process.pid}`;
    this.outside = `ndt-out-${process.pid}`;
  }

  static async boot(init: Init = 'systemd'): Promise<DebianMachine> {
    const built = await buildRoot(init);
    const machine = new DebianMachine(join(mkdtempSync(join(tmpdir(), 'ndt-machine-')), 'root'), init);
    try {
      await run('cp', ['-a', '--reflink=auto', built, machine.root]);
      await machine.lay();
      await machine.start();
    } catch (error) {
      await machine.destroy();
      throw error;
    }
    return machine;
  }

  private async lay(): Promise<void> {
    const { inside, outside } = this;
    await ip('netns', 'add', inside);
    await ip('netns', 'add', outside);
    await ip('-n', outside, 'link', 'add', 'cable', 'type', 'veth', 'peer', 'name', 'host0', 'netns', inside);
    for (const [namespace, name, address] of [
      [outside, 'cable', OUTSIDE],
      [inside, 'host0', INSIDE],
    ] as const) {
      await ip('-n', namespace, 'address', 'add', `${address}/24`, 'dev', name);
      await ip('-n', namespace, 'link', 'set', 'lo', 'up');
      await ip('-n', namespace, 'link', 'set', name, 'up');
    }
  }

  private async start(): Promise<void> {
    const args = ['--quiet', '--register=no', '--keep-unit', '--console=pipe', `--network-namespace-path=/run/netns/${this.inside}`];
    this.nspawn = spawn('systemd-nspawn', [...args, '-D', this.root, ...this.init.command], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.nspawn.stdout, this.nspawn.stderr])
      stream?.on('data', (chunk: Buffer) => {
        this.said += chunk.toString();
      });
    try {
      this.leader = await until(() => this.findLeader(), 'the machine’s first process', 60_000);
      await until(async () => this.init.up.test(await this.tries('sh', '-c', this.init.state)), 'the machine to have booted', 120_000);
    } catch (error) {
      throw new Error(`${String(error)}; it says:\n${this.said.slice(-2000)}`, { cause: error });
    }
  }

  /** The child of systemd-nspawn that has become the machine's first process. */
  private findLeader(): number | undefined {
    const pid = this.nspawn?.pid;
    if (pid === undefined || this.nspawn?.exitCode !== null) throw new Error('systemd-nspawn ended');
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
    return children.find(
      (child) => child > 0 && existsSync(`/proc/${child}`) && readFileSync(`/proc/${child}/comm`, 'utf8').trim() === this.init.comm,
    );
  }

  /** Runs a command in it. @returns its output. @throws Error with all that it said where it fails */
  async run(command: string, ...args: string[]): Promise<string> {
    const enter = ['-t', String(this.leader), '-m', '-u', '-i', '-n', '-p', '-C', '--', 'env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin'];
    const env = ['DEBIAN_FRONTEND=noninteractive', 'LC_ALL=C.UTF-8', 'SYSTEMD_COLORS=0', 'HOME=/root'];
    try {
      return (await run('nsenter', [...enter, ...env, command, ...args], { timeout: 120_000, maxBuffer: 64 * 1024 * 1024 })).stdout.trim();
    } catch (error) {
      const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
      const journal = stderr.includes('journalctl') ? await this.run('journalctl', '--no-pager', '-o', 'cat', '-n', '40') : '';
      throw new Error(`${command} ${args.join(' ')} failed: ${stderr}${stdout}${journal}`, { cause: error });
    }
  }

  /** The same, where a failure is an answer as well. */
  async tries(command: string, ...args: string[]): Promise<string> {
    return await this.run(command, ...args).catch((error: unknown) => String(error));
  }

  /** Copies files to its /opt/debs. */
  bring(...files: string[]): void {
    const folder = join(this.root, 'opt/debs');
    mkdirSync(folder, { recursive: true });
    for (const file of files) copyFileSync(file, join(folder, basename(file)));
  }

  /** Unpacks an archive of ours that was brought. @returns the path of its install.sh in the machine */
  async unpack(archive: string): Promise<string> {
    await this.run('tar', '-xzf', `/opt/debs/${basename(archive)}`, '-C', '/opt/debs');
    return `/opt/debs/${basename(archive, '.tar.gz')}/install.sh`;
  }

  /** One property of a unit. */
  async show(unit: string, property: string): Promise<string> {
    return await this.run('systemctl', 'show', '--value', '--property', property, unit);
  }

  /** Cuts the cable, or plugs it in again. */
  async cable(plugged: boolean): Promise<void> {
    await ip('-n', this.outside, 'link', 'set', 'cable', plugged ? 'up' : 'down');
  }

  async destroy(): Promise<void> {
    const { nspawn } = this;
    if (nspawn !== undefined && nspawn.exitCode === null && nspawn.signalCode === null) {
      const ended = new Promise((resolve) => nspawn.once('close', resolve));
      if (this.leader > 0) await this.tries('sh', '-c', this.init.powerOff);
      const late = setTimeout(() => nspawn.kill('SIGKILL'), 30_000);
      await ended;
      clearTimeout(late);
    }
    for (const namespace of [this.inside, this.outside]) await ip('netns', 'delete', namespace).catch(() => {});
    rmSync(join(this.root, '..'), { recursive: true, force: true });
  }
}

async function ip(...args: string[]): Promise<void> {
  await run('ip', args);
}
