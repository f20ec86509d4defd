/** The programs on Kafka, with a configuration of the test's own. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readTopic, type Seen } from './kcat.ts';
import { freePort } from './ports.ts';
import { fromSources, type Origin, type ProgramName, Running } from './programs.ts';

/** Everything committed on a topic, as an outside reader sees it; nothing while there is no such topic. */
export async function readCommitted(bootstrap: string, topic: string): Promise<Seen[]> {
  return await readTopic(bootstrap, topic).catch((error: unknown) => {
    if (/unknown topic/i.test(String(error))) return [];
    throw error;
  });
}

export class OnKafka {
  readonly dir: string;
  readonly bootstrap: string;
  private readonly settings: object;
  private readonly started: Running[] = [];
  private configs = 0;

  constructor(dir: string, bootstrap: string, settings: object) {
    this.dir = dir;
    this.bootstrap = bootstrap;
    this.settings = settings;
  }

  /** Starts a program with a data folder and ports of its own; `name` is the folder, the same one again is the same instance. */
  async start(
    program: ProgramName,
    name: string,
    more: { [section: string]: object } = {},
    origin: Origin = fromSources(program),
  ): Promise<Running & { url: string }> {
    const port = await freePort();
    const { kafka, agent, aggregator, ml, ...rest } = { ...this.settings, ...more } as { [section: string]: object };
    this.configs += 1;
    const file = join(this.dir, `${name}-${this.configs}.json`);
    const http = { http: { port } };
    writeFileSync(
      file,
      JSON.stringify({
        data_dir: join(this.dir, name),
        log: { format: 'json' },
        bus: 'kafka',
        kafka: { brokers: [this.bootstrap], session_timeout: 6, ...kafka },
        agent: { id: 'edge', uplink: 'kafka', ...http, ...agent },
        aggregator: { roles: ['rates', 'store', 'api'], ...http, ...aggregator },
        ml: { ...http, ...ml },
        ...rest,
      }),
    );
    const running = Object.assign(new Running(origin, ['run', '--config', file]), { url: `http://127.0.0.1:${port}` });
    this.started.push(running);
    await running.says(/(agent \S+|aggregator|ml) runs/);
    return running;
  }

  async stop(): Promise<void> {
    for (const running of this.started.splice(0).reverse()) await running.stop();
  }
}
