/** Debian's node_exporter as a process of a test's own. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { freePort } from '../ports.ts';
import { until } from '../until.ts';

const PROGRAM = 'prometheus-node-exporter';

/** Whether the program is installed; tests that need it name its package: "needs Debian's prometheus-node-exporter". */
export const hasNodeExporter: boolean = spawnSync(PROGRAM, ['--version'], { stdio: 'ignore' }).error === undefined;

export interface NodeExporter {
  /** `http://127.0.0.1:41234/metrics` */
  url: string;
  port: number;
  pid: number;
  /** Ends it; resolves when it has ended. */
  stop(): Promise<void>;
}

/**
 * Starts one on a loopback port; resolves when it answers.
 * @param options further arguments; the port, a free one when left out
 */
export async function startNodeExporter(options: { args?: string[]; port?: number } = {}): Promise<NodeExporter> {
  const { args = [] } = options;
  // Another process may take the free port before node_exporter does: then another one.
  for (let attempt = 1; ; attempt += 1) {
    const port = options.port ?? (await freePort());
    const child = spawn(PROGRAM, [`--web.listen-address=127.0.0.1:${port}`, '--log.level=error', ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const log: string[] = [];
    child.stderr?.setEncoding('utf8').on('data', (text: string) => log.push(text));
    let failed: Error | undefined;
    child.on('error', (error) => {
      failed = error;
    });
    // No orphan may stay behind where the test's process ends early.
    const kill = () => child.kill('SIGKILL');
    process.on('exit', kill);
    const ended = () => failed !== undefined || child.exitCode !== null || child.signalCode !== null;
    const url = `http://127.0.0.1:${port}/metrics`;
    try {
      await until(async () => ended() || (await answers(url)), `${PROGRAM} to answer at ${url}`);
    } catch (error) {
      await stop(child, ended);
      throw error;
    }
    const { pid } = child;
    if (!ended() && pid !== undefined) {
      return {
        url,
        port,
        pid,
        stop: async () => {
          process.off('exit', kill);
          await stop(child, ended);
        },
      };
    }
    process.off('exit', kill);
    if (attempt === 3 || !/address already in use/.test(log.join(''))) {
      throw new Error(`${PROGRAM} ended at once: ${failed?.message ?? log.join('').trim()}`, { cause: failed });
    }
  }
}

async function stop(child: ChildProcess, ended: () => boolean): Promise<void> {
  if (ended()) return;
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await exit;
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}?collect[]=time`);
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}
