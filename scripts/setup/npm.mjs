/** Runs npm quietly: one line of progress on stderr, its own output only where it fails. */
import { spawn } from 'node:child_process';
import { existsSync, statfsSync } from 'node:fs';
import { basename, delimiter, dirname } from 'node:path';
import { exitCodeOfSignal } from '../child.mjs';
import { SetupError, systemCode } from './error.mjs';

/** @type {NodeJS.Signals[]} */
const INTERRUPTS = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Less free space than this, in bytes, once npm is done, means that it may have run out of it. */
const ROOM = 8 * 1024 * 1024;

/** npm failed. `reason` fits into a sentence, `output` is what it said. */
export class NpmError extends Error {
  /**
   * @param {string} reason
   * @param {string} output
   */
  constructor(reason, output) {
    super(reason);
    this.name = 'NpmError';
    this.reason = reason;
    this.output = output;
  }
}

/**
 * `npm ci` in a folder.
 *
 * @param {string} folder holds package.json and package-lock.json
 * @param {object} options
 * @param {string} options.node the Node to run npm with: npm leaves out optional packages that do not suit the Node it runs on
 * @param {string} options.progress what is being done, for the line of progress
 * @param {(pid: number) => void} options.started told npm's process id
 * @throws {NpmError} where npm fails, {SetupError} where we are interrupted
 */
export async function npmCi(folder, { node, progress, started }) {
  const args = ['ci', '--prefix', folder, '--ignore-scripts', '--no-audit', '--no-fund', '--include=dev', '--include=optional'];
  // The default is to give up on a dead network after more than a minute.
  args.push('--fetch-retries=2', '--fetch-retry-mintimeout=1000', '--fetch-retry-maxtimeout=5000');
  args.push('--loglevel=error', '--no-progress', '--no-color', '--no-update-notifier');
  const cli = npmCli();
  const [command, commandArgs] = cli === undefined ? ['npm', args] : [node, [cli, ...args]];

  process.stderr.write(`ndt: ${progress} … `);
  const began = performance.now();
  const child = spawn(command, commandArgs, {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH: [dirname(node), process.env.PATH ?? ''].join(delimiter) },
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (output += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (output += text));
  if (child.pid !== undefined) started(child.pid);

  /** @type {NodeJS.Signals | null} */
  let interrupt = null;
  /** @param {NodeJS.Signals} signal */
  const onInterrupt = (signal) => {
    interrupt ??= signal;
    child.kill('SIGTERM');
  };
  for (const signal of INTERRUPTS) process.on(signal, onInterrupt);
  try {
    const failure = await new Promise((resolve) => {
      child.once('error', (error) => resolve(systemCode(error) === 'ENOENT' ? 'npm was not found' : error.message));
      child.once('close', (code, signal) => resolve(code === 0 ? undefined : reasonOf(output, code, signal)));
    });
    if (interrupt !== null)
      throw new SetupError(exitCodeOfSignal(interrupt), 'ndt was interrupted while it set itself up; the next start does that again.');
    if (failure !== undefined) throw new NpmError(failure, withoutUsage(output));
    if (isFull(folder)) throw new NpmError('the disk is full', '');
    process.stderr.write(`done in ${((performance.now() - began) / 1000).toFixed(1)} s\n`);
  } catch (error) {
    process.stderr.write('failed\n');
    throw error;
  } finally {
    for (const signal of INTERRUPTS) process.off(signal, onInterrupt);
  }
}

/**
 * npm ends with success when the disk gets full while it unpacks, and leaves truncated files.
 * @param {string} folder
 */
export function isFull(folder) {
  const { bsize, bavail, bfree, files, ffree } = statfsSync(folder);
  const blocks = process.getuid?.() === 0 ? bfree : bavail;
  return blocks * bsize < ROOM || (files > 0 && ffree === 0);
}

/** The npm that started us, if one did (yarn and others set the same variable): it may not be the one on PATH. */
function npmCli() {
  const path = process.env.npm_execpath;
  return path !== undefined && basename(path) === 'npm-cli.js' && existsSync(path) ? path : undefined;
}

/**
 * npm's own first words about what went wrong.
 * @param {string} output
 * @param {number | null} code
 * @param {NodeJS.Signals | null} signal
 */
function reasonOf(output, code, signal) {
  const said = output
    .split('\n')
    .map((line) => /^npm (?:error|ERR!) (.+)$/.exec(line)?.[1] ?? '')
    .filter((line) => line !== '' && !/^(code|errno|syscall|path|dest|A complete log)\b/.test(line));
  return (
    said[0]?.replace(/^Error: |\.( .*)?$/g, '') ?? (signal === null ? `npm ended with exit code ${code}` : `npm was ended by ${signal}`)
  );
}

/**
 * Leaves out the description of `npm ci` that npm puts below some of its errors.
 * @param {string} output
 */
function withoutUsage(output) {
  return (output.split(/\n.*\n.* Clean install a project\n/)[0] ?? '').trim();
}
