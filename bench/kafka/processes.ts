/** The three programs as real processes on one broker, with a folder, ports and topics of this measurement's own. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Child } from '../../scripts/start/child.ts';
import { freePort } from '../../test/ports.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

export type Program = 'agent' | 'aggregator' | 'ml';

export class Processes {
  readonly dir = mkdtempSync(join(tmpdir(), 'ndt-bench-'));
  readonly running = new Map<Program, Child>();
  private readonly bootstrap: string;
  private readonly settings: { [section: string]: object };

  constructor(bootstrap: string, settings: { [section: string]: object }) {
    this.bootstrap = bootstrap;
    this.settings = settings;
  }

  /** Resolves with where it listens, when it is ready. */
  async start(program: Program): Promise<string> {
    const http = { port: await freePort() };
    const config = join(this.dir, `${program}.json`);
    const { [program]: own, ...rest } = this.settings;
    writeFileSync(
      config,
      JSON.stringify({ data_dir: '.', bus: 'kafka', kafka: { brokers: [this.bootstrap] }, ...rest, [program]: { ...own, http } }),
    );
    const child = new Child(program, `${root}${program}/main.ts`, config, process.env, this.dir);
    this.running.set(program, child);
    const url = `http://127.0.0.1:${http.port}`;
    await child.ready(`${url}/readyz`);
    return url;
  }

  async stop(): Promise<void> {
    for (const child of [...this.running.values()].reverse()) await child.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
