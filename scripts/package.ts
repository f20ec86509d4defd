/**
 * `npm run package`: the programs as single files for Linux, with checksums, a bill of materials and licences, in `dist/`.
 *
 * Everything comes from the npm registry and is pinned; the same sources give the same bytes, in whatever folder and on whatever
 * machine they are built.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Args, main, textOption, VERSION } from '../common/cli.ts';
import { EXIT, NdtError } from '../common/errors.ts';
import { type Build, layOutBase, makeBinary } from './package/binary.ts';
import { type Bundle, bundle } from './package/bundle.ts';
import { componentsOf } from './package/components.ts';
import { chosenFor, FOR_OPTIONS, writeChecksums } from './package/options.ts';
import { ARCHITECTURES, type Architecture, PACKAGED, type ProgramName } from './package/programs.ts';
import { cycloneDx, licenceTexts } from './package/sbom.ts';
import { SetupError } from './setup/error.mjs';
import { bringNode, hasGlibc } from './setup/node.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

async function run(args: Args): Promise<number> {
  const { architectures, programs } = chosenFor(args);
  const output = resolve(textOption(args, 'output') ?? join(root, 'dist'));
  const build = await prepare(architectures);
  try {
    for (const arch of architectures) layOutBase(build, arch);
    for (const name of programs) {
      const script = await bundle(root, PACKAGED[name].entry, join(build.work, name));
      for (const arch of architectures) await make(build, name, script, arch, output);
      describe(build, name, script, output);
    }
    say(`checksums in ${writeChecksums(output)}`);
  } finally {
    rmSync(build.work, { recursive: true, force: true });
  }
  return EXIT.ok;
}

/** Brings Node for every architecture, and for this machine: it makes what the others read. */
async function prepare(architectures: readonly Architecture[]): Promise<Build> {
  const own = ARCHITECTURES.find((arch) => arch === process.arch);
  if (process.platform !== 'linux' || own === undefined || !hasGlibc()) {
    throw new NdtError(
      'UNAVAILABLE',
      `the binaries can be made on Linux with glibc on ${ARCHITECTURES.join(' or ')} (this is ${process.platform} ${process.arch}): run this there, or in a container`,
    );
  }
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Parameters<typeof bringNode>[1];
  const { version } = manifest.ndt.node;
  const homes = new Map<Architecture, string>();
  for (const arch of new Set([...architectures, own])) {
    const unavailable = (reason: string) =>
      new SetupError(
        EXIT.unavailable,
        `Node.js ${version} for linux-${arch} could not be brought from the npm registry (${reason}): mend that and run the command again`,
      );
    const progress = `bringing Node.js ${version} for linux-${arch}`;
    try {
      homes.set(arch, await bringNode(root, manifest, `linux-${arch}`, { progress, unavailable }));
    } catch (error) {
      throw error instanceof SetupError ? new NdtError('UNAVAILABLE', error.message) : error;
    }
  }
  const nodeHome = (arch: Architecture) => homes.get(arch) ?? '';
  return { root, work: workFolder(), version, nodeHome, ownNode: join(nodeHome(own), 'bin/node') };
}

/** A folder of this process, beside those of others. What killed ones left behind goes away. */
function workFolder(): string {
  const state = join(root, '.ndt');
  for (const name of readdirSync(state)) {
    const pid = /^package-(\d+)$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(state, name), { recursive: true, force: true });
  }
  const work = join(state, `package-${process.pid}`);
  mkdirSync(work);
  return work;
}

async function make(build: Build, name: ProgramName, script: Bundle, arch: Architecture, output: string): Promise<void> {
  const began = performance.now();
  const folder = join(output, `linux-${arch}`);
  const file = join(folder, name);
  await makeBinary(build, PACKAGED[name], script, arch, file);
  for (const link of PACKAGED[name].links) {
    rmSync(join(folder, link), { force: true });
    symlinkSync(name, join(folder, link));
  }
  const megabytes = (statSync(file).size / 1e6).toFixed(0);
  const links = PACKAGED[name].links.map((link) => `, ${link} is a link to it`).join('');
  say(`${file}: ${megabytes} MB, ${((performance.now() - began) / 1000).toFixed(1)} s${links}`);
}

/** The bill of materials and the licences of a program: they are the same for all architectures. */
function describe(build: Build, name: ProgramName, script: Bundle, output: string): void {
  const own = ARCHITECTURES.find((arch) => arch === process.arch) ?? ARCHITECTURES[0];
  const node = { home: build.nodeHome(own), binary: build.ownNode, version: build.version };
  const described = { name, version: VERSION, summary: PACKAGED[name].summary, components: componentsOf(root, script.sources, node) };
  mkdirSync(output, { recursive: true });
  writeFileSync(join(output, `${name}.cdx.json`), cycloneDx(described));
  writeFileSync(join(output, `${name}.licences.txt`), licenceTexts(described, readFileSync(join(root, 'LICENSE'), 'utf8')));
  say(`${join(output, `${name}.cdx.json`)} and ${name}.licences.txt: ${described.components.length} components`);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

await main(
  {
    name: 'npm run',
    summary: 'the programs as single files for Linux, in dist/',
    commands: [
      {
        name: 'package --',
        summary: 'make the binaries, their checksums, bills of materials and licences',
        options: {
          ...FOR_OPTIONS,
          output: { type: 'string', short: 'o', value: 'DIR', help: 'where they go (dist in the project)' },
        },
        run,
      },
    ],
    examples: ['npm run package -- --arch arm64 --program ndt-agent'],
  },
  ['package --', ...process.argv.slice(2)],
);
