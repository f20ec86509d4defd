#!/usr/bin/env node
/**
 * The door behind every npm script: `node scripts/ndt.mjs COMMAND [ARGUMENT…]`.
 *
 * It makes a fresh copy of the repository runnable with nothing but Node 20 and npm: brings the Node that ndt needs where the
 * running one is too old (setup/node.mjs), installs the dependencies where they are missing or stale (setup/dependencies.mjs),
 * then runs the command's program. Plain JavaScript, because nothing is installed yet when it runs. What it says goes to
 * stderr: a program's stdout may be a stream of records.
 */
import { existsSync, readFileSync } from 'node:fs';
import * as nodeModule from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { ensureDependencies } from './setup/dependencies.mjs';
import { SetupError } from './setup/error.mjs';
import { ensureNode } from './setup/node.mjs';

/**
 * `development` commands need the development dependencies; the others also run where only the rest is installed (`npm ci --omit=dev`).
 * @type {Record<string, { program: string, about: string, development?: boolean }>}
 */
const COMMANDS = {
  start: { program: 'scripts/start.ts', about: 'run the whole system on the interfaces of this machine' },
  agent: { program: 'agent/main.ts', about: 'run an edge agent' },
  aggregator: { program: 'aggregator/main.ts', about: 'run the aggregator' },
  ml: { program: 'ml/main.ts', about: 'run an inference worker' },
  kafka: { program: 'scripts/kafka.ts', about: 'start, stop and look at a Kafka broker on this machine' },
  bench: { program: 'bench/main.ts', about: 'run the benchmarks', development: true },
  test: { program: 'scripts/test.ts', about: 'run the tests (--faults: the fault tests)', development: true },
  check: { program: 'scripts/check.ts', about: 'check types, format, lint and generated files', development: true },
  format: { program: 'scripts/format.ts', about: 'format, and mend what lint can mend', development: true },
  package: { program: 'scripts/package.ts', about: 'make the binaries for Linux, in dist/', development: true },
  deb: { program: 'scripts/deb.ts', about: 'make Debian packages and archives of the binaries, in dist/', development: true },
  generate: { program: 'scripts/generate.ts', about: 'write the generated files', development: true },
};

const USAGE = [
  'usage: node scripts/ndt.mjs COMMAND [ARGUMENT…]',
  '',
  ...Object.entries(COMMANDS).map(([name, { about }]) => `  ${name.padEnd(11)} ${about}`),
].join('\n');

/** @param {string[]} argv */
async function main(argv) {
  const [name = '', ...args] = argv;
  if (name === '--help' || name === '-h') {
    console.log(USAGE);
    return;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined)
    throw new SetupError(64, `${name === '' ? 'ndt was given no command' : `ndt has no command "${name}"`}\n${USAGE}`);

  const root = fileURLToPath(new URL('..', import.meta.url));
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  if (!manifest.os.includes(process.platform)) {
    throw new SetupError(69, `ndt runs on ${manifest.os.join(' and ')}, not on ${process.platform}.`);
  }
  const program = join(root, command.program);
  if (!existsSync(program))
    throw new SetupError(69, `this copy of ndt has no ${command.program}: get a complete copy and run the command again.`);

  const node = await ensureNode(root, manifest);
  // Whatever the program starts as `node` shall be the Node it runs on itself.
  process.env.PATH = [dirname(node), ...(process.env.PATH ? [process.env.PATH] : [])].join(delimiter);
  await ensureDependencies(root, node, { development: command.development === true });
  // Node keeps what it compiled, and the types it took out: later starts take half the time and a third of the memory.
  process.env.NODE_COMPILE_CACHE ??= join(root, '.ndt', 'compile-cache');

  if (node === process.execPath) {
    nodeModule.enableCompileCache?.(process.env.NODE_COMPILE_CACHE);
    process.argv = [process.execPath, program, ...args];
    await import(pathToFileURL(program).href);
    return;
  }
  const { runChild } = await import('./child.mjs');
  try {
    process.exitCode = await runChild(node, [program, ...args]);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new SetupError(
      69,
      `ndt cannot start the Node in ${dirname(dirname(node))} (${why}): remove that folder and run the command again.`,
    );
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  // Only what setup says about itself is shortened; an error of the program is the program's to report.
  if (!(error instanceof SetupError)) throw error;
  console.error(error.message);
  process.exitCode = error.exitCode;
}
