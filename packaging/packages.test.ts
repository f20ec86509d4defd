/** The packages around the binary: what they hold, that they come out the same, and what install.sh does to a machine. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { loadConfig } from '../common/config.ts';
import pkg from '../package.json' with { type: 'json' };
import { debianVersion, makeArchive, makeDeb, type PackageBuild } from '../scripts/deb/build.ts';
import { PROGRAMS, type ProgramName } from '../scripts/package/programs.ts';
import { findProgram } from '../scripts/programs.ts';
import { tempDir } from '../test/tempdir.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const hasDpkg = findProgram('dpkg-deb') !== undefined;
const NEEDS_DPKG = hasDpkg ? '' : ' (skipped: needs dpkg-deb)';
const SHELLCHECK = findProgram('shellcheck');

/** What is packaged here says its version and nothing else: these tests are about everything around it. */
function build(name: ProgramName): PackageBuild {
  const dir = tempDir();
  const binary = join(dir, name);
  writeFileSync(binary, `#!/bin/sh\necho ${name} ${pkg.version}\n`, { mode: 0o755 });
  const licences = join(dir, 'licences.txt');
  writeFileSync(licences, 'nobody’s\n');
  return {
    root,
    name,
    arch: 'x64',
    version: pkg.version,
    binary,
    licences,
    output: join(dir, 'out'),
    epoch: 1_760_000_000,
    compression: 'gzip',
  };
}

for (const name of PROGRAMS) {
  const program = name.replace(/^ndt-/, '');

  test.skipIf(!hasDpkg)(
    `${name}: a Debian package with its configuration as a conffile, its own user, and secrets for root alone${NEEDS_DPKG}`,
    async () => {
      const deb = await makeDeb(build(name));
      expect(basename(deb)).toBe(`${name}_${pkg.version}_amd64.deb`);
      const field = (field: string) => execFileSync('dpkg-deb', ['--field', deb, field], { encoding: 'utf8' }).trim();
      expect([field('Package'), field('Version'), field('Architecture')]).toEqual([name, pkg.version, 'amd64']);
      const out = tempDir();
      execFileSync('dpkg-deb', ['--raw-extract', deb, join(out, 'tree')]);
      expect(readFileSync(join(out, 'tree/DEBIAN/conffiles'), 'utf8')).toBe(`/etc/ndt/${program}.json\n`);
      const listed = execFileSync('dpkg-deb', ['--contents', deb], { encoding: 'utf8' });
      expect(listed).toMatch(new RegExp(`^drwx------ root/root .* ./etc/ndt/credentials/${program}/$`, 'm'));
      expect(listed).toMatch(new RegExp(`^-rwxr-xr-x root/root .* ./usr/bin/${name}$`, 'm'));
      expect(listed.includes('usr/bin/ndt-ml -> ndt-aggregator')).toBe(name === 'ndt-aggregator');
      const scripts = ['postinst', 'prerm', 'postrm'].map((script) => readFileSync(join(out, 'tree/DEBIAN', script), 'utf8'));
      for (const script of scripts) expect(script).not.toMatch(/@[A-Z]+@/);
      execFileSync('md5sum', ['--check', '--strict', '--quiet', 'DEBIAN/md5sums'], { cwd: join(out, 'tree') });
    },
  );

  test.skipIf(!hasDpkg)(`${name}: packages come out the same, whenever and under whatever umask they are made${NEEDS_DPKG}`, async () => {
    const one = build(name);
    const files = [await makeDeb(one), await makeArchive(one)].map((file) => readFileSync(file));
    const umask = process.umask(0o077);
    try {
      const again = { ...one, output: `${one.output}-again` };
      expect((await makeDeb(again)).length).toBeGreaterThan(0);
      expect(readFileSync(await makeDeb(again)).equals(files[0]!)).toBe(true);
      expect(readFileSync(await makeArchive(again)).equals(files[1]!)).toBe(true);
    } finally {
      process.umask(umask);
    }
  });

  test(`${name}: the configuration that ships is taken without a warning`, () => {
    const { config, warnings, routers } = loadConfig(join(root, `packaging/${program}.json`), {});
    expect(warnings).toEqual([]);
    expect(config.data_dir).toBe(`/var/lib/${name}`);
    expect(routers.length).toBe(name === 'ndt-agent' ? 1 : 0);
  });

  for (const [init, service] of [
    ['systemd', `etc/systemd/system/${name}.service`],
    ['openrc', `etc/init.d/${name}`],
    ['procd', `etc/init.d/${name}`],
    ['none', undefined],
  ] as const)
    test(`${name}: install.sh installs for ${init}, upgrades, and goes without a trace`, async () => {
      const install = await unpacked(name);
      const machine = tempDir();
      const run = (...args: string[]) => {
        const { status, stdout, stderr } = spawnSync('sh', [install, '--root', machine, '--init', init, ...args], { encoding: 'utf8' });
        expect(status, `${stdout}${stderr}`).toBe(0);
      };
      run('--prefix', '/opt/ndt');
      expect(execFileSync(join(machine, 'opt/ndt/bin', name), ['--version'], { encoding: 'utf8' })).toContain(pkg.version);
      if (service !== undefined) {
        const text = readFileSync(join(machine, service), 'utf8');
        expect(text).toContain(`/opt/ndt/bin/${name}`);
        expect(text).not.toContain(`/usr/bin/${name}`);
        expect(text).not.toMatch(/@[A-Z]+@/);
        if (init !== 'systemd') expect(spawnSync('sh', ['-n', join(machine, service)]).status).toBe(0);
      }
      const config = join(machine, `etc/ndt/${program}.json`);
      expect(existsSync(config)).toBe(true);
      writeFileSync(config, '{ "mine": true }');
      mkdirSync(join(machine, 'var/lib', name), { recursive: true });
      writeFileSync(join(machine, 'var/lib', name, 'kept'), 'records');
      // The service's file says where the program is; without one it has to be said again.
      const prefix = service === undefined ? ['--prefix', '/opt/ndt'] : [];
      run(...prefix);
      expect(readFileSync(config, 'utf8')).toBe('{ "mine": true }');
      expect(existsSync(join(machine, 'usr/local'))).toBe(false);

      run(...prefix, '--uninstall');
      expect(files(machine)).toEqual([`etc/ndt/${program}.json`, `var/lib/${name}/kept`]);
      run(...prefix, '--purge');
      expect(files(machine)).toEqual([]);
    });
}

test('install.sh refuses what it does not understand, before it changes anything', async () => {
  const install = await unpacked('ndt-agent');
  const machine = tempDir();
  for (const args of [['--nonsense'], ['--init', 'upstart'], ['--prefix', 'relative'], ['--prefix', '/a|b'], ['--root']]) {
    const { status, stderr } = spawnSync('sh', [install, '--root', machine, ...args], { encoding: 'utf8' });
    expect(status, stderr).toBe(64);
  }
  expect(readdirSync(machine)).toEqual([]);
});

test('install.sh makes folders that the service can enter, whatever root’s umask is', async () => {
  const install = await unpacked('ndt-agent');
  const machine = tempDir();
  const { status, stderr } = spawnSync('sh', ['-c', 'umask 077; sh "$0" --root "$1" --init none', install, machine], { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  const modes = ['etc/ndt', 'usr/local/bin', 'etc/ndt/agent.json'].map((path) => (statSync(join(machine, path)).mode & 0o777).toString(8));
  expect(modes).toEqual(['755', '755', '644']);
});

test('install.sh leaves no half of a file behind where one cannot be written', async () => {
  const install = await unpacked('ndt-agent');
  const machine = tempDir();
  // Files of more than 512 bytes cannot be written, as on a disk that is full.
  const command = 'ulimit -f 1; sh "$0" --root "$1" --init systemd';
  const { status } = spawnSync('sh', ['-c', command, install, machine], { encoding: 'utf8' });
  expect(status).not.toBe(0);
  expect(files(machine)).toEqual(['etc/ndt/agent.json', 'usr/local/bin/ndt-agent']);
});

test('install.sh stays inside the other machine’s file system, whatever its links say', async () => {
  const install = await unpacked('ndt-agent');
  const [machine, ours] = [tempDir(), tempDir()];
  mkdirSync(join(ours, 'lib/ndt-agent'), { recursive: true });
  writeFileSync(join(ours, 'lib/ndt-agent/kept'), 'records');
  symlinkSync(ours, join(machine, 'var'));
  const { status, stderr } = spawnSync('sh', [install, '--root', machine, '--init', 'none', '--purge'], { encoding: 'utf8' });
  expect([status, stderr]).toEqual([64, expect.stringContaining('leads out of')]);
  expect(files(ours)).toEqual(['lib/ndt-agent/kept']);
});

test.skipIf(!hasDpkg)(`npm run deb makes a package and an archive of each binary that is there, with checksums of all${NEEDS_DPKG}`, () => {
  const dist = tempDir();
  const deb = (...args: string[]) =>
    spawnSync(process.execPath, [join(root, 'scripts/ndt.mjs'), 'deb', '--output', dist, ...args], {
      encoding: 'utf8',
      env: { ...process.env, SOURCE_DATE_EPOCH: '1760000000' },
    });
  const missing = deb('--arch', 'x64', '--program', 'ndt-agent');
  expect(missing.status).not.toBe(0);
  expect(missing.stderr).toMatch(/npm run package/);
  expect(deb('--arch', 'mips')).toMatchObject({ status: 64, stderr: expect.stringContaining('--arch mips: expected x64 or arm64') });

  mkdirSync(join(dist, 'linux-x64'));
  writeFileSync(join(dist, 'linux-x64/ndt-agent'), `#!/bin/sh\necho ndt-agent ${pkg.version}\n`, { mode: 0o755 });
  writeFileSync(join(dist, 'ndt-agent.licences.txt'), 'nobody’s\n');
  writeFileSync(join(dist, 'notes.txt'), 'no part of a release\n');
  const { status, stderr, stdout } = deb('--arch', 'x64', '--program', 'ndt-agent');
  expect(status, stderr).toBe(0);
  expect(stdout).toContain(`checksums in ${join(dist, 'SHA256SUMS')}`);
  expect(execFileSync('sha256sum', ['--check', '--strict', 'SHA256SUMS'], { cwd: dist, encoding: 'utf8' }).trim().split('\n')).toEqual([
    'linux-x64/ndt-agent: OK',
    `ndt-agent-${pkg.version}-linux-x64.tar.xz: OK`,
    'ndt-agent.licences.txt: OK',
    `ndt-agent_${pkg.version}_amd64.deb: OK`,
  ]);
});

test('a release comes after its candidates', () => {
  expect(debianVersion('0.2.0-rc.1')).toBe('0.2.0~rc.1');
  expect(debianVersion('0.2.0')).toBe('0.2.0');
});

test.skipIf(SHELLCHECK === undefined)(`shell scripts are clean${SHELLCHECK === undefined ? ' (skipped: needs shellcheck)' : ''}`, () => {
  const scripts = [
    'packaging/install.sh',
    ...['postinst', 'prerm', 'postrm'].map((name) => `packaging/debian/${name}`),
    'k8s/deploy.sh',
    'k8s/delete.sh',
  ];
  const { status, stdout } = spawnSync(SHELLCHECK ?? '', ['--shell=sh', ...scripts], { cwd: root, encoding: 'utf8' });
  expect(status, stdout).toBe(0);
});

for (const name of PROGRAMS)
  test(`${name}: the image runs as a user of its own, from a base with a version`, () => {
    const lines = readFileSync(join(root, `packaging/docker/${name}.Dockerfile`), 'utf8').split('\n');
    const of = (instruction: string) =>
      lines.filter((line) => line.startsWith(`${instruction} `)).map((line) => line.slice(instruction.length + 1));
    expect(of('FROM')).toHaveLength(1);
    expect(of('FROM')[0]).toMatch(/^[a-z]+:[0-9a-z.-]*[0-9][0-9a-z.-]*$/);
    expect(of('USER')).toEqual(['65532:65532']);
    expect(of('ENTRYPOINT')).toEqual([`["/usr/bin/${name}"]`]);
    expect(of('ADD')).toEqual([]);
  });

async function unpacked(name: ProgramName): Promise<string> {
  const archive = await makeArchive(build(name));
  const dir = tempDir();
  execFileSync('tar', ['-xzf', archive, '-C', dir]);
  return join(dir, `${name}-${pkg.version}-linux-x64`, 'install.sh');
}

/** Files below a folder; folders themselves may stay where they are not ours alone. */
function files(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1))
    .sort();
}
