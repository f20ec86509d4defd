/** A program of ndt as a child process: started, waited for until it answers, stopped; its log in a file. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, renameSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { AGENT_ENVIRONMENT, AGENT_FLAGS } from '../../agent/node-flags.ts';
import { NdtError } from '../../common/errors.ts';

const READY_MS = 30_000;
const STOP_MS = 8000;
const LOG_BYTES = 10 * 1024 * 1024;
/** How far from a wanted port on a free one is looked for. */
const NEXT_PORTS = 200;

/** The agent runs as it would on a router: small. */
const SMALL: { [program: string]: { flags: readonly string[]; env: NodeJS.ProcessEnv } } = {
  agent: { flags: AGENT_FLAGS, env: AGENT_ENVIRONMENT },
};

export class Child {
  readonly name: string;
  /** Resolves when the process has ended, for whatever reason. */
  readonly ended: Promise<void>;
  private readonly process: ChildProcess;
  private readonly logFile: string;
  private running = true;
  /** The last of what it wrote on standard error. */
  private tail = '';

  constructor(name: string, program: string, config: string, env: NodeJS.ProcessEnv, dir: string) {
    this.name = name;
    this.logFile = `${dir}/${name}.log`;
    rotate(this.logFile);
    const log = createWriteStream(this.logFile, { flags: 'a' });
    // A process group of its own: Ctrl-C reaches us alone, and we stop it in the right order. Its standard input closes with us,
    // however we end, and it ends with that.
    this.process = spawn(process.execPath, [...(SMALL[name]?.flags ?? []), program, 'run', '--with-stdin', '--config', config], {
      env: { ...env, ...SMALL[name]?.env },
      detached: true,
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    this.process.stderr?.on('data', (chunk: Buffer) => {
      log.write(chunk);
      this.tail = (this.tail + chunk.toString()).slice(-4000);
    });
    this.ended = new Promise((resolve) => {
      const end = () => {
        this.running = false;
        log.end();
        resolve();
      };
      this.process.once('close', end);
      this.process.once('error', end);
    });
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  /** Waits until it answers. @throws NdtError with what it said when it ended instead */
  async ready(url: string): Promise<void> {
    const end = performance.now() + READY_MS;
    while (this.running && performance.now() < end) {
      try {
        if ((await fetch(url)).ok) return;
      } catch {
        // Not listening yet.
      }
      await sleep(20);
    }
    if (this.running)
      throw new NdtError(
        'UNAVAILABLE',
        `the ${this.name} does not answer at ${url} after ${READY_MS / 1000} s; its log is ${this.logFile}`,
      );
    throw new NdtError('UNAVAILABLE', this.describeEnd());
  }

  describeEnd(): string {
    const { exitCode, signalCode } = this.process;
    const how = signalCode === null ? `ended with code ${exitCode}` : `was ended by ${signalCode}`;
    return `the ${this.name} ${how}; its log is ${this.logFile}\n${this.tail.trimEnd().split('\n').slice(-5).join('\n')}`;
  }

  async stop(): Promise<void> {
    if (!this.running) return;
    this.process.kill('SIGTERM');
    const late = setTimeout(() => this.process.kill('SIGKILL'), STOP_MS);
    await this.ended;
    clearTimeout(late);
  }
}

function rotate(file: string): void {
  try {
    if (statSync(file).size > LOG_BYTES) renameSync(file, `${file}.1`);
  } catch {
    // No log yet.
  }
}

const given = new Set<number>();

/**
 * The wanted port of loopback where it is free, the next free one else. None that the kernel gives to whoever asks for any port: such a
 * one may be taken before our program gets it.
 */
export async function freePort(wanted: number): Promise<number> {
  const end = Math.min(wanted + NEXT_PORTS, 65_536);
  for (let port = wanted; port < end; port += 1) {
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    return port;
  }
  throw new NdtError('CANNOT_CREATE', `no port of 127.0.0.1 from ${wanted} to ${end - 1} can be had: check the limits of this user`);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
