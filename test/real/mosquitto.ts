/** Debian's mosquitto as a process of a test's own. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { findProgram } from '../../scripts/programs.ts';
import { freePort } from '../ports.ts';
import { until } from '../until.ts';

const PROGRAM = findProgram('mosquitto');

/** Whether the program is installed; tests that need it name its package: "needs Debian's mosquitto". */
export const hasMosquitto: boolean = PROGRAM !== undefined;

export interface Mosquitto {
  port: number;
  /** Starts it again on its port and its data, after `stop`. */
  start(): Promise<void>;
  /** Ends it; resolves when it has ended. Its data stays. */
  stop(): Promise<void>;
  /** Ends it and deletes its data. */
  remove(): Promise<void>;
}

/**
 * Starts one on a free loopback port; resolves when it takes connections.
 * @param lines of its configuration, beside `listener` and where the data is
 */
export async function startMosquitto(lines: readonly string[]): Promise<Mosquitto> {
  if (PROGRAM === undefined) throw new Error('mosquitto is not installed: apt-get install mosquitto');
  const program = PROGRAM;
  const dir = mkdtempSync(join(tmpdir(), 'ndt-mosquitto-'));
  const config = join(dir, 'mosquitto.conf');
  // Started by root it would give its rights away, and then not reach the test's files.
  const own = [
    `user ${userInfo().username}`,
    'persistence true',
    `persistence_location ${dir}/`,
    'autosave_interval 1',
    'max_queued_messages 0',
  ];
  let child: ChildProcess | undefined;
  let port = 0;
  const kill = () => child?.kill('SIGKILL');

  const start = async () => {
    writeFileSync(config, [...own, `listener ${port} 127.0.0.1`, ...lines, ''].join('\n'));
    const log: string[] = [];
    const started = spawn(program, ['-c', config], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [started.stdout, started.stderr]) stream?.setEncoding('utf8').on('data', (text: string) => log.push(text));
    child = started;
    const ended = () => started.exitCode !== null || started.signalCode !== null;
    await until(async () => ended() || (await takesConnections(port)), `mosquitto to listen on port ${port}`);
    if (ended()) throw new Error(`mosquitto ended at once: ${log.join('')}`);
  };
  const stop = async () => {
    const running = child;
    if (running === undefined) return;
    running.kill('SIGTERM');
    await until(() => running.exitCode !== null || running.signalCode !== null, 'mosquitto to end');
    child = undefined;
  };

  // No orphan may stay behind where the test's process ends early.
  process.on('exit', kill);
  // Another process may take the free port before mosquitto does: then another one.
  for (let attempt = 1; ; attempt += 1) {
    port = await freePort();
    try {
      await start();
      break;
    } catch (error) {
      if (attempt === 5) throw error;
    }
  }
  const remove = async () => {
    await stop();
    process.off('exit', kill);
    rmSync(dir, { recursive: true, force: true });
  };
  return { port, start, stop, remove };
}

/** Makes a password file as mosquitto reads it. */
export function writePasswords(file: string, passwords: { [user: string]: string }): void {
  writeFileSync(file, '');
  chmodSync(file, 0o600);
  const tool = findProgram('mosquitto_passwd');
  if (tool === undefined) throw new Error('mosquitto_passwd is not installed: apt-get install mosquitto');
  for (const [user, password] of Object.entries(passwords)) execFileSync(tool, ['-b', file, user, password]);
}

async function takesConnections(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  return (await new Promise((resolve) => {
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
  }).finally(() => socket.destroy())) as boolean;
}
