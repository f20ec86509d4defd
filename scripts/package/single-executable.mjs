/**
 * Puts a script and its files into a copy of Node with pkg: `node single-executable.mjs JOB`, the job as JSON, see binary.ts. A process
 * of its own, because pkg takes the Node that runs it to write the blob, which must be exactly the Node that will read it, and looks
 * for its bases under HOME.
 */
import pkg from 'pkg/lib-es5/sea.js';

/**
 * @type {{ script: string, main: string, output: string, version: string, arch: string, assets: Record<string, string>, flags: string[] }}
 */
const { script, main, output, version, arch, assets, flags } = JSON.parse(process.argv[2] ?? '');

await pkg.default(script, {
  targets: [{ nodeRange: `node${version}`, platform: 'linux', arch, output }],
  // pkg passes on more than its types tell of.
  seaConfig: /** @type {import('pkg/lib-es5/sea.js').SeaConfig} */ ({
    main,
    disableExperimentalSEAWarning: true,
    useSnapshot: false,
    useCodeCache: false,
    assets,
    execArgv: flags,
    // NODE_OPTIONS of a surrounding environment shall not decide what a router's agent does.
    execArgvExtension: 'none',
  }),
});
