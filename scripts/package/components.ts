/** What a binary is made of beside our own sources: the packages in its script, SQLite, and Node with all that is linked into it. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { NdtError } from '../../common/errors.ts';

export interface Component {
  name: string;
  version: string;
  /** SPDX expression; undefined where only the text says it. */
  licence: string | undefined;
  /** The texts that have to go with it, each with the name of its file. */
  texts: Array<{ file: string; text: string }>;
  /** Package URL. */
  purl: string;
  /** Name in the lists of known vulnerabilities, where it is not found by its package URL. */
  cpe?: string;
  /** Of the package as the registry has it, hexadecimal. */
  sha512?: string;
  /** What is inside without being a package. */
  parts?: Array<{ name: string; version: string }>;
}

/** What Node tells of itself that is no library: interface numbers and data. */
const NO_LIBRARY = new Set(['node', 'modules', 'napi', 'cldr', 'tz', 'unicode']);

/**
 * @param sources files of a bundle, from the project's folder
 * @returns by name and version
 */
export function componentsOf(
  root: string,
  sources: readonly string[],
  node: { home: string; binary: string; version: string },
): Component[] {
  const folders = new Set(sources.flatMap((source) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(source) ?? []));
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: { [path: string]: { integrity?: string } };
  };
  const packages = [...folders].map((folder) => packageAt(root, folder, lock.packages[folder]?.integrity));
  // The same version may be installed in several places.
  const once = new Map([...packages, sqlite(), nodeItself(node)].map((component) => [component.purl, component]));
  return [...once.values()].sort((a, b) => compare(a.name, b.name) || compare(a.version, b.version));
}

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

function packageAt(root: string, folder: string, integrity: string | undefined): Component {
  const { name, version, license } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8')) as {
    name: string;
    version: string;
    license?: string;
  };
  const texts = textsIn(join(root, folder));
  if (license === undefined && texts.length === 0)
    throw new NdtError('DATA', `${folder} says nothing about its licence: look at it before it goes into a binary`);
  return {
    name,
    version,
    licence: license,
    texts,
    purl: `pkg:npm/${name.replace('@', '%40')}@${version}`,
    ...(integrity?.startsWith('sha512-') ? { sha512: Buffer.from(integrity.slice(7), 'base64').toString('hex') } : {}),
  };
}

function textsIn(folder: string): Component['texts'] {
  return readdirSync(folder)
    .filter((file) => /^(licen[cs]e|copying|notice)/i.test(file))
    .sort()
    .map((file) => ({ file, text: readFileSync(join(folder, file), 'utf8').trim() }));
}

/** Part of the addon. */
function sqlite(): Component {
  const db = new Database(':memory:');
  const version = String(db.prepare('SELECT sqlite_version()').pluck().get());
  db.close();
  return {
    name: 'sqlite',
    version,
    licence: 'blessing',
    texts: [{ file: 'copyright', text: 'SQLite is in the public domain.' }],
    purl: `pkg:generic/sqlite@${version}`,
    cpe: `cpe:2.3:a:sqlite:sqlite:${version}:*:*:*:*:*:*:*`,
  };
}

function nodeItself({ home, binary, version }: { home: string; binary: string; version: string }): Component {
  const versions = JSON.parse(execFileSync(binary, ['-p', 'JSON.stringify(process.versions)'], { encoding: 'utf8', env: {} })) as {
    [part: string]: string;
  };
  return {
    name: 'node',
    version,
    licence: 'MIT',
    texts: textsIn(home),
    purl: `pkg:generic/node@${version}`,
    cpe: `cpe:2.3:a:nodejs:node.js:${version}:*:*:*:*:*:*:*`,
    parts: Object.entries(versions)
      .filter(([name]) => !NO_LIBRARY.has(name))
      .map(([name, version]) => ({ name, version }))
      .sort((a, b) => compare(a.name, b.name)),
  };
}
