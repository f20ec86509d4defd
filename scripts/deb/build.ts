/** Debian packages and archives out of the binaries, with the same bytes each time: times come from SOURCE_DATE_EPOCH, owners are root. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { codeOf, messageOf, NdtError } from '../../common/errors.ts';
import { type Architecture, PACKAGED, type ProgramName } from '../package/programs.ts';
import { archiveFiles, configPath, debianFiles, type Installed, template } from './layout.ts';

export interface PackageBuild {
  /** The project's folder. */
  root: string;
  name: ProgramName;
  arch: Architecture;
  version: string;
  /** The program, as `npm run package` made it. */
  binary: string;
  /** Its licences, the file of `npm run package`. */
  licences: string;
  /** Folder of the result. */
  output: string;
  /** Unix seconds: nothing in the package is younger. */
  epoch: number;
  /** xz is a third smaller and takes ten times as long. */
  compression?: 'xz' | 'gzip';
}

const DEBIAN_ARCH = { x64: 'amd64', arm64: 'arm64' } as const;
const MAINTAINER = 'ndt maintainers <maintainers@ndt.invalid>';
const SYNOPSIS = {
  'ndt-agent': 'network telemetry of a router that loses no sample',
  'ndt-aggregator': 'collector of network telemetry with history, inference and a page',
} as const satisfies { [name in ProgramName]: string };
const SCRIPTS = ['postinst', 'prerm', 'postrm'] as const;
/** What the binary and its addon ask of the C library, and Node of C++'s. */
const DEPENDS = 'libc6 (>= 2.34), libgcc-s1 (>= 3.4), libstdc++6 (>= 5.2), passwd';

const run = promisify(execFile);

/** @returns the package's path. @throws NdtError UNAVAILABLE where dpkg-deb is missing, DATA where it refuses */
export async function makeDeb(build: PackageBuild): Promise<string> {
  const { root, name, arch, version, output, epoch } = build;
  const tree = mkdtempSync(join(tmpdir(), 'ndt-deb-'));
  try {
    for (const file of debianFiles(root, name)) put(tree, file);
    mkdirSync(join(tree, 'usr/bin'), { recursive: true });
    copyFileSync(build.binary, join(tree, 'usr/bin', name));
    chmodSync(join(tree, 'usr/bin', name), 0o755);
    for (const link of PACKAGED[name].links) symlinkSync(name, join(tree, 'usr/bin', link));
    const credentials = join(tree, 'etc/ndt/credentials', name.replace(/^ndt-/, ''));
    mkdirSync(credentials, { recursive: true });
    const documents = join(tree, 'usr/share/doc', name);
    writeFileSync(join(documents, 'copyright'), COPYRIGHT);
    writeFileSync(join(documents, 'licences.txt.gz'), gzipSync(readFileSync(build.licences), { level: 9 }));
    writeFileSync(join(documents, 'changelog.gz'), gzipSync(changelog(name, version, epoch), { level: 9 }));

    const control = join(tree, 'DEBIAN');
    mkdirSync(control);
    normalise(tree);
    chmodSync(credentials, 0o700);
    writeFileSync(join(control, 'control'), controlOf(build, installedKiB(tree)));
    writeFileSync(join(control, 'conffiles'), `/${configPath(name)}\n`);
    writeFileSync(join(control, 'md5sums'), sums(tree));
    for (const script of SCRIPTS) put(control, { path: script, mode: 0o755, content: template(root, name, `debian/${script}`) });

    mkdirSync(output, { recursive: true });
    const file = join(output, `${name}_${debianVersion(version)}_${DEBIAN_ARCH[arch]}.deb`);
    await tool('dpkg-deb', ['--root-owner-group', `-Z${build.compression ?? 'xz'}`, '--build', tree, file], epoch);
    return file;
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}

/** The archive for machines without dpkg: the binary, install.sh, and what that installs. @returns its path */
export async function makeArchive(build: PackageBuild): Promise<string> {
  const { root, name, arch, version, output, epoch, compression = 'xz' } = build;
  const work = mkdtempSync(join(tmpdir(), 'ndt-archive-'));
  try {
    const folder = `${name}-${version}-linux-${arch}`;
    const tree = join(work, folder);
    for (const file of archiveFiles(root, name)) put(tree, file);
    copyFileSync(build.binary, join(tree, name));
    copyFileSync(build.licences, join(tree, 'licences.txt'));
    normalise(tree);
    for (const file of [
      name,
      ...archiveFiles(root, name)
        .filter(({ mode }) => mode === 0o755)
        .map(({ path }) => path),
    ])
      chmodSync(join(tree, file), 0o755);
    mkdirSync(output, { recursive: true });
    const file = join(output, `${folder}.tar.${compression === 'xz' ? 'xz' : 'gz'}`);
    const plain = join(work, 'plain.tar');
    const owners = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--format=ustar', `--mtime=@${epoch}`];
    await tool('tar', [...owners, '-cf', plain, '-C', work, folder], epoch);
    // One thread: more of them cut the input in pieces, and give other bytes.
    await tool(compression, compression === 'xz' ? ['-6', '--threads=1', plain] : ['-n', '-6', plain], epoch);
    rmSync(file, { force: true });
    copyFileSync(`${plain}.${compression === 'xz' ? 'xz' : 'gz'}`, file);
    return file;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const COPYRIGHT = `Copyright 2026 the authors of ndt

ndt is licensed under the Apache License, Version 2.0; on Debian systems its text is in /usr/share/common-licenses/Apache-2.0.
What the program holds of others, each part with its licence, is listed in licences.txt.gz in this folder.
`;

function controlOf({ name, arch, version }: PackageBuild, installed: number): string {
  return `Package: ${name}
Version: ${debianVersion(version)}
Architecture: ${DEBIAN_ARCH[arch]}
Maintainer: ${MAINTAINER}
Installed-Size: ${installed}
Depends: ${DEPENDS}
Recommends: systemd
Breaks: systemd (<< 250)
Section: net
Priority: optional
Description: ${SYNOPSIS[name]}
${wrapped(`${PACKAGED[name].summary.replace(/^[^:]*: /, '')}. One program without further dependencies, run by systemd as a user of its own and with no privileges. Its configuration is /${configPath(name)}.`)}
`;
}

/** A description's lines begin with a blank. ASCII: terminals of routers show little else. */
function wrapped(text: string): string {
  const lines: string[] = [''];
  for (const word of text.replaceAll('’', "'").split(' ')) {
    if ((lines.at(-1) ?? '').length + word.length > 76) lines.push('');
    lines[lines.length - 1] += ` ${word}`;
  }
  return lines.join('\n');
}

function changelog(name: string, version: string, epoch: number): string {
  const date = new Date(epoch * 1000).toUTCString().replace('GMT', '+0000');
  return `${name} (${debianVersion(version)}) unstable; urgency=medium\n\n  * Release ${version}: CHANGELOG.md of the project has what is new.\n\n -- ${MAINTAINER}  ${date}\n`;
}

function put(tree: string, { path, mode, content }: Installed): void {
  const file = join(tree, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  chmodSync(file, mode);
}

/** Modes that do not depend on the umask of who builds. */
function normalise(tree: string): void {
  chmodSync(tree, 0o755);
  for (const path of below(tree)) {
    const info = lstatSync(path);
    if (!info.isSymbolicLink()) chmodSync(path, info.isDirectory() || (info.mode & 0o100) !== 0 ? 0o755 : 0o644);
  }
}

function below(tree: string): string[] {
  return readdirSync(tree, { recursive: true, encoding: 'utf8' })
    .map((name) => join(tree, name))
    .sort();
}

function installedKiB(tree: string): number {
  const files = below(tree).filter((path) => lstatSync(path).isFile());
  return files.reduce((sum, path) => sum + Math.ceil(statSync(path).size / 1024), 0);
}

/** As debsums reads them: everything but what a person may change. */
function sums(tree: string): string {
  const digest = (path: string) => createHash('md5').update(readFileSync(path)).digest('hex');
  return below(tree)
    .filter((path) => lstatSync(path).isFile() && !/^(etc|DEBIAN)\//.test(relative(tree, path)))
    .map((path) => `${digest(path)}  ${relative(tree, path)}\n`)
    .join('');
}

async function tool(command: string, args: string[], epoch: number): Promise<void> {
  const env = { ...process.env, SOURCE_DATE_EPOCH: String(epoch), DPKG_DEB_THREADS_MAX: '1', LC_ALL: 'C.UTF-8', TZ: 'UTC' };
  try {
    await run(command, args, { env, maxBuffer: 16 * 1024 * 1024 });
  } catch (error) {
    if (codeOf(error) === 'ENOENT')
      throw new NdtError(
        'UNAVAILABLE',
        `there is no ${command} on this machine: install it (Debian's packages dpkg, tar, xz-utils, gzip have them)`,
      );
    const said = error instanceof Error && 'stderr' in error && error.stderr !== '' ? String(error.stderr).trim() : messageOf(error);
    throw new NdtError('DATA', `${command} failed: ${said}`);
  }
}

/** The binary and licences of a program in the folder of `npm run package`. @throws NdtError CONFIG where they are not there */
export function built(dist: string, name: ProgramName, arch: Architecture): Pick<PackageBuild, 'binary' | 'licences'> {
  const files = { binary: join(dist, `linux-${arch}`, name), licences: join(dist, `${name}.licences.txt`) };
  for (const file of Object.values(files))
    if (!existsSync(file))
      throw new NdtError('CONFIG', `there is no ${file}: make it first, with npm run package -- --arch ${arch} --program ${name}`);
  return files;
}

/** A release comes after its candidates: 0.2.0~rc.1 is before 0.2.0, 0.2.0-rc.1 would be behind it. */
export function debianVersion(version: string): string {
  return version.replace('-', '~');
}
