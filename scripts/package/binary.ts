/** A program as one file: Node without its symbols and its search for deadlocks, the script, and the files that belong to it. */
import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { ADDON } from '../../binary/addon.ts';
import { messageOf, NdtError } from '../../common/errors.ts';
import type { Bundle } from './bundle.ts';
import { turnOffDeadlockDetection } from './deadlock-detection.ts';
import type { Architecture, PackagedProgram } from './programs.ts';
import { strip } from './strip.ts';

export interface Build {
  root: string;
  /** For everything that is not the result: a folder of this build alone. */
  work: string;
  /** Of Node: `24.21.0`. */
  version: string;
  /** Folder of Node for an architecture. */
  nodeHome: (arch: Architecture) => string;
  /** The Node that can run here. */
  ownNode: string;
}

/** Lays Node out where pkg would have downloaded and checked it. npm has checked it against the integrity in package.json. */
export function layOutBase({ work, version, nodeHome }: Build, arch: Architecture): void {
  const name = `node-v${version}-linux-${arch}`;
  const cache = join(work, '.pkg-cache/sea');
  const bin = join(cache, name, 'bin');
  mkdirSync(bin, { recursive: true });
  const node = readFileSync(join(nodeHome(arch), 'bin/node'));
  turnOffDeadlockDetection(node, `Node for ${arch}`);
  writeFileSync(join(bin, 'node'), strip(node, `Node for ${arch}`), { mode: 0o755 });
  for (const file of [join(cache, `${name}.tar.gz`), join(cache, `${name}.tar.gz.ok`), join(bin, 'node.ok')]) writeFileSync(file, '');
}

export async function makeBinary(
  build: Build,
  program: PackagedProgram,
  script: Pick<Bundle, 'loader' | 'pieces'>,
  arch: Architecture,
  output: string,
): Promise<void> {
  const { root, work, version, ownNode } = build;
  const shipped = program.shipped.map((file) => [file, fileOf(root, file)]);
  const job = {
    script: script.loader,
    // As pkg sees it from a folder of its own, in the work folder: the binary holds this name, and shall hold no path of this machine.
    main: join('..', relative(work, script.loader)),
    output: join(work, `binary-${arch}`),
    version,
    arch,
    assets: {
      ...script.pieces,
      ...Object.fromEntries(shipped),
      [ADDON]: join(root, `node_modules/better-sqlite3/prebuilds/linux-${arch}.node`),
    },
    flags: program.flags,
  };
  try {
    await promisify(execFile)(ownNode, [join(root, 'scripts/package/single-executable.mjs'), JSON.stringify(job)], {
      cwd: work,
      // Nothing of the surroundings gets into it, and nothing of it into the surroundings.
      env: { HOME: work, TMPDIR: work, PATH: process.env.PATH },
      maxBuffer: 64 * 1024 * 1024,
    });
  } catch (error) {
    const said = error instanceof Error && 'stderr' in error && error.stderr !== '' ? String(error.stderr).trim() : messageOf(error);
    throw new NdtError('DATA', `pkg could not make ${output}: ${said}`);
  }
  chmodSync(job.output, 0o755);
  mkdirSync(dirname(output), { recursive: true });
  rmSync(output, { force: true });
  renameSync(job.output, output);
}

function fileOf(root: string, file: string): string {
  return file.startsWith('uplot/') ? createRequire(join(root, 'package.json')).resolve(file) : join(root, file);
}
