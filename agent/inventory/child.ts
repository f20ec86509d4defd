/**
 * The process that reads the machine: this program once more, for a second. What it loads and what it starts is gone with it.
 *
 * It is a group of its own, so that a command that hangs in it ends with it, and it stands back: the first to be killed where memory
 * runs out, the last to be given time (machine.ts).
 */
import type { ChildProcess } from 'node:child_process';
import { isSea } from 'node:sea';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../../common/errors.ts';
import { type Machine, parseMachine } from '../../common/inventory.ts';

export interface ChildOptions {
  /** The program, and what stands before its own arguments; by default this one. */
  command?: readonly string[];
  timeoutMs?: number;
}

const TIMEOUT_MS = 30_000;
/** A thousand interfaces take 250 KB. */
const MOST_BYTES = 1024 * 1024;
const MOST_SAID = 2000;

/** This program: as one file it is its own interpreter. */
function ownCommand(): string[] {
  return isSea() ? [process.execPath] : [process.execPath, fileURLToPath(new URL('../main.ts', import.meta.url))];
}

/** @throws Error that says what is wrong, in a sentence; also when `signal` aborts */
export async function askChild(procfsRoot: string, signal: AbortSignal, options: ChildOptions = {}): Promise<Machine> {
  // Loaded when it is needed: it takes memory, and an agent without routers of this machine never needs it.
  const { spawn } = process.getBuiltinModule('node:child_process');
  signal.throwIfAborted();
  const [file = '', ...args] = [...(options.command ?? ownCommand()), 'inventory', '--procfs-root', procfsRoot];
  const child = spawn(file, args, { env: environment(), stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  const output = await outputOf(child, timeoutMs, signal);
  try {
    return parseMachine(output);
  } catch (error) {
    throw new Error(`what it told cannot be used (${messageOf(error)})`);
  }
}

/** Nothing of ours but the way to the commands. A name server that does not answer must not use all of its time up. */
function environment(): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', RES_OPTIONS: 'timeout:1 attempts:1' };
}

/** What it printed, when it has ended well. */
function outputOf(child: ChildProcess, timeoutMs: number, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    let said = '';
    const settled = new AbortController();
    const end = (error?: Error) => {
      settled.abort();
      clearTimeout(timer);
      if (error === undefined) return resolve(Buffer.concat(chunks).toString());
      kill(child);
      reject(error);
    };
    const timer = setTimeout(() => end(new Error(`it did not end within ${timeoutMs / 1000} s`)), timeoutMs);
    timer.unref();
    signal.addEventListener('abort', () => end(new Error('the agent stops')), { once: true, signal: settled.signal });
    child.stdout?.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MOST_BYTES) end(new Error(`it told more than ${MOST_BYTES} bytes`));
      else chunks.push(chunk);
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-MOST_SAID);
    });
    child.once('error', (error) => end(new Error(`it could not be started (${messageOf(error)})`)));
    child.once('close', (code, killed) => {
      if (code === 0) return end();
      const last = said.trim().split('\n').at(-1) ?? '';
      end(new Error(`it ended ${killed === null ? `with code ${code}` : `by ${killed}`}${last === '' ? '' : `: ${last}`}`));
    });
  });
}

function kill(child: ChildProcess): void {
  child.stdout?.destroy();
  child.stderr?.destroy();
  child.unref();
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It ended just now.
  }
}
