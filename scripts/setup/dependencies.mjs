/**
 * Installs the dependencies where node_modules is missing or was not installed from the present package-lock.json.
 *
 * npm writes node_modules/.package-lock.json last, when everything is in place, and it lists what is installed. So an installation
 * counts if that list agrees with package-lock.json, whoever made it (`npm ci` by hand is as good as ours). The stamp `.ndt/installed`
 * saves the comparison, and accepts what npm left out for reasons of its own.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError, systemCode } from './error.mjs';
import { withSetupLock } from './lock.mjs';
import { hasGlibc } from './node.mjs';
import { isFull, NpmError, npmCi } from './npm.mjs';

/**
 * @param {string} root
 * @param {string} node the Node that the program will run on
 * @param {{ development: boolean }} needs `development`: with the development dependencies
 * @throws {SetupError} 69 where they cannot be installed
 */
export async function ensureDependencies(root, node, { development }) {
  const lockText = readFileSync(join(root, 'package-lock.json'), 'utf8');
  if (isInstalled(root, lockText, development)) return;

  const state = join(root, '.ndt');
  await withSetupLock(state, 'install its dependencies', async (hold) => {
    if (isInstalled(root, lockText, development)) return;
    // From here on the old list would be wrong, and an interrupted npm could leave it standing.
    rmSync(installedList(root), { force: true });
    try {
      await npmCi(root, { node, progress: 'installing the dependencies', started: hold });
    } catch (error) {
      if (!(error instanceof NpmError)) throw error;
      if (isFull(root)) rmSync(join(root, 'node_modules'), { recursive: true, force: true });
      if (error.output !== '') process.stderr.write(`${error.output}\n`);
      throw new SetupError(69, `ndt could not install its dependencies (${error.reason}): mend that and run the command again.`);
    }
    writeStamp(root, lockText);
  });
}

/**
 * @param {string} root
 * @param {string} lockText
 * @param {boolean} development
 */
function isInstalled(root, lockText, development) {
  if (!existsSync(installedList(root))) return false;
  if (readStamp(root) === stampOf(root, lockText)) return true;
  const missing = findMissing(packagesOf(lockText), packagesOf(readFileSync(installedList(root), 'utf8')), development);
  if (missing !== undefined) return false;
  if (development) writeStamp(root, lockText);
  return true;
}

/** @param {string} root */
function installedList(root) {
  return join(root, 'node_modules', '.package-lock.json');
}

/**
 * @typedef {{ version?: string, integrity?: string, optional?: boolean, dev?: boolean, devOptional?: boolean, os?: string[], cpu?: string[], libc?: string[] }} Package
 * @param {string} text a package-lock.json
 * @returns {Record<string, Package>} by path, `node_modules/pino`
 */
function packagesOf(text) {
  return JSON.parse(text).packages ?? {};
}

/**
 * The first package that should be installed and is not, or is in another version. Of the optional ones, those made for this system
 * are wanted (a tree copied from another machine lacks them); which others suit is npm's to know.
 *
 * @param {Record<string, Package>} wanted
 * @param {Record<string, Package>} installed
 * @param {boolean} development
 */
function findMissing(wanted, installed, development) {
  return Object.keys(wanted).find((path) => {
    const want = wanted[path];
    if (path === '' || want === undefined) return false;
    const have = installed[path];
    if (have !== undefined) return have.version !== want.version || have.integrity !== want.integrity;
    if (want.dev && !development) return false;
    return !(want.optional || want.devOptional) || isForThisSystem(want);
  });
}

/** @param {Package} wanted */
function isForThisSystem({ os, cpu, libc }) {
  return (
    os?.includes(process.platform) && cpu?.includes(process.arch) && (libc === undefined || libc.includes(hasGlibc() ? 'glibc' : 'musl'))
  );
}

/**
 * What must be unchanged for the stamp to hold: the lock file, what is installed, and the machine (binaries differ).
 * @param {string} root
 * @param {string} lockText
 */
function stampOf(root, lockText) {
  const { mtimeMs, size } = statSync(installedList(root));
  const lock = createHash('sha256').update(lockText).digest('hex');
  return `${JSON.stringify({ lock, installed: `${mtimeMs} ${size}`, platform: `${process.platform}-${process.arch}` })}\n`;
}

/** @param {string} root */
function readStamp(root) {
  try {
    return readFileSync(join(root, '.ndt', 'installed'), 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * @param {string} root
 * @param {string} lockText
 */
function writeStamp(root, lockText) {
  try {
    writeFileSync(join(root, '.ndt', 'installed'), stampOf(root, lockText));
  } catch {
    // A read-only copy, or no `.ndt` yet: the comparison is made again at the next start, which costs milliseconds.
  }
}
