import { readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { alone, buildPackage, CONFINED, canConfine, canPackage, confined, RUNTIME } from '../package.ts';
import { ROUTER, runBinary, walk } from '../package-walk.ts';
import { Pair, Running, runOnce } from '../programs.ts';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

describe.skipIf(!canPackage)('the binaries of this machine (made on Linux with glibc)', () => {
  let dist = '';
  const binary = (name: string) => join(dist, `linux-${process.arch}`, name);

  beforeAll(() => {
    dist = buildPackage(['--arch', process.arch]);
    return () => rmSync(dist, { recursive: true, force: true });
  }, 300_000);

  it('need no environment, and answer to each of their names', () => {
    expect(readlinkSync(binary('ndt-ml'))).toBe('ndt-aggregator');
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    for (const name of ['ndt-agent', 'ndt-aggregator', 'ndt-ml']) {
      expect(runBinary(binary(name), ['--version'], { cwd: '/' })).toEqual({ status: 0, stdout: `${name} ${version}\n`, stderr: '' });
    }
  });

  it('do the same as the sources', () => {
    const input = readFileSync(join(root, 'test/fixtures/records/seed-processed.json'), 'utf8').replaceAll('\n', '');
    const timeless = (text: string) => text.replace(/"ml_timestamp":"[\d.]+"/, '');
    const inferred = runBinary(binary('ndt-ml'), ['infer'], { input });
    expect(inferred.status, inferred.stderr).toBe(0);
    expect(inferred.stdout).toContain('output_ml_metrics');
    expect(timeless(inferred.stdout)).toBe(timeless(runOnce('ml', ['infer'], { input }).stdout));
    const refused = ['run', '--config', '/nowhere.json'];
    expect(runBinary(binary('ndt-agent'), refused)).toEqual(runOnce('agent', refused));
  });

  it('tell what this machine is made of, also where there is no environment, no shell and no command (needs root for the latter)', async () => {
    const wanted = { os: { kernel: release(), arch: process.arch }, memory: { total_bytes: totalmem() }, cpu: { cores: cpus().length } };
    const told = runBinary(binary('ndt-agent'), ['inventory'], { cwd: '/' });
    expect({ ...told, stdout: '' }).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(JSON.parse(told.stdout)).toMatchObject(wanted);
    // Again where an interface has come or gone in between, as those of other tests do.
    const same = () => runBinary(binary('ndt-agent'), ['inventory'], { cwd: '/' }).stdout === runOnce('agent', ['inventory']).stdout;
    await until(same, 'binary and sources to tell the same');
    if (!canConfine) return;
    const bare = runBinary(alone(tempDir(), binary('ndt-agent')), ['inventory']);
    expect(bare.status, bare.stderr).toBe(0);
    expect(JSON.parse(bare.stdout)).toMatchObject({ ...wanted, system: { model: null }, os: { distribution: null } });
  });

  it('hold no path of the machine that made them', () => {
    for (const name of ['ndt-agent', 'ndt-aggregator']) expect(readFileSync(binary(name)).includes(root)).toBe(false);
  });

  it.skipIf(!canConfine)(
    'carry records from a counter to an inference as an ordinary user, with a read-only HOME and no execution from /tmp (needs root)',
    async () => {
      const own = tempDir();
      const pair = await Pair.make(own, ROUTER);
      onTestFinished(() => pair.stop());
      pair.seenConfig = `${CONFINED}/own/ndt.json`;
      for (const name of ['agent', 'aggregator'] as const) pair.origin[name] = confined(binary('.'), own, `ndt-${name}`);
      await walk(pair);
      const known = async () => (await pair.get<{ inventory: object | null }>('/api/v1/routers/r1')).inventory ?? undefined;
      expect(await until(known, 'the inventory')).toMatchObject({ agent: 'edge', os: { kernel: release() } });
      expect(await (await fetch(pair.url)).text()).toContain('<title>ndt</title>');
      for (const file of ['page.js', 'page.css', 'favicon.svg', 'uplot.js', 'uplot.css'])
        expect((await fetch(`${pair.url}/${file}`)).status, file).toBe(200);
      // Of the addon, which came out of the binary, nothing stays behind.
      expect(readdirSync(own, { recursive: true, encoding: 'utf8' }).filter((file) => /\.ndt-|\.node$/.test(file))).toEqual([]);
    },
    120_000,
  );

  it.skipIf(!canConfine)(
    'say in a sentence that there is no folder for their addon, and take the one that is named (needs root)',
    async () => {
      const own = tempDir();
      const pair = await Pair.make(own, ROUTER);
      const command = ['run', '--config', `${CONFINED}/own/ndt.json`];
      const refused = runBinary(confined(binary('.'), own, 'ndt-aggregator', { noexec: true }), command);
      expect(refused.status).toBe(73);
      expect(refused.stderr).toMatch(
        /^ndt-aggregator: no folder can be written to and allows execution, tried \/run .*: set NDT_RUNTIME_DIR to one that does\n$/,
      );
      const running = new Running(
        confined(binary('.'), own, 'ndt-aggregator', { noexec: true, env: `NDT_RUNTIME_DIR=${RUNTIME}` }),
        command,
      );
      onTestFinished(async () => void (await running.stop()));
      await running.says('aggregator runs');
      expect((await fetch(`${pair.url}/readyz`)).status).toBe(200);
    },
  );

  it.skipIf(!canConfine)('need the C and C++ libraries and nothing else (needs root)', () => {
    const dir = tempDir();
    const agent = alone(dir, binary('ndt-agent'));
    writeFileSync(join(dir, 'data/ndt.json'), JSON.stringify(ROUTER));
    const { status, stdout, stderr } = runBinary(agent, ['once', '--config', '/data/ndt.json']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({ node_exporter: 'r1:9100' });
  });
});
