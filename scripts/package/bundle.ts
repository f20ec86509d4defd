/**
 * A program's script, with esbuild, in pieces: one with what always runs, and further ones with what is imported when it is needed. A
 * single executable can load nothing from files, and its memory is as large as the text that it has read.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, relative } from 'node:path';
import { type BuildOptions, build, type Plugin, transform } from 'esbuild';
import { NdtError } from '../../common/errors.ts';

/** What a package asks for and we never use: it stands behind a switch that we do not turn. And what it gets instead. */
const NEVER_USED: { readonly [name: string]: string } = {
  // Of mqtt.js, for browsers.
  'worker-timers': '{}',
  // Of mqtt.js, for version 5 of the protocol.
  'lru-cache': '{}',
  // Of mqtt.js, which tells with it what it does where the variable DEBUG is set.
  debug: '() => () => {}',
  // Of pino, for logs written by threads.
  'thread-stream': '{}',
};

/** Parts of Node that cost memory and that most processes never touch. */
const LATE: readonly string[] = [
  'crypto',
  'tls',
  'https',
  'http2',
  'dns',
  'dns/promises',
  'child_process',
  'cluster',
  'worker_threads',
  'readline',
];

export interface Bundle {
  /** The script that comes first (binary/loader.ts). */
  loader: string;
  /** The pieces' files by the names under which the loader asks for them. */
  pieces: { [name: string]: string };
  /** Every source in them, by its path from the project's folder. */
  sources: string[];
}

/** Everything that may fail in the binary shall fail here. Names stay, so that a stack trace tells something. */
const COMMON = {
  platform: 'node',
  target: 'node24',
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'none',
  // One byte a character.
  charset: 'ascii',
  logLevel: 'silent',
} satisfies BuildOptions;

/** @param folder is made, and takes the result */
export async function bundle(root: string, entry: string, folder: string): Promise<Bundle> {
  const written = join(folder, 'modules');
  const { metafile, warnings } = await build({
    ...COMMON,
    absWorkingDir: root,
    entryPoints: { main: entry },
    outdir: written,
    bundle: true,
    format: 'esm',
    splitting: true,
    chunkNames: 'piece-[hash]',
    // Node's own streams, copied for those who have none.
    alias: { 'readable-stream': 'node:stream' },
    // What comes from files comes out of the binary (common/shipped.ts).
    define: { 'import.meta.url': '"file:///"' },
    plugins: [ourSqlite(root), onlyVersion(root), neverUsed(), lateBuiltins()],
    metafile: true,
    tsconfigRaw: {},
  });
  const [warning] = warnings;
  if (warning !== undefined)
    throw new NdtError('DATA', `${warning.location?.file ?? entry}: ${warning.text}: mend that, or the binary may lack something`);
  const sources = Object.keys(metafile.inputs).map((source) => relative(root, join(root, source.replace(/^[a-z-]+:/, ''))));

  const pieces: Bundle['pieces'] = {};
  mkdirSync(join(folder, 'pieces'));
  for (const name of readdirSync(written).sort()) {
    const file = join(folder, 'pieces', name);
    writeFileSync(file, await asFunctionBody(readFileSync(join(written, name), 'utf8')));
    pieces[name] = file;
  }
  const loader = join(folder, 'loader.cjs');
  writeFileSync(
    loader,
    (await transform(readFileSync(join(root, 'binary/loader.ts'), 'utf8'), { ...COMMON, loader: 'ts', format: 'cjs' })).code,
  );
  return { loader, pieces, sources };
}

/** A module as the loader runs it: `import()` of another piece becomes a `require` that comes later. */
async function asFunctionBody(module: string): Promise<string> {
  const { code } = await transform(module, { ...COMMON, format: 'cjs', supported: { 'dynamic-import': false } });
  return code;
}

/** better-sqlite3 finds its addon beside itself, which a binary has not. */
function ourSqlite(root: string): Plugin {
  return {
    name: 'sqlite',
    setup({ onResolve }) {
      onResolve({ filter: /^better-sqlite3$/ }, () => ({ path: join(root, 'binary/sqlite.ts') }));
      onResolve({ filter: /^better-sqlite3\/lib\// }, ({ path }) => ({ path: join(root, 'node_modules', path) }));
    },
  };
}

/** Of package.json the version alone: the rest is no program's business. */
function onlyVersion(root: string): Plugin {
  const file = join(root, 'package.json');
  return {
    name: 'version',
    setup({ onLoad }) {
      onLoad({ filter: /package\.json$/ }, ({ path }) => {
        if (path !== file) return undefined;
        const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
        return { contents: JSON.stringify({ version }), loader: 'json' };
      });
    },
  };
}

/** Nothing, or next to nothing, in place of a package. */
function neverUsed(): Plugin {
  return {
    name: 'never-used',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: new RegExp(`^(${Object.keys(NEVER_USED).join('|')})$`) }, ({ path }) => ({ path, namespace: 'never-used' }));
      onLoad({ filter: /.*/, namespace: 'never-used' }, ({ path }) => ({
        contents: `module.exports = ${NEVER_USED[path]};`,
        loader: 'js',
      }));
    },
  };
}

/** Node's own modules, loaded when something of them is first used instead of when it is imported. */
function lateBuiltins(): Plugin {
  const require = createRequire(import.meta.url);
  return {
    name: 'late-builtins',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: new RegExp(`^(node:)?(${LATE.join('|')})$`) }, ({ path, namespace }) => {
        const name = path.replace(/^node:/, '');
        return namespace === 'late' ? { path: `node:${name}`, external: true } : { path: name, namespace: 'late' };
      });
      onLoad({ filter: /.*/, namespace: 'late' }, ({ path }) => {
        const names = Object.keys(require(`node:${path}`) as object);
        const getters = names.map((name) => `get ${name}() { return load().${name}; }`);
        return { contents: `const load = () => require('node:${path}');\nmodule.exports = {\n${getters.join(',\n')}\n};`, loader: 'js' };
      });
    },
  };
}
