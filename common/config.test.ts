import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { tempDir } from '../test/tempdir.ts';
import { dumpConfig, loadConfig, options, secretOf } from './config.ts';
import { NdtError } from './errors.ts';

const seedConfig = {
  experiment_id: '7',
  flag_original_metrics: true,
  flag_debug_params: true,
  max_throughput_mbps: 100,
  polling_interval: 5,
  multiplier: 2000,
  routers: [
    {
      r1: {
        collector_url: 'http://collector:8080/metrics/r1_9100.json',
        topic: 'TD_r1',
        interfaces: ['eth2'],
        router_type: 'A',
        test_metrics: false,
      },
    },
    {
      r2: { collector_url: 'http://collector:8080/metrics/r2_9100.json', topic: 'TD_r2', interfaces: ['eth2', 'eth3'], test_metrics: true },
    },
  ],
};

const write = (text: string, name = 'config.json') => {
  const file = join(tempDir(), name);
  writeFileSync(file, text);
  return file;
};
const refusal = (file: string | undefined, env: NodeJS.ProcessEnv = {}) => {
  try {
    loadConfig(file, env);
  } catch (error) {
    if (error instanceof NdtError && error.code === 'CONFIG') return error.message.replaceAll(/\S*config\.json/g, 'config.json');
    throw error;
  }
  return 'taken';
};

describe('the seed’s config.json', () => {
  it('loads unchanged', () => {
    const { routers, config, warnings } = loadConfig(write(JSON.stringify(seedConfig)), {});
    expect(
      routers.map(({ name, source, url, rawTopic, interfaces, type, nodeExporter, multiplier }) => ({
        name,
        source,
        url,
        rawTopic,
        interfaces,
        type,
        nodeExporter,
        multiplier,
      })),
    ).toEqual([
      {
        name: 'r1',
        source: 'collector',
        url: 'http://collector:8080/metrics/r1_9100.json',
        rawTopic: 'TD_r1',
        interfaces: ['eth2'],
        type: 'A',
        nodeExporter: 'r1:9100',
        multiplier: 2000,
      },
      {
        name: 'r2',
        source: 'test-metrics',
        url: undefined,
        rawTopic: 'TD_r2',
        interfaces: ['eth2', 'eth3'],
        type: undefined,
        nodeExporter: 'r2:9100',
        multiplier: 2000,
      },
    ]);
    expect(config.topics.processed).toBe('TP_{router}');
    expect(warnings).toEqual([]);
  });
});

describe('bad configurations, each with its own message', () => {
  it('missing file', () => {
    expect(refusal('/nowhere/config.json')).toBe('config.json: there is no such file: check the path; config/ in the project has examples');
  });
  it('a folder', () => {
    expect(refusal(tempDir())).toContain('cannot be read');
  });
  it.each([
    ['empty', '', 'config.json:1:1: not valid JSON (expected a value): mend this place in the file'],
    [
      'broken',
      '{\n  "experiment_id": "1"\n  "multiplier": 3\n}',
      'config.json:3:3: not valid JSON (expected a comma or "}"): mend this place in the file',
    ],
    ['wrong type', '{\n "multiplier": "many"\n}', 'config.json:2: multiplier: expected a whole number from 1 to 2000, got "many"'],
    ['out of range', '{ "multiplier": 2001 }', 'config.json:1: multiplier: expected a whole number from 1 to 2000, got 2001'],
    ['typing error', '{ "multiplyer": 20 }', 'config.json:1: multiplyer: there is no such option; did you mean "multiplier"?'],
    [
      'faster than a clock tells',
      '{ "polling_interval": 1e-10 }',
      'config.json:1: polling_interval: expected a number from 0.001 to 86400, got 1e-10',
    ],
    [
      'a router faster than a clock tells',
      '{"routers": [{"r1": {"polling_interval": 0.0009}}]}',
      'config.json:1: routers[0].r1.polling_interval: expected a number from 0.001 to 86400, got 0.0009',
    ],
    [
      'deep down',
      '{"routers": [\n {"r1": {"interfaces": [\n  "eth0",\n  5\n ]}}]}',
      'config.json:4: routers[0].r1.interfaces[1]: expected text of at least 1 characters, got 5',
    ],
    [
      'no address',
      '{"routers": [{"r1": {"source": "collector"}}]}',
      'config.json:1: routers[0].r1.collector_url: expected an address, because the router’s source is collector',
    ],
    [
      'one of',
      '{"log": {"level": "loud"}}',
      'config.json:1: log.level: expected one of "trace", "debug", "info", "warn", "error", "fatal", got "loud"',
    ],
    ['twice', '{"routers": [{"r1": {}}, {"r1": {}}]}', 'config.json:1: routers[1].r1: this router stands in the list twice'],
    [
      'twice in one object',
      '{"routers": [{\n  "r1": {"url": "http://a:9100/metrics"},\n  "r1": {"url": "http://b:9100/metrics"}\n}]}',
      'config.json:3:3: "r1" stands twice in one object: only the last would count, so take one out',
    ],
    [
      'a bare % in a password',
      '{"routers": [\n  {"r1": {"url": "http://edge:100%safe@r1:9100/metrics"}}\n]}',
      'config.json:2: routers[0].r1.url: "http://edge:***@r1:9100/metrics" is not an address: in its login, % is written %25, / %2F, ? %3F and # %23',
    ],
    [
      'a bare / in a password',
      '{"routers": [{"r1": {"collector_url": "http://edge:fifty/fifty@c:8080/metrics/r1_9100.json"}}]}',
      'config.json:1: routers[0].r1.collector_url: "http://edge:***@c:8080/metrics/r1_9100.json" is not an address: write http://host:port/metrics/r1_9100.json; in its login, % is written %25, / %2F, ? %3F and # %23',
    ],
    [
      'an address without http://, with a password',
      '{"routers": [{"r1": {"url": "edge:secret@r1:9100/metrics"}}]}',
      'config.json:1: routers[0].r1.url: expected text that matches ^https?://, got "edge:***@r1:9100/metrics"',
    ],
    [
      'open to the world',
      '{"aggregator": {"mqtt": {"host": "0.0.0.0"}}}',
      'config.json:1: aggregator.mqtt.host: "0.0.0.0" is not loopback: set users, or tls with require_client_certificate, beside it, or insecure: true to go without',
    ],
    [
      'open HTTP',
      '{"agent": {"http": {"host": "::"}}}',
      'config.json:1: agent.http.host: "::" is not loopback: set token_file beside it, or insecure: true to go without',
    ],
  ])('%s', (_what, text, message) => {
    expect(refusal(write(text))).toBe(message);
  });
  it('an option that is called like a part of every object', () => {
    expect(refusal(write('{"constructor": 1}'))).toMatch(/^config\.json:1: constructor: there is no such option; there are: \$schema, /);
  });
  it('several at once', () => {
    expect(refusal(write('{"multiplier": 0, "max_throughput_mbps": "x"}')).split('\n')).toHaveLength(2);
  });
  it('a variable', () => {
    expect(refusal(undefined, { NDT_POLLING_INTERVAL: 'often' })).toBe(
      'environment variable NDT_POLLING_INTERVAL: expected a number from 0.001 to 86400, got "often"',
    );
  });
});

describe('the environment', () => {
  it('overrides the file, lists and numbers and switches alike', () => {
    const { config, warnings } = loadConfig(write('{"polling_interval": 9}'), {
      NDT_POLLING_INTERVAL: '1.5',
      NDT_EXCLUDE_INTERFACES: 'lo, tap*',
      NDT_ML_ENABLED: 'false',
      NDT_AGENT_HTTP_PORT: '0',
      NDT_ROUTERS: '[{"x1": {}}]',
      NDT_TEST_KAFKA: 'ours to ignore',
      NDT_POLING_INTERVAL: '3',
    });
    expect([config.polling_interval, config.exclude_interfaces, config.ml.enabled, config.agent.http.port]).toEqual([
      1.5,
      ['lo', 'tap*'],
      false,
      0,
    ]);
    expect(Object.keys(config.routers[0] ?? {})).toEqual(['x1']);
    expect(warnings).toEqual(['the environment variable NDT_POLING_INTERVAL is no option of ndt; did you mean "NDT_POLLING_INTERVAL"?']);
  });
  it('takes lists as JSON or between commas, also of addresses that begin with a bracket', () => {
    const brokers = (text: string) => loadConfig(undefined, { NDT_KAFKA_BROKERS: text }).config.kafka.brokers;
    expect(brokers('[fd00::7]:9092')).toEqual(['[fd00::7]:9092']);
    expect(brokers('[fd00::7]:9092, k2:9092')).toEqual(['[fd00::7]:9092', 'k2:9092']);
    expect(brokers(' ["k1:9092", "[::1]:9092"]')).toEqual(['k1:9092', '[::1]:9092']);
    expect(refusal(undefined, { NDT_KAFKA_BROKERS: '["k1:9092"' })).toMatch(/^environment variable NDT_KAFKA_BROKERS: expected a list/);
  });
  it('has one variable for one option', () => {
    const variables = options().map(({ variable }) => variable);
    expect(new Set(variables).size).toBe(variables.length);
  });
});

describe('secrets', () => {
  it('are masked in addresses too', () => {
    for (const password of ['geheim', 'ge@heim']) {
      const { config } = loadConfig(write(`{"routers": [{"r1": {"url": "http://ndt:${password}@192.0.2.1:9100/a@b"}}]}`), {});
      expect(dumpConfig(config)).toContain('"http://ndt:********@192.0.2.1:9100/a@b"');
    }
  });

  it('are masked when the configuration is printed', () => {
    const { config } = loadConfig(
      write(
        '{"mqtt": {"password": "hush"}, "aggregator": {"mqtt": {"users": {"a": {"password": "hush"}}}, "http": {"token": "hush-hush"}}}',
      ),
      {},
    );
    expect(dumpConfig(config)).not.toContain('hush');
    expect(JSON.parse(dumpConfig(config))).toMatchObject({ mqtt: { password: '********' } });
  });
  it('are read from files, relative to the configuration', () => {
    const file = write('{}');
    mkdirSync(join(file, '..', 'secrets'));
    writeFileSync(join(file, '..', 'secrets', 'pw'), 'hush\n');
    const loaded = loadConfig(file, {});
    expect(secretOf(loaded, undefined, 'secrets/pw', 'mqtt.password_file')).toBe('hush');
    expect(() => secretOf(loaded, undefined, 'secrets/none', 'mqtt.password_file')).toThrow(
      /mqtt\.password_file: cannot read .*none \(ENOENT\)/,
    );
    writeFileSync(join(file, '..', 'secrets', 'empty'), ' \n');
    expect(() => secretOf(loaded, undefined, 'secrets/empty', 'agent.http.token_file')).toThrow(
      /^agent\.http\.token_file: .*secrets\/empty is empty: write the secret into it$/,
    );
  });
});

it('every shipped configuration loads', () => {
  const dir = fileURLToPath(new URL('../config/', import.meta.url));
  const files = readdirSync(dir).filter((file) => file.endsWith('.json') && !/schema|models|test_metrics/.test(file));
  expect(files.length).toBeGreaterThan(0);
  for (const file of files) expect(() => loadConfig(join(dir, file), {})).not.toThrow();
});
