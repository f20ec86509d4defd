import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { makeBuffer, writeConfig } from '../test/buffer.ts';
import { bad, examined, lines } from '../test/doctor.ts';
import { Pair, runOnce } from '../test/programs.ts';
import { listening, serve } from '../test/serve.ts';
import { tempDir } from '../test/tempdir.ts';
import { until } from '../test/until.ts';
import { examine } from './doctor/examine.ts';
import { exitCodeOf } from './doctor/finding.ts';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));

describe('with an aggregator', () => {
  const routers = [{ r1: { interfaces: ['lo'], polling_interval: 0.2 } }];
  const settings = { routers, aggregator: { mqtt: { users: { edge: { password: 'right' } } } } };
  const withPassword = async (password: string, more: object = {}) => {
    const pair = await Pair.make(tempDir(), { ...settings, mqtt: { password }, ...more });
    chmodSync(pair.config, 0o600);
    onTestFinished(() => pair.stop());
    return pair;
  };

  it('all is well before the agent has ever run: exit code 0, and it has really been let in', async () => {
    const pair = await withPassword('right');
    await pair.aggregator();
    const told = examined(pair.config);
    expect(bad(told)).toEqual([]);
    expect([told.status, told.verdict]).toEqual([0, 'ok']);
    expect(lines(told, 'uplink')[0]?.text).toMatch(/takes agent "edge" \(\d+ ms\), and what it publishes to ndt\/1\/edge\/records$/);
    expect(lines(told, 'agent')[0]?.text).toContain('none runs on');
    expect(lines(told, 'buffer')[0]?.text).toBe('there is none yet');
    // It looks, and makes nothing.
    expect(lines(examined(pair.config), 'buffer')[0]?.text).toBe('there is none yet');
    // What it published held no record.
    expect((await pair.get<{ agents: unknown[] }>('/api/v1/ledger')).agents ?? []).toEqual([]);
  });

  it('all is well while the agent runs, which is not put out by it', async () => {
    const pair = await withPassword('right');
    const aggregator = await pair.aggregator();
    const agent = await pair.agent();
    await until(() => pair.stored('processed').length > 3, 'records');
    for (let round = 0; round < 3; round += 1) {
      const told = examined(pair.config);
      expect(bad(told)).toEqual([]);
      expect(lines(told, 'uplink')[0]?.text).toBe(`the running agent is connected to mqtt://127.0.0.1:${pair.mqttPort}`);
      expect(lines(told, 'agent')[0]?.text).toMatch(/^runs at http:/);
    }
    expect(aggregator.log).not.toContain('that connection is ended');
    expect(agent.log).not.toContain('uplink:');
  }, 60_000);

  it('a wrong password: FAIL, with what to set; exit code 1', async () => {
    const pair = await withPassword('wrong');
    await pair.aggregator();
    const told = examined(pair.config);
    expect(told.status).toBe(1);
    expect(bad(told)).toEqual([
      {
        check: 'uplink',
        health: 'fail',
        text: expect.stringMatching(/refused agent "edge": user name or password is wrong.*set mqtt\.password_file/),
      },
    ]);
  });

  it('a running agent that gets no connection: why not', async () => {
    const pair = await withPassword('wrong');
    await pair.aggregator();
    const agent = await pair.agent();
    await agent.says(/refused agent/);
    const told = examined(pair.config);
    expect(lines(told, 'agent')[0]?.health).toBe('ok');
    expect(lines(told, 'uplink')).toEqual([
      { check: 'uplink', health: 'fail', text: expect.stringContaining('user name or password is wrong') },
    ]);
  });

  it('an agent that cannot be asked: its connection is left alone', async () => {
    const pair = await withPassword('right');
    const aggregator = await pair.aggregator();
    await pair.agent();
    await until(() => pair.stored('processed').length > 1, 'records');
    const other = JSON.parse(readFileSync(pair.config, 'utf8'));
    other.agent.http.port = await listening((await import('node:net')).createServer());
    writeFileSync(join(pair.dir, 'other.json'), JSON.stringify(other), { mode: 0o600 });
    const told = examined(join(pair.dir, 'other.json'));
    expect(told.status).toBe(2);
    expect(lines(told, 'uplink')[0]).toMatchObject({
      health: 'warning',
      text: expect.stringContaining('trying would put it out'),
      remedy: expect.stringContaining('does not answer'),
    });
    expect(aggregator.log).not.toContain('that connection is ended');
  });
});

describe('sources', () => {
  it('each on its own line: unreachable, missing interface, slow, no metrics, well', async () => {
    const slow = await serve(
      (_, response) =>
        void setTimeout(
          () => response.end('# TYPE node_network_receive_bytes_total counter\nnode_network_receive_bytes_total{device="eth0"} 1\n'),
          300,
        ),
    );
    const page = await serve((_, response) => response.end('<html>hello</html>'));
    const config = writeConfig(tempDir(), {
      routers: [
        { well: { interfaces: ['lo'] } },
        { part: { interfaces: ['lo', 'eth99'] } },
        { dead: { url: 'http://127.0.0.1:9/metrics' } },
        { slow: { url: `${slow.url}/metrics`, polling_interval: 0.2 } },
        { page: { url: `${page.url}/metrics` } },
        { file: { test_metrics: true } },
      ],
    });
    // In this process, which has the servers.
    const told = { checks: (await examine(config)).findings };
    const of = (name: string) => lines(told, `source ${name}`)[0];
    expect(of('well')).toMatchObject({ health: 'ok', text: expect.stringMatching(/^procfs answers in \d+ ms: lo$/) });
    expect(of('part')).toMatchObject({
      health: 'warning',
      text: expect.stringContaining('there is no eth99'),
      remedy: expect.stringContaining('"interfaces"'),
    });
    expect(of('dead')).toMatchObject({
      health: 'fail',
      text: expect.stringMatching(/cannot reach .*127\.0\.0\.1:9.*ECONNREFUSED.*is the exporter running there\?/),
    });
    expect(of('slow')).toMatchObject({ health: 'warning', text: expect.stringContaining('longer than the polling interval of 0.2 s') });
    expect(of('page')).toMatchObject({ health: 'fail', text: expect.stringContaining('answers no metrics') });
    expect(of('file')).toMatchObject({ health: 'fail', text: expect.stringContaining('test_metrics_file.json: there is no such file') });
    expect(exitCodeOf(told.checks)).toBe(1);
  });
});

describe('configuration', () => {
  it('that is refused: each complaint with its place, and nothing else is looked at', () => {
    const config = join(tempDir(), 'bad.json');
    writeFileSync(config, '{\n"multiplier": "x",\n"polling_interval": -1}');
    const told = examined(config);
    expect(told).toMatchObject({ status: 1, verdict: 'fail' });
    expect(told.checks.map(({ text }) => text)).toEqual([
      expect.stringContaining('bad.json:2: multiplier: expected'),
      expect.stringContaining('bad.json:3: polling_interval: expected'),
    ]);
  });

  it('odd variables, a secret that everyone may read, no routers', () => {
    const dir = tempDir();
    const config = writeConfig(dir, { mqtt: { url: 'mqtt://127.0.0.1:9', timeout: 1, password: 'secret' }, routers: [] });
    chmodSync(config, 0o644);
    const told = examined(config, { NDT_POLING_INTERVAL: '3' });
    const texts = lines(told, 'configuration').map(({ health, text }) => `${health}: ${text}`);
    expect(texts).toEqual([
      expect.stringContaining(
        'warning: the environment variable NDT_POLING_INTERVAL is no option of ndt; did you mean "NDT_POLLING_INTERVAL"?',
      ),
      expect.stringContaining('no routers, so the agent does not start'),
      expect.stringContaining('holds mqtt.password and may be read by everyone'),
    ]);
    expect(JSON.stringify(told)).not.toContain('"secret"');
  });

  it('a password in the clear to another host', () => {
    const config = writeConfig(tempDir(), { mqtt: { url: 'mqtt://192.0.2.1:1883', timeout: 0.3, password: 'x' } });
    expect(lines(examined(config), 'uplink')).toEqual([
      {
        check: 'uplink',
        health: 'warning',
        text: 'the password goes to 192.0.2.1 in the clear',
        remedy: expect.stringContaining('mqtts://'),
      },
      { check: 'uplink', health: 'fail', text: expect.stringContaining('192.0.2.1') },
    ]);
  });

  it('certificates: missing, and about to expire', () => {
    const dir = tempDir();
    const missing = writeConfig(dir, {
      mqtt: { url: 'mqtts://127.0.0.1:9', timeout: 1, tls: { cert_file: 'no.crt', key_file: 'no.key' } },
    });
    expect(lines(examined(missing), 'certificate')).toEqual([
      { check: 'certificate', health: 'fail', text: expect.stringMatching(/mqtt\.tls\.cert_file: cannot read .*no\.crt \(ENOENT\)/) },
    ]);
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-nodes',
        '-days',
        '3',
        '-subj',
        '/CN=edge',
        '-keyout',
        join(dir, 'edge.key'),
        '-out',
        join(dir, 'edge.crt'),
      ],
      { stdio: 'ignore' },
    );
    const soon = writeConfig(dir, {
      mqtt: { url: 'mqtts://127.0.0.1:9', timeout: 1, tls: { cert_file: 'edge.crt', key_file: 'edge.key' } },
    });
    expect(lines(examined(soon), 'certificate')).toEqual([
      {
        check: 'certificate',
        health: 'warning',
        text: expect.stringMatching(/CN=edge.* expires in (2 days|3 days)/),
        remedy: 'renew it',
      },
    ]);
  });
});

it.each([
  ['mqtt', { mqtt: { url: 'mqtt://127.0.0.1:9', password_file: 'missing' } }],
  ['kafka', { agent: { uplink: 'kafka' }, kafka: { brokers: ['127.0.0.1:9'], sasl: { username: 'edge', password_file: 'missing' } } }],
])('a password file of %s that is missing: the uplink fails, and all else is looked at', (_kind, settings) => {
  const told = examined(writeConfig(tempDir(), settings));
  expect(told.checks.filter(({ health }) => health === 'fail')).toEqual([
    { check: 'uplink', health: 'fail', text: expect.stringMatching(/password_file: cannot read .*missing \(ENOENT\)/) },
  ]);
  for (const check of ['source r1', 'clock', 'disk', 'buffer']) expect(lines(told, check), check).not.toEqual([]);
});

describe('buffer', () => {
  it('for how long an outage it lasts, and a warning where that is short', () => {
    const roomy = examined(makeBuffer(tempDir(), 5).config);
    expect(lines(roomy, 'outage')[0]).toMatchObject({
      health: 'ok',
      text: expect.stringMatching(/^the buffer lasts (6 days 23 h|7 days) more .*agent\.buffer\.max_age is reached$/),
    });
    const tight = examined(
      makeBuffer(tempDir(), 5, { settings: { polling_interval: 0.1, agent: { buffer: { max_bytes: 2 ** 21 } } } }).config,
    );
    expect(lines(tight, 'outage')[0]).toMatchObject({ health: 'warning', remedy: expect.stringContaining('raise agent.buffer.max_bytes') });
  });

  it('damaged, of another agent, and files put aside', () => {
    const damaged = makeBuffer(tempDir(), 50);
    writeFileSync(damaged.file, 'Dear diary');
    expect(lines(examined(damaged.config), 'buffer')[0]).toMatchObject({
      health: 'fail',
      text: expect.stringContaining('is no SQLite database'),
    });
    const dir = tempDir();
    const { file } = makeBuffer(dir, 5);
    writeFileSync(`${file}.damaged-20260504T120000Z`, 'x');
    const told = examined(writeConfig(dir, { agent: { id: 'renamed' } }));
    expect(lines(told, 'buffer')[0]).toMatchObject({
      health: 'warning',
      text: expect.stringContaining('they are of agent "edge", and the configuration says "renamed"'),
    });
    expect(lines(told, 'put aside')[0]).toMatchObject({ health: 'warning' });
  });
});

describe('what it prints', () => {
  it('one line each, with the remedy, and a count at the end', () => {
    const config = writeConfig(tempDir(), { routers: [{ r1: { interfaces: ['lo', 'eth99'] } }] });
    const { status, stdout } = runOnce('agent', ['doctor', '--config', config]);
    expect(status).toBe(1);
    const printed = stdout.trimEnd().split('\n');
    expect(printed.slice(0, -2).every((row) => /^(ok {5}|warning|FAIL {3}) {2}\S/.test(row))).toBe(true);
    expect(stdout).toMatch(/^warning {2}source r1 {6}.*: bring it up, or take it out of the router’s "interfaces"$/m);
    expect(stdout).toMatch(/^FAIL {5}uplink {9}nothing listens at mqtt:\/\/127\.0\.0\.1:9/m);
    expect(printed.at(-1)).toMatch(/^\d+ checks: \d+ ok, 1 warning, 1 failure$/);
    expect(stdout).not.toContain('\x1b');
  });

  it('in colour on a terminal, unless that is not wanted', async () => {
    const config = writeConfig(tempDir());
    const onTerminal = async (env: NodeJS.ProcessEnv) => {
      const child = spawn('script', ['-qfec', `'${process.execPath}' '${MAIN}' doctor --config '${config}'`, '/dev/null'], {
        stdio: ['ignore', 'pipe', 'ignore'],
        env: { ...process.env, TERM: 'xterm', NO_COLOR: '', ...env },
      });
      let screen = '';
      child.stdout.on('data', (chunk: Buffer) => {
        screen += String(chunk);
      });
      await new Promise((resolve) => child.once('close', resolve));
      return screen;
    };
    expect(await onTerminal({})).toContain('\x1b[31mFAIL');
    expect(await onTerminal({ NO_COLOR: '1' })).not.toContain('\x1b[');
  });

  it('says in its help what its exit codes are', () => {
    expect(runOnce('agent', ['doctor', '--help']).stdout).toMatch(/exit code 0: all is well, 1: something fails, 2: warnings only/);
  });
});
