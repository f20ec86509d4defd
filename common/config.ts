/** Loading a configuration: file, environment, defaults, checks; every complaint with its place. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, isAbsolute, resolve } from 'node:path';
import { addressRemedy, httpUrl, withoutPassword } from './address.ts';
import { codeOf, messageOf, NdtError } from './errors.ts';
import { lineOf, parseFault, repeatedName } from './json-places.ts';
import type { Config, HttpSettings, RouterSettings } from './schema.ts';
import { readShipped, SHIPPED } from './shipped.ts';
import { type Schema, suggestion, violations, withDefaults } from './validate.ts';

/** Made from `schema.ts` by `npm run generate`. Read when it is needed, and not kept: it is long, and needed at the start and by reloads. */
function readSchema(): Schema {
  return JSON.parse(readShipped(SHIPPED.schema).toString()) as Schema;
}

export interface Loaded {
  config: Config;
  /** The file it came from, undefined when all is defaults and environment. */
  file: string | undefined;
  /** Folder that relative paths in the configuration start from. */
  dir: string;
  routers: Router[];
  /** What is odd but no error: variables that no option has. */
  warnings: string[];
  /** Where an option stands, for messages: `config.json:12: routers[0].r1.router_type`. */
  place(at: string[]): string;
}

/** 100 % occupation where nothing is configured and no interface tells its speed [Mbit/s]. */
export const DEFAULT_THROUGHPUT_MBPS = 1000;

export type SourceKind = 'collector' | 'node-exporter' | 'procfs' | 'test-metrics';

/** One router with everything worked out. */
export interface Router {
  name: string;
  /** `host:port` as written into records. */
  nodeExporter: string;
  source: SourceKind;
  /** What is fetched: a node exporter's or a collector's address. */
  url: string | undefined;
  procfsRoot: string;
  testMetricsFile: string;
  interfaces: string[];
  rawTopic: string;
  type: string | undefined;
  maxThroughputMbps: number;
  /** Whether somebody chose that: where nobody did, what the kernel says of the links stands for it. */
  throughputConfigured: boolean;
  multiplier: number;
  pollingIntervalS: number;
}

/** An option that a variable can set: a leaf, or a list or map written as JSON. */
export interface Option {
  path: string[];
  variable: string;
  schema: Schema;
}

/** Every option, in the schema's order. */
export function options(schema: Schema = readSchema()): Option[] {
  const found: Option[] = [];
  const walk = (schema: Schema, path: string[]) => {
    for (const [name, child] of Object.entries(schema.properties ?? {})) {
      const at = [...path, name];
      if (child.properties !== undefined) walk(child, at);
      else if (name !== '$schema') found.push({ path: at, variable: `NDT_${at.join('_').toUpperCase()}`, schema: child });
    }
  };
  walk(schema, []);
  return found;
}

/** Variables of ours that are no options. */
const OTHER_VARIABLES = /^NDT_(CONFIG|RUNTIME_DIR|TEST_.*)$/;

/**
 * Loads and checks a configuration.
 * @param file path of the JSON file; undefined takes `NDT_CONFIG`, or else defaults and environment alone
 * @throws NdtError CONFIG naming file, line and field, what was expected, and what to do
 */
export function loadConfig(file: string | undefined, env: NodeJS.ProcessEnv = process.env): Loaded {
  const schema = readSchema();
  const path = file ?? env.NDT_CONFIG;
  const source = path === undefined ? undefined : readJson(path);
  const value: unknown = source === undefined ? {} : source.value;
  const fromEnv = new Map<string, string>();
  const warnings = overrideFromEnv(schema, value, env, fromEnv);
  const label = path ?? 'configuration';
  const complaints: string[] = [];
  const place = (at: string[]) => {
    const variable = fromEnv.get(at.join('/'));
    return variable !== undefined
      ? `environment variable ${variable}`
      : `${label}${source === undefined ? '' : source.lineOf(at)}: ${pathText(at)}`;
  };
  const complain = (at: string[], text: string) => complaints.push(`${place(at)}: ${text}`);

  const complete = withDefaults(schema, value);
  for (const { at, text } of violations(schema, complete)) complain(at, text);
  if (complaints.length > 0) throw refused(complaints);
  const config = complete as Config;

  const dir = path === undefined ? process.cwd() : dirname(resolve(path));
  const routers = resolveRouters(config, dir, complain);
  checkExposure(config, complain);
  if (complaints.length > 0) throw refused(complaints);
  return { config, file: path, dir, routers, warnings, place };
}

function refused(complaints: string[]): NdtError {
  const more = complaints.length > 10 ? `\n… and ${complaints.length - 10} more` : '';
  return new NdtError('CONFIG', `${complaints.slice(0, 10).join('\n')}${more}`);
}

/** `routers[0].r1.interfaces[1]` */
function pathText(at: string[]): string {
  return at.map((part, i) => (/^\d+$/.test(part) ? `[${part}]` : `${i === 0 ? '' : '.'}${part}`)).join('');
}

/** A JSON text that a person wrote. */
export interface JsonText {
  value: unknown;
  /** The line of a place in it, as `:12`. */
  lineOf: (at: string[]) => string;
}

/** Reads a JSON file that a person wrote. @throws NdtError CONFIG with file, line and column */
export function readJson(path: string): JsonText {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const why = codeOf(error) === 'ENOENT' ? 'there is no such file' : `cannot be read (${messageOf(error)})`;
    throw new NdtError('CONFIG', `${path}: ${why}: check the path; config/ in the project has examples`);
  }
  return parseJson(text, path);
}

/** @param path what the text is called in messages @throws NdtError CONFIG with line and column */
export function parseJson(text: string, path: string): JsonText {
  const fault = parseFault(text);
  if (fault !== undefined) {
    const { line, column, expected } = fault;
    throw new NdtError('CONFIG', `${path}:${line}:${column}: not valid JSON (expected ${expected}): mend this place in the file`);
  }
  const twice = repeatedName(text);
  if (twice !== undefined) {
    const { line, column, name } = twice;
    throw new NdtError(
      'CONFIG',
      `${path}:${line}:${column}: "${name}" stands twice in one object: only the last would count, so take one out`,
    );
  }
  return { value: JSON.parse(text) as unknown, lineOf: (at) => `:${lineOf(text, at)}` };
}

/** Sets options from `NDT_…` variables in place; returns warnings about variables that no option has. */
function overrideFromEnv(schema: Schema, value: unknown, env: NodeJS.ProcessEnv, origin: Map<string, string>): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [];
  const known = new Map(options(schema).map((option) => [option.variable, option]));
  const warnings: string[] = [];
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith('NDT_') || text === undefined || text === '' || OTHER_VARIABLES.test(name)) continue;
    const option = known.get(name);
    if (option === undefined) {
      warnings.push(
        `the environment variable ${name} is no option of ndt${suggestion(name, [...known.keys()]).replace(/; there are.*/, '')}`,
      );
      continue;
    }
    let here = value as { [k: string]: unknown };
    for (const part of option.path.slice(0, -1)) {
      if (typeof here[part] !== 'object' || here[part] === null) here[part] = {};
      here = here[part] as { [k: string]: unknown };
    }
    here[option.path.at(-1) ?? ''] = fromText(text, option.schema);
    origin.set(option.path.join('/'), name);
  }
  return warnings;
}

function fromText(text: string, schema: Schema): unknown {
  if (schema.type === 'integer' || schema.type === 'number')
    return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
  if (schema.type === 'boolean') return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : text;
  // As JSON it begins with a string; the address `[::1]:9092` begins with a bracket as well.
  if (schema.type === 'array' && (schema.items?.type === 'string' || schema.items?.enum !== undefined) && !/^\s*\[\s*["\]]/.test(text))
    return text.split(',').map((part) => part.trim());
  if (schema.type === 'array' || schema.type === 'object') {
    try {
      return JSON.parse(text) as unknown;
    } catch {
      return text;
    }
  }
  return text;
}

type Complain = (at: string[], text: string) => void;

function resolveRouters(config: Config, dir: string, complain: Complain): Router[] {
  const routers = new Map<string, Router>();
  config.routers.forEach((entry, i) => {
    for (const [name, settings] of Object.entries(entry)) {
      const at = ['routers', String(i), name];
      if (routers.has(name)) complain(at, 'this router stands in the list twice');
      const source = sourceOf(settings);
      const url = source === 'collector' ? settings.collector_url : settings.url;
      if ((source === 'collector' || source === 'node-exporter') && url === undefined) {
        complain(
          [...at, source === 'collector' ? 'collector_url' : 'url'],
          `expected an address, because the router’s source is ${source}`,
        );
      } else if (url !== undefined && httpUrl(url) === undefined) {
        const remedy = addressRemedy(url, `write http://host:${source === 'collector' ? 'port/metrics/r1_9100.json' : '9100/metrics'}`);
        complain([...at, source === 'collector' ? 'collector_url' : 'url'], `"${withoutPassword(url)}" is not an address: ${remedy}`);
      }
      routers.set(name, {
        name,
        nodeExporter: settings.node_exporter ?? `${name}:9100`,
        source,
        url,
        procfsRoot: settings.procfs_root ?? '/proc',
        testMetricsFile: resolve(dir, `test_metrics_${name}.json`),
        interfaces: settings.interfaces ?? ['*'],
        rawTopic: settings.topic ?? config.topics.raw.replace('{router}', name),
        type: settings.router_type,
        maxThroughputMbps: settings.max_throughput_mbps ?? config.max_throughput_mbps ?? DEFAULT_THROUGHPUT_MBPS,
        throughputConfigured: (settings.max_throughput_mbps ?? config.max_throughput_mbps) !== undefined,
        multiplier: settings.multiplier ?? config.multiplier,
        pollingIntervalS: settings.polling_interval ?? config.polling_interval,
      });
    }
  });
  return [...routers.values()];
}

function sourceOf(settings: RouterSettings): SourceKind {
  if (settings.test_metrics === true) return 'test-metrics';
  if (settings.source !== undefined) return settings.source;
  if (settings.url !== undefined) return 'node-exporter';
  return settings.collector_url === undefined ? 'procfs' : 'collector';
}

const LOOPBACK = /^(127\.\d+\.\d+\.\d+|::1|localhost)$/;

export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}

/** Nothing listens beyond loopback without authentication, unless the configuration says so in so many words. */
function checkExposure(config: Config, complain: Complain): void {
  const http = (settings: HttpSettings, at: string[]) => {
    if (isLoopback(settings.host) || settings.insecure || settings.token !== undefined || settings.token_file !== undefined) return;
    complain([...at, 'host'], `"${settings.host}" is not loopback: set token_file beside it, or insecure: true to go without`);
  };
  http(config.agent.http, ['agent', 'http']);
  http(config.aggregator.http, ['aggregator', 'http']);
  http(config.ml.http, ['ml', 'http']);
  http(config.pods.http, ['pods', 'http']);
  const { host, users, tls, insecure, enabled } = config.aggregator.mqtt;
  if (enabled && !isLoopback(host) && !insecure && users === undefined && tls?.require_client_certificate !== true) {
    complain(
      ['aggregator', 'mqtt', 'host'],
      `"${host}" is not loopback: set users, or tls with require_client_certificate, beside it, or insecure: true to go without`,
    );
  }
  if (tls?.require_client_certificate === true && tls.ca_file === undefined) {
    complain(
      ['aggregator', 'mqtt', 'tls', 'ca_file'],
      'expected the authority that signs the agents’ certificates, because require_client_certificate is true',
    );
  }
}

/** The agent's identity: configured, or the host's name. */
export function agentIdOf(config: Config): string {
  return config.agent.id ?? hostname().replace(/[^A-Za-z0-9._-]/g, '-');
}

/** A path of the configuration, from the configuration file's folder. */
export function pathOf(loaded: Pick<Loaded, 'dir'>, path: string): string {
  return isAbsolute(path) ? path : resolve(loaded.dir, path);
}

/** A secret given in place or in a file. @throws NdtError CONFIG where the file cannot be read */
export function secretOf(
  loaded: Pick<Loaded, 'dir'>,
  value: string | undefined,
  file: string | undefined,
  option: string,
): string | undefined {
  if (file === undefined) return value;
  const secret = readSetting(loaded, file, option).trimEnd();
  // Nothing is what everybody sends: a login with it would be none.
  if (secret === '') throw new NdtError('CONFIG', `${option}: ${pathOf(loaded, file)} is empty: write the secret into it`);
  return secret;
}

/** A file that an option names. @throws NdtError CONFIG where it cannot be read */
export function readSetting(loaded: Pick<Loaded, 'dir'>, file: string, option: string): string {
  try {
    return readFileSync(pathOf(loaded, file), 'utf8');
  } catch (error) {
    throw new NdtError(
      'CONFIG',
      `${option}: cannot read ${pathOf(loaded, file)} (${codeOf(error) ?? messageOf(error)}): check the path and that this user may read it`,
    );
  }
}

const SECRET = /^(password|token)$/;

/**
 * The effective configuration as JSON, secrets masked.
 * @param routers the routers' settings in force, where the program knows them better than the configuration
 */
export function dumpConfig(config: Config, routers: Config['routers'] = config.routers): string {
  const masked = (key: string, value: unknown) => {
    if (typeof value !== 'string') return value;
    if (SECRET.test(key)) return '********';
    return value.includes('://') ? withoutPassword(value, '********') : value;
  };
  return JSON.stringify({ max_throughput_mbps: DEFAULT_THROUGHPUT_MBPS, ...config, routers }, masked, 2);
}
