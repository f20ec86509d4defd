/**
 * Native addons out of the binary. The kernel loads them only from files, on file systems that allow execution, so one is written where
 * that works, loaded, and removed again at once: nothing stays behind, and nobody can put another file in its place, because the folder
 * is new and open to this user alone.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { getRawAsset } from 'node:sea';
import { codeOf, messageOf, NdtError } from '../common/errors.ts';

/** Under this name the binary holds the SQLite addon. */
export const ADDON = 'better-sqlite3.node';

/**
 * What is tried, in this order: in memory before on a disk. A service manager's folder may be several, with colons between them.
 * @param last where everything else is read-only or `noexec`: the program's own data can be written to
 */
export function runtimeFolders(env: NodeJS.ProcessEnv, last?: string): string[] {
  const folders = [
    env.NDT_RUNTIME_DIR,
    ...(env.RUNTIME_DIRECTORY?.split(':') ?? []),
    env.XDG_RUNTIME_DIR,
    '/run',
    homeFolder(env),
    tmpdir(),
    '/var/tmp',
    '/dev/shm',
    last,
  ];
  return [...new Set(folders.filter((folder): folder is string => folder !== undefined && isAbsolute(folder)))];
}

/** Users of services often have none. */
function homeFolder(env: NodeJS.ProcessEnv): string | undefined {
  try {
    return env.HOME ?? homedir();
  } catch {
    return undefined;
  }
}

/** @throws NdtError CANNOT_CREATE where no folder can be written to and allows execution */
export function loadAddon(asset: string, last?: string, env: NodeJS.ProcessEnv = process.env): unknown {
  const refused: string[] = [];
  for (const folder of runtimeFolders(env, last)) {
    const result = loadFrom(folder, asset);
    if (typeof result !== 'string') return result.exports;
    refused.push(`${folder} (${result})`);
  }
  throw new NdtError(
    'CANNOT_CREATE',
    `no folder can be written to and allows execution, tried ${refused.join(', ')}: set NDT_RUNTIME_DIR to one that does`,
  );
}

/** The loaded addon, or why it cannot be loaded from this folder. */
function loadFrom(folder: string, asset: string): { exports: unknown } | string {
  let own: string | undefined;
  try {
    own = mkdtempSync(join(folder, '.ndt-'));
    const file = join(own, asset);
    writeFileSync(file, new Uint8Array(getRawAsset(asset)), { mode: 0o500 });
    const module = { exports: {} };
    process.dlopen(module, file);
    return module;
  } catch (error) {
    return codeOf(error) === 'ERR_DLOPEN_FAILED' ? messageOf(error).replace(/^.*?: /, '') : (codeOf(error) ?? messageOf(error));
  } finally {
    if (own !== undefined) rmSync(own, { recursive: true, force: true });
  }
}
