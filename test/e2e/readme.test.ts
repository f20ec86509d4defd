import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { freePort } from '../ports.ts';
import { Running } from '../programs.ts';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const blocks = (language: string) =>
  [...readme.matchAll(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``, 'g'))].map((match) => match[1] ?? '');
const commands = blocks('sh').flatMap((block) =>
  block
    .trim()
    .split('\n')
    .map((line) => line.replace(/ +#.*/, '').trim()),
);
const scripts = (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: { [name: string]: string } }).scripts;

/** The README's two configurations, as files. */
function configurations(): { aggregator: string; agent: string; dir: string } {
  const dir = tempDir();
  const [aggregator = '', agent = ''] = blocks('json');
  writeFileSync(join(dir, 'aggregator.json'), aggregator);
  writeFileSync(join(dir, 'agent.json'), agent);
  return { dir, aggregator: join(dir, 'aggregator.json'), agent: join(dir, 'agent.json') };
}

describe('the README', () => {
  it('names only commands that there are, and links only to what is there', () => {
    for (const command of commands) {
      const script = /^npm (?:run (?:-s )?)?(\S+)/.exec(command)?.[1] ?? '';
      expect(Object.keys(scripts), command).toContain(script);
    }
    for (const [, target = ''] of readme.matchAll(/\]\(([^)#]+)\)/g)) expect(existsSync(join(root, target)), target).toBe(true);
  });

  it('an agent on another machine joins with the two configurations it shows', async () => {
    const { dir, aggregator, agent } = configurations();
    const ports = { http: await freePort(), mqtt: await freePort() };
    const shown = JSON.parse(readFileSync(agent, 'utf8')) as { routers: unknown[] };
    const central = new Running('aggregator', ['run', '--config', aggregator], {
      NDT_DATA_DIR: join(dir, 'central'),
      NDT_AGGREGATOR_HTTP_PORT: String(ports.http),
      NDT_AGGREGATOR_MQTT_PORT: String(ports.mqtt),
    });
    onTestFinished(async () => void (await central.stop()));
    await central.says('aggregator runs');
    const edge = new Running('agent', ['run', '--config', agent], {
      NDT_DATA_DIR: join(dir, 'edge'),
      NDT_AGENT_HTTP_PORT: '0',
      NDT_MQTT_URL: `mqtt://127.0.0.1:${ports.mqtt}`,
    });
    onTestFinished(async () => void (await edge.stop()));
    await until(async () => {
      const response = await fetch(`http://127.0.0.1:${ports.http}/api/v1/routers/edge-7`);
      return response.ok && ((await response.json()) as { latest: { power: number | null } }).latest.power !== null;
    }, 'the edge’s records on the aggregator');
    expect(shown.routers).toHaveLength(2);
    // r1 is not there: the agent says so once, and goes on.
    expect(edge.log).toMatch(/r1.*http:\/\/r1:9100\/metrics/);
  });

  it('its commands do what they say', () => {
    const { dir } = configurations();
    const raw = readFileSync(join(root, 'test/fixtures/records/seed-raw.json'), 'utf8');
    const later = JSON.parse(raw) as { epoch_timestamp: string };
    later.epoch_timestamp = '1745233640.5';
    writeFileSync(join(dir, 'raw.ndjson'), [JSON.parse(raw), later].map((record) => `${JSON.stringify(record)}\n`).join(''));
    const flow: unknown = JSON.parse(readFileSync(join(root, 'test/fixtures/netflow/seed-example/input.json'), 'utf8'));
    writeFileSync(join(dir, 'flows.ndjson'), `${JSON.stringify(flow)}\n`);
    const run = (start: string) => {
      const command = commands.find((line) => line.startsWith(start));
      if (command === undefined) throw new Error(`the README has no command that starts with ${start}`);
      // As typed, with the files where this test has them.
      const typed = command.replaceAll(/(?<=[ <>])(config\/seed\.json|agent\.json|\w+\.ndjson)/g, (name) =>
        name === 'config/seed.json' ? name : join(dir, name),
      );
      return spawnSync('sh', ['-c', typed], { cwd: root, encoding: 'utf8', timeout: 60_000 });
    };
    expect(run('npm run -s agent -- run --check').stdout).toBe('config/seed.json is valid: 2 routers\n');
    expect(JSON.parse(run('npm run -s agent -- once').stdout.split('\n')[0] ?? '')).toMatchObject({ node_exporter: 'edge-7:9100' });
    // Whether an exporter runs there or not: it prints JSON, or says that there is none.
    const collected = run('npm run -s agent -- collect');
    expect(collected.status === 0 ? (JSON.parse(collected.stdout) as object) : collected.stderr).toEqual(
      collected.status === 0 ? expect.objectContaining({ node_exporter: '127.0.0.1:9100' }) : expect.stringContaining('127.0.0.1:9100'),
    );
    expect(run('npm run -s aggregator -- rates').status).toBe(0);
    expect(run('npm run -s ml -- infer').status).toBe(0);
    const inferred = readFileSync(join(dir, 'inferred.ndjson'), 'utf8').trim().split('\n');
    expect(inferred).toHaveLength(1);
    expect(run('npm run -s aggregator -- netflow').status).toBe(0);
    expect(JSON.parse(readFileSync(join(dir, 'records.ndjson'), 'utf8'))).toHaveProperty('netflow-v9:netflow');
    // Neither r1 nor the aggregator is there: the doctor says so, and what to do.
    const doctor = run('npm run -s agent -- doctor');
    expect(doctor.status).toBe(1);
    expect(doctor.stdout).toMatch(/FAIL.*r1/);
    expect(run('npm run -s agent -- buffer status').stderr).toContain('there is no buffer');
    expect((JSON.parse(inferred[0] ?? '') as { output_ml_metrics: unknown[] }).output_ml_metrics).toHaveLength(3);
  });

  it('the picture is there', () => {
    expect(readFileSync(join(root, 'docs/page.png')).subarray(0, 8).toString('latin1')).toBe('\x89PNG\r\n\x1a\n');
  });
});
