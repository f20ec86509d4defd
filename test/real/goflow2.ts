/** A real GoFlow2, built once from its own sources where Go is at hand, as a process of a test's own. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findProgram } from '../../scripts/programs.ts';
import { freePort } from '../ports.ts';
import { until } from '../until.ts';

const VERSION = '2.2.1';
const DIR = fileURLToPath(new URL('../../.ndt/go', import.meta.url));
const BUILT = join(DIR, `goflow2-${VERSION}`);
/** The archive of go.dev is unpacked there, and PATH does not always lead to it. */
const GO = findProgram('go', `${process.env.PATH ?? ''}:/usr/local/go/bin:/usr/lib/go/bin`);

export const hasGoflow2: boolean = existsSync(BUILT) || GO !== undefined;
export const NEEDS_GOFLOW2 = hasGoflow2 ? '' : ' (skipped: needs Go, to build GoFlow2)';

/** Builds it when that was not done yet: a minute, and the modules from the Go proxy. @returns its path */
export async function buildGoflow2(): Promise<string> {
  if (existsSync(BUILT)) return BUILT;
  mkdirSync(DIR, { recursive: true });
  // What was downloaded and compiled takes a gigabyte, and is of no use once the program is there.
  const work = mkdtempSync(join(DIR, 'build-'));
  try {
    const env = {
      ...process.env,
      GOBIN: join(work, 'bin'),
      GOPATH: join(work, 'path'),
      GOCACHE: join(work, 'cache'),
      GOFLAGS: '-modcacherw',
    };
    await promisify(execFile)(GO ?? 'go', ['install', `github.com/netsampler/goflow2/v2/cmd/goflow2@v${VERSION}`], {
      env,
      timeout: 600_000,
    });
    renameSync(join(work, 'bin/goflow2'), BUILT);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return BUILT;
}

export interface Goflow2 {
  /** Of 127.0.0.1, UDP: NetFlow and IPFIX. */
  port: number;
  log(): string;
  stop(): Promise<void>;
}

/**
 * Collects into a topic, JSON.
 * @param mapping its configuration file, YAML
 */
export async function startGoflow2(dir: string, options: { brokers: string; topic: string; mapping: string }): Promise<Goflow2> {
  const program = await buildGoflow2();
  const [port, http] = [await freePort(), await freePort()];
  const mapping = join(dir, 'goflow2.yaml');
  writeFileSync(mapping, options.mapping);
  const args = [
    ...['-listen', `netflow://127.0.0.1:${port}`, '-addr', `127.0.0.1:${http}`, '-templates.path', '/templates'],
    ...['-transport', 'kafka', '-transport.kafka.brokers', options.brokers, '-transport.kafka.topic', options.topic],
    ...['-transport.kafka.flushfreq', '100ms', '-transport.kafka.hashing', '-format', 'json', '-mapping', mapping],
  ];
  let log = '';
  const child: ChildProcess = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      log += chunk.toString();
    });
  const ended = new Promise((resolve) => child.once('close', resolve));
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    await ended;
  };
  try {
    await until(
      async () =>
        child.exitCode === null &&
        (await fetch(`http://127.0.0.1:${http}/__health`).then(
          ({ ok }) => ok,
          () => false,
        )),
      'GoFlow2 to be healthy',
    );
  } catch (error) {
    await stop();
    throw new Error(`GoFlow2 did not start: ${log}`, { cause: error });
  }
  return { port, log: () => log, stop };
}
