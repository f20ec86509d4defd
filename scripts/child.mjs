/** Runs a program in the foreground, as if it had been started instead of us. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';

/** @type {NodeJS.Signals[]} */
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** npm passes a terminal's Ctrl-C on to us although we had it from the terminal already: within this time, in ms, the two are one. */
const SAME_SIGNAL_MS = 1000;

/**
 * Runs `command` on our stdin, stdout and stderr and passes signals on to it; we outlive it, so that whoever waits for us waits for it.
 *
 * Whether a SIGINT came from the terminal (the child has it too) or from `kill` (it has not) cannot be told apart, so it is always
 * passed on, once. The child may thus see two a moment apart, and must take them as one, as our programs do.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, cwd?: string }} [options]
 * @returns {Promise<number>} the exit code; 128 + n where signal n ended it
 */
export async function runChild(command, args, options = {}) {
  const child = spawn(command, args, { stdio: 'inherit', ...options });
  /** @type {Map<NodeJS.Signals, number>} */
  const passedOn = new Map();
  /** @param {NodeJS.Signals} signal */
  const passOn = (signal) => {
    const now = performance.now();
    if (now - (passedOn.get(signal) ?? -SAME_SIGNAL_MS) < SAME_SIGNAL_MS) return;
    passedOn.set(signal, now);
    child.kill(signal);
  };
  for (const signal of FORWARDED) process.on(signal, passOn);
  try {
    return await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => resolve(code ?? exitCodeOfSignal(signal)));
    });
  } finally {
    for (const signal of FORWARDED) process.off(signal, passOn);
  }
}

/**
 * The exit code by which a shell tells that a signal ended a program.
 * @param {NodeJS.Signals | null} signal
 */
export function exitCodeOfSignal(signal) {
  return signal === null ? 1 : 128 + constants.signals[signal];
}
