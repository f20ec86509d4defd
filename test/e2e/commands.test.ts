import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parseExposition } from '../../agent/exposition.ts';
import { Pair, type ProgramName, Running, runOnce } from '../programs.ts';
import { listening, serve } from '../serve.ts';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

const PROGRAMS: ProgramName[] = ['agent', 'aggregator', 'ml'];
const seed = (stage: string) =>
  JSON.stringify(JSON.parse(readFileSync(new URL(`../fixtures/records/seed-${stage}.json`, import.meta.url), 'utf8')));
const file = (text: string | object, name = 'ndt.json') => {
  const path = join(tempDir(), name);
  writeFileSync(path, typeof text === 'string' ? text : JSON.stringify(text));
  return path;
};

describe.each(PROGRAMS)('%s', (program) => {
  it('tells its version, and helps with examples', () => {
    expect(runOnce(program, ['--version']).stdout).toMatch(new RegExp(`^ndt-${program} \\d+\\.\\d+\\.\\d+\\n$`));
    const help = runOnce(program, ['--help']);
    expect(help.status).toBe(0);
    expect(help.stdout).toContain('Examples:');
    expect(runOnce(program, ['run', '--help']).stdout).toContain('--dump-config');
  });
  it('without a command: the help, and exit code 64', () => {
    const { status, stderr } = runOnce(program, []);
    expect([status, stderr.includes('Usage:')]).toEqual([64, true]);
  });
  it('an unknown command or option: what there is, and exit code 64', () => {
    expect(runOnce(program, ['dance'])).toMatchObject({
      status: 64,
      stderr: expect.stringContaining('there is no command "dance": the commands are run'),
    });
    expect(runOnce(program, ['run', '--loud'])).toMatchObject({ status: 64, stderr: expect.stringContaining("Unknown option '--loud'") });
  });
  it('--check: a good configuration, and a bad one with its place and exit code 78', () => {
    expect(runOnce(program, ['run', '--check', '--config', file({ routers: [{ r1: {} }] })])).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/is valid: 1 router\n$/),
    });
    const bad = runOnce(program, ['--check', '--config', file('{\n"multiplier": "x"}')]);
    expect(bad.status).toBe(78);
    expect(bad.stderr).toMatch(/ndt\.json:2: multiplier: expected a whole number from 1 to 2000, got "x"\n$/);
    expect(bad.stderr).not.toContain('    at ');
    expect(runOnce(program, ['--check', '--config', '/nowhere.json'])).toMatchObject({
      status: 78,
      stderr: expect.stringContaining('/nowhere.json: there is no such file'),
    });
  });
  it('--dump-config: the effective configuration with the environment in it, secrets masked', () => {
    const { stdout } = runOnce(program, ['run', '--dump-config', '--config', file({ mqtt: { password: 'hush' } })], {
      env: { NDT_POLLING_INTERVAL: '2.5' },
    });
    expect(JSON.parse(stdout)).toMatchObject({ polling_interval: 2.5, mqtt: { password: '********' } });
  });
  it('an unwritable data folder: which one, and what to do', () => {
    const { status, stderr } = runOnce(program, ['run', '--config', file({ data_dir: '/dev/null/ndt', routers: [{ r1: {} }] })]);
    expect(status).toBe(73);
    expect(stderr).toMatch(
      /cannot write to the data folder \/dev\/null\/ndt\/\w+ \(ENOTDIR\): make it writable for this user, or set data_dir \(NDT_DATA_DIR\)/,
    );
  });
  it('a port in use: which one, and the option to change', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    onTestFinished(() => void server.close());
    await until(() => server.listening, 'the port');
    const { port } = server.address() as { port: number };
    const { status, stderr } = runOnce(
      program,
      ['run', '--config', file({ routers: [{ r1: {} }], aggregator: { mqtt: { port: 0 } }, [program]: { http: { port } } })].slice(0, 3),
      {},
    );
    expect(status).toBe(73);
    expect(stderr).toContain(
      `port ${port} on 127.0.0.1 is in use: stop the program that has it, or set ${program}.http.port (NDT_${program.toUpperCase()}_HTTP_PORT) to another`,
    );
  });
});

it.each([
  ['no routers', { routers: [] }],
  ['a file of test metrics that is missing', { routers: [{ r1: { test_metrics: true } }] }],
  ['a token file that is missing', { routers: [{ r1: {} }], agent: { http: { port: 0, token_file: 'missing' } } }],
  [
    'a password file that is missing',
    {
      routers: [{ r1: {} }],
      agent: { uplink: 'kafka', http: { port: 0 } },
      kafka: { sasl: { username: 'edge', password_file: 'missing' } },
    },
  ],
  ['an interval that no clock tells', { routers: [{ r1: { polling_interval: 1e-10 } }] }],
  ['a bare % in a password', { routers: [{ r1: { url: 'http://edge:100%safe@127.0.0.1:9/metrics' } }] }],
])('agent run --check refuses what run refuses: %s', (_what, settings) => {
  const config = file(settings);
  const [check, run] = [runOnce('agent', ['run', '--check', '--config', config]), runOnce('agent', ['run', '--config', config])];
  expect(check).toMatchObject({ status: 78, stdout: '' });
  expect(check.stderr).not.toMatch(/ {4}at |100%safe/);
  expect(run).toEqual(check);
});

describe('the filters', () => {
  const raw = (seconds: number, bytes: number, packets: number) => {
    const record = JSON.parse(seed('raw'));
    record.epoch_timestamp = String(seconds);
    record.metrics[0].values[0].value = String(bytes);
    record.metrics[1].values[0].value = String(packets);
    return JSON.stringify(record);
  };
  it('aggregator rates: raw in, processed out; a bad line is told by its number, and the exit code is 1', () => {
    const input = [raw(100, 1000, 10), raw(105, 8320, 15), 'nonsense', '{"node_exporter": 5}', raw(110, 8320, 15), ''].join('\n');
    const { status, stdout, stderr } = runOnce('aggregator', ['rates'], { input });
    const records = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(records.map((r) => r.input_ml_metrics.map((m: { value: number }) => m.value))).toEqual([
      [2000, 1464, ((7320 * 8) / 5 / 100e6) * 100],
      [0, 0, 0],
    ]);
    expect(records[0].debug_params.process_timestamp).toMatch(/^\d{13}$/);
    expect(stderr).toContain('line 3: not JSON');
    expect(stderr).toContain('line 4: node_exporter: expected text, got number 5');
    expect(stderr).toContain('1 interval without a rate: first');
    expect(status).toBe(1);
  });
  it('ml infer: processed in, inferred out', () => {
    const { status, stdout } = runOnce('ml', ['infer'], { input: `${seed('processed')}\n` });
    expect(status).toBe(0);
    expect(JSON.parse(stdout).output_ml_metrics[0].value[0]).toBeCloseTo(698.8288, 4);
    expect(runOnce('ml', ['infer'], { input: '{}\n' })).toMatchObject({
      status: 1,
      stdout: '',
      stderr: expect.stringContaining('line 1: node_exporter: expected text, got nothing'),
    });
  });
  it('one after the other they are the pipeline', () => {
    const { stdout } = runOnce('aggregator', ['rates'], { input: `${raw(1, 1, 1)}\n${raw(2, 1001, 2)}\n` });
    expect(runOnce('ml', ['infer'], { input: stdout }).stdout.trim().split('\n')).toHaveLength(1);
  });
});

describe('agent once and collect', () => {
  it('once prints a raw record a router, and a processed one when asked', () => {
    const config = file({ polling_interval: 0.2, routers: [{ r1: { interfaces: ['lo'] } }] });
    const record = JSON.parse(runOnce('agent', ['once', '--config', config]).stdout);
    expect(record).toMatchObject({ node_exporter: 'r1:9100', interfaces: ['lo'] });
    expect(record.metrics.map((m: { name: string }) => m.name)).toEqual([
      'node_network_receive_bytes_total',
      'node_network_receive_packets_total',
    ]);
    expect(JSON.parse(runOnce('agent', ['once', '--processed', '--config', config]).stdout).input_ml_metrics).toHaveLength(3);
  });
  it('once --processed prints processed records also where the agent ships raw ones', () => {
    const config = file({ polling_interval: 0.2, routers: [{ r1: { interfaces: ['lo'] } }], agent: { ship: 'raw' } });
    const { status, stdout, stderr } = runOnce('agent', ['once', '--processed', '--config', config]);
    expect([status, stderr]).toEqual([0, '']);
    expect(JSON.parse(stdout).input_ml_metrics).toHaveLength(3);
  });
  it('once goes on when one router is down, and says which', () => {
    const config = file({ routers: [{ up: { interfaces: ['lo'] } }, { down: { url: 'http://127.0.0.1:9/metrics' } }] });
    const { status, stdout, stderr } = runOnce('agent', ['once', '--config', config]);
    expect(status).toBe(69);
    expect(stdout.trim().split('\n')).toHaveLength(1);
    expect(stderr).toMatch(/down: .*127\.0\.0\.1:9.*ECONNREFUSED/);
  });
  it('collect explains what it cannot reach', () => {
    expect(runOnce('agent', ['collect', 'http://127.0.0.1:9/metrics'])).toMatchObject({
      status: expect.any(Number),
      stderr: expect.stringContaining('ECONNREFUSED'),
    });
    expect(runOnce('agent', ['collect'])).toMatchObject({ status: 64 });
    const { status, stderr } = runOnce('agent', ['collect', 'http://edge:100%safe@127.0.0.1:9/metrics']);
    expect(status).toBe(64);
    expect(stderr).toMatch(/"http:\/\/edge:\*\*\*@127\.0\.0\.1:9\/metrics" is not the address .*% is written %25/);
    expect(stderr).not.toMatch(/ {4}at |100%safe/);
  });
});

describe('running', () => {
  const routers = [{ r1: { interfaces: ['lo'], polling_interval: 0.1 } }];

  it('answers health, readiness, metrics and the collector’s JSON; ends within 5 s of SIGTERM', async () => {
    const pair = await Pair.make(tempDir(), { routers });
    onTestFinished(() => pair.stop());
    const aggregator = await pair.aggregator();
    const agent = await pair.agent();
    await until(async () => (await fetch(`${pair.agentUrl}/readyz`)).ok, 'the agent to be ready');
    expect(await (await fetch(`${pair.agentUrl}/healthz`)).text()).toBe('ok\n');
    await until(() => pair.stored('inferred').length > 3, 'records');
    for (const url of [pair.agentUrl, pair.url]) {
      const families = parseExposition(await (await fetch(`${url}/metrics`)).text());
      expect(families.length).toBeGreaterThan(10);
    }
    const collected = await (await fetch(`${pair.agentUrl}/metrics/r1_9100.json`)).json();
    expect(collected).toMatchObject({
      node_exporter: 'r1:9100',
      metrics: expect.arrayContaining([expect.objectContaining({ name: 'node_network_transmit_bytes_total' })]),
    });
    expect((await fetch(`${pair.agentUrl}/metrics/r2_9100.json`)).status).toBe(404);
    for (const program of [agent, aggregator]) {
      const started = performance.now();
      expect(await program.stop()).toEqual({ code: 0, signal: null });
      expect(performance.now() - started).toBeLessThan(5000);
    }
  });

  it('a second agent or aggregator on the same data is refused', async () => {
    const pair = await Pair.make(tempDir(), { routers });
    onTestFinished(() => pair.stop());
    await pair.aggregator();
    await pair.agent();
    for (const program of ['agent', 'aggregator'] as const) {
      expect(runOnce(program, ['run', '--config', pair.config])).toMatchObject({
        status: 69,
        stderr: expect.stringContaining(`another ndt ${program} is running on`),
      });
    }
  });

  it('a wrong password is told with what to do, and nothing is lost', async () => {
    const settings = { routers, aggregator: { mqtt: { users: { edge: { password: 'right' } } } }, mqtt: { password: 'wrong' } };
    const pair = await Pair.make(tempDir(), settings);
    onTestFinished(() => pair.stop());
    const aggregator = await pair.aggregator();
    const agent = await pair.agent();
    await agent.says(/refused agent .*password/);
    await until(() => pair.ledger().pending > 5, 'records to wait');
    pair.configure({
      ...JSON.parse(readFileSync(pair.config, 'utf8')),
      mqtt: { ...JSON.parse(readFileSync(pair.config, 'utf8')).mqtt, password: 'right' },
    });
    await agent.says('configuration reloaded');
    await until(() => pair.ledger().pending < 3, 'the records to go out');
    expect(aggregator.child.exitCode).toBeNull();
  });

  it('ML as a process of its own does what the embedded one does', async () => {
    const pair = await Pair.make(tempDir(), { routers, ml: { enabled: false, http: { port: 0 } } });
    onTestFinished(() => pair.stop());
    await pair.aggregator();
    const agent = await pair.agent();
    await until(() => pair.stored('processed').length > 3, 'processed records');
    expect(pair.stored('inferred')).toEqual([]);
    const ml = new Running('ml', ['run', '--config', pair.config]);
    onTestFinished(() => void ml.child.kill('SIGKILL'));
    await ml.says('ml runs');
    await until(() => pair.stored('inferred').length > 10, 'inferred records');
    await agent.stop();
    await until(() => pair.stored('inferred').length === pair.stored('processed').length, 'all to be inferred');
    expect(await ml.stop()).toEqual({ code: 0, signal: null });
  });
});

it('an agent told of an interface that is not there says so once, and counts the others', async () => {
  const pair = await Pair.make(tempDir(), { routers: [{ r1: { interfaces: ['lo', 'gone0'], polling_interval: 0.1 } }] });
  onTestFinished(() => pair.stop());
  await pair.aggregator();
  const agent = await pair.agent();
  await until(() => pair.stored('processed').length > 5, 'records');
  expect(agent.log.match(/interfaces of r1: there is no gone0; the others are counted/g)).toHaveLength(1);
}, 60_000);

describe('reloading', () => {
  it('SIGTERM during a reload ends it although a router hangs', async () => {
    let asked = 0;
    const { url } = await serve(() => {
      asked += 1;
    });
    const routers = [{ slow: { url: `${url}/metrics`, polling_interval: 0.1 } }];
    const pair = await Pair.make(tempDir(), { routers, agent: { timeout: 60 } });
    onTestFinished(() => pair.stop());
    const agent = await pair.agent();
    await until(() => asked > 0, 'the router to be asked');
    agent.child.kill('SIGHUP');
    // Two signals in a row may be heard in the other order.
    await agent.says('reloading (SIGHUP)');
    // Exit code 1 would be that of the 5 s that a program has for its end.
    expect(await agent.stop()).toEqual({ code: 0, signal: null });
    expect(agent.log).toContain('configuration reloaded (SIGHUP)');
  });

  it('SIGHUP during the end begins nothing anew', async () => {
    const { url } = await serve(() => {});
    // Takes connections and never answers: the last word waits for it.
    const port = await listening(createServer());
    const routers = [{ slow: { url: `${url}/metrics`, polling_interval: 0.1 } }];
    const pair = await Pair.make(tempDir(), { routers, mqtt: { url: `mqtt://127.0.0.1:${port}` }, agent: { timeout: 60 } });
    onTestFinished(() => pair.stop());
    const agent = await pair.agent();
    agent.child.kill('SIGTERM');
    await agent.says('stopping (SIGTERM)');
    agent.child.kill('SIGHUP');
    expect(await agent.exited).toEqual({ code: 0, signal: null });
    expect(agent.log).not.toMatch(/reload/);
  });

  /** Sequence numbers without a hole, and no interval of two missed polls: a reload costs none, a busy machine may cost one. */
  const expectSteady = (pair: Pair, intervalS: number) => {
    const times = pair.stored('processed').map(({ at }) => at);
    const longest = Math.max(...times.slice(1).map((at, i) => (at - (times[i] ?? 0)) / 1e6));
    expect(longest).toBeLessThan(intervalS * 2.5);
  };

  // Again where the machine itself stood still for half a second.
  it('a changed file, SIGHUP and a swapped symbolic link take effect without losing a sample; a bad file is refused', {
    timeout: 60_000,
    retry: 2,
  }, async () => {
    const dir = tempDir();
    const pair = await Pair.make(dir, { experiment_id: 'one', routers: [{ r1: { interfaces: ['lo'], polling_interval: 0.2 } }] });
    onTestFinished(() => pair.stop());
    // As a ConfigMap is mounted: the file is a link into a folder that is a link.
    const good = JSON.parse(readFileSync(pair.config, 'utf8'));
    const put = (version: string, settings: unknown) => {
      mkdirSync(join(dir, version));
      writeFileSync(join(dir, version, 'ndt.json'), typeof settings === 'string' ? settings : JSON.stringify(settings));
      symlinkSync(version, join(dir, '..data_tmp'));
      renameSync(join(dir, '..data_tmp'), join(dir, '..data'));
    };
    put('..v1', good);
    renameSync(pair.config, join(dir, 'old.json'));
    symlinkSync('..data/ndt.json', pair.config);

    await pair.aggregator();
    const agent = await pair.agent();
    const experiments = () =>
      new Set(pair.stored('processed').map(({ body }) => (JSON.parse(body) as { experiment_id: string }).experiment_id));
    await until(() => experiments().has('one'), 'records of the first configuration');
    put('..v2', { ...good, experiment_id: 'two' });
    await until(() => experiments().has('two'), 'records of the second configuration');
    put('..v3', '{ "experiment_id": ');
    await agent.says('the new configuration is refused and the old one stays in force');
    put('..v4', { ...good, experiment_id: 'four', data_dir: 'elsewhere' });
    await agent.says('data_dir cannot change while the agent runs');
    put('..v4b', { ...good, experiment_id: 'four', routers: [] });
    await agent.says('names no routers: add some to');
    put('..v5', { ...good, experiment_id: 'five' });
    agent.child.kill('SIGHUP');
    await until(() => experiments().has('five'), 'records of the fifth configuration');
    expect([...experiments()].sort()).toEqual(['five', 'one', 'two']);
    expectSteady(pair, 0.2);
  });
});
