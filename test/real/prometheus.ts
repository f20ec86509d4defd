/** Debian's Prometheus as a process of a test's own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProgram } from '../../scripts/programs.ts';
import { freePort } from '../ports.ts';
import { until } from '../until.ts';

const program = findProgram('prometheus');

/** Whether the program is installed; tests that need it name its package. */
export const hasPrometheus: boolean = program !== undefined;
/** For names of tests that are skipped. */
export const NEEDS_PROMETHEUS = hasPrometheus ? '' : " (skipped: needs Debian's prometheus)";

export interface PrometheusOptions {
  /** The text of prometheus.yml. */
  config: string;
  /** The text of a web.config.file: TLS and users. */
  webConfig?: string;
  /** Further arguments. */
  args?: string[];
}

export interface PrometheusProcess {
  /** `http://127.0.0.1:41234`; https where a web configuration is given. */
  url: string;
  port: number;
  /** Ends it; its data stays, for `restart`. */
  halt(): Promise<void>;
  /** On the same port and data. */
  restart(): Promise<void>;
  /** Ends it and deletes its data. */
  stop(): Promise<void>;
}

/** Starts one on a loopback port; resolves when it is ready. */
export async function startPrometheus({ config, webConfig, args = [] }: PrometheusOptions): Promise<PrometheusProcess> {
  if (program === undefined) throw new Error('prometheus is not installed: apt-get install prometheus');
  const dir = mkdtempSync(join(tmpdir(), 'ndt-prometheus-'));
  const file = (name: string, text: string) => {
    writeFileSync(join(dir, name), text);
    return join(dir, name);
  };
  const port = await freePort();
  const all = [
    `--config.file=${file('prometheus.yml', config)}`,
    `--storage.tsdb.path=${join(dir, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
    '--log.level=warn',
    // Two things look for targets every five seconds; of one of them that can be changed, so that the first scrape is no ten seconds away.
    '--scrape.discovery-reload-interval=100ms',
    ...(webConfig === undefined ? [] : [`--web.config.file=${file('web.yml', webConfig)}`]),
    ...args,
  ];
  let child: ChildProcess | undefined;
  // No orphan may stay behind where the test's process ends early.
  const kill = () => child?.kill('SIGKILL');
  process.on('exit', kill);
  const start = async () => {
    const log: string[] = [];
    let ready = false;
    const started = spawn(program, all, { stdio: ['ignore', 'ignore', 'pipe'] });
    child = started;
    started.stderr?.setEncoding('utf8').on('data', (text: string) => log.push(text));
    const ended = () => started.exitCode !== null || started.signalCode !== null;
    await until(async () => {
      ready = await isReady(port, webConfig !== undefined);
      return ready || ended();
    }, 'prometheus to be ready');
    if (!ready) throw new Error(`prometheus ended at once: ${log.join('')}`);
  };
  const halt = async () => {
    const running = child;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const ended = once(running, 'exit');
    running.kill('SIGTERM');
    await ended;
  };
  const stop = async () => {
    await halt();
    process.off('exit', kill);
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    await start();
  } catch (error) {
    await stop();
    throw error;
  }
  return { url: `${webConfig === undefined ? 'http' : 'https'}://127.0.0.1:${port}`, port, halt, restart: start, stop };
}

/** Behind a login or TLS, that it takes connections has to be enough. */
async function isReady(port: number, secured: boolean): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/-/ready`);
    await response.arrayBuffer();
    // 400: plain HTTP was spoken to its TLS.
    return response.ok || (secured && response.status >= 400 && response.status < 500);
  } catch {
    return false;
  }
}
