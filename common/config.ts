/** Loading a configuration: file, environment, defaults, checks; every complaint with its place. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, isAbsolute, resolve } from 'node:path';
import { findNodeAtLocation, type Node, type ParseError, parseTree, printParseErrorCode } from 'jsonc-parser';
import Value from 'typebox/value';
import { codeOf, messageOf, NdtError } from './errors.ts';
import { type Config, ConfigSchema, type HttpSettings, type RouterSettings } from './schema.ts';

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
  multiplier: number;
  pollingIntervalS: number;
}

interface Schema {
  type?: string;
  description?: string;
  default?: unknown;
  properties?: { [name: string]: Schema };
  enum?: unknown[];
  minimum?: number;
  exclusiveMinimum?: number;
  maximum?: number;
  minLength?: number;
  pattern?: string;
  items?: Schema;
  patternProperties?: { [pattern: string]: Schema };
}

/** An option that a variable can set: a leaf, or a list or map written as JSON. */
export interface Option {
  path: string[];
  variable: string;
  schema: Schema;
}

/** Every option, in the schema's order. */
export function options(): Option[] {
  const found: Option[] = [];
  const walk = (schema: Schema, path: string[]) => {
    for (const [name, child] of Object.entries(schema.properties ?? {})) {
      const at = [...path, name];
      if (child.properties !== undefined) walk(child, at);
      else if (name !== '$schema') found.push({ path: at, variable: `NDT_${at.join('_').toUpperCase()}`, schema: child });
    }
  };
  walk(ConfigSchema as Schema, []);
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
  const path = file ?? env.NDT_CONFIG;
  const source = path === undefined ? undefined : readJson(path);
  const value: unknown = source === undefined ? {} : source.value;
  const fromEnv = new Map<string, string>();
  const warnings = overrideFromEnv(value, env, fromEnv);
  const label = path ?? 'configuration';
  const complaints: string[] = [];
  const place = (at: string[]) => {
    const variable = fromEnv.get(at.join('/'));
    return variable !== undefined ? `environment variable ${variable}` : `${label}${source === undefined ? '' : source.lineOf(at)}: ${pathText(at)}`;
  };
  const complain = (at: string[], text: string) => complaints.push(`${place(at)}: ${text}`);

  const withDefaults: unknown = Value.Default(ConfigSchema, value);
  for (const { at, text } of violations(withDefaults)) complain(at, text);
  if (complaints.length > 0) throw refused(complaints);
  const config = withDefaults as Config;

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

/** Messages for what the schema does not allow, one for each place. */
function violations(value: unknown): Array<{ at: string[]; text: string }> {
  const found = new Map<string, { at: string[]; text: string }>();
  for (const error of Value.Errors(ConfigSchema, value)) {
    const at = error.instancePath.split('/').slice(1).map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
    if (error.keyword === 'additionalProperties') {
      for (const name of (error.params as { additionalProperties: string[] }).additionalProperties) {
        const known = Object.keys(schemaAt(at)?.properties ?? {});
        found.set([...at, name].join('/'), { at: [...at, name], text: `there is no such option${suggestion(name, known)}` });
      }
    } else if (error.keyword !== 'boolean' && !found.has(at.join('/'))) {
      found.set(at.join('/'), { at, text: `expected ${expectation(schemaAt(at), error.message)}, got ${JSON.stringify(valueAt(value, at))?.slice(0, 60)}` });
    }
  }
  return [...found.values()];
}

function suggestion(name: string, known: string[]): string {
  const near = known.find((k) => distance(k, name) <= 2);
  if (near !== undefined) return `; did you mean "${near}"?`;
  return known.length === 0 ? '' : `; there are: ${known.join(', ')}`;
}

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next[j] = Math.min((next[j - 1] ?? 0) + 1, (row[j] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

function schemaAt(at: string[]): Schema | undefined {
  let schema: Schema | undefined = ConfigSchema as Schema;
  for (const part of at) schema = schema?.properties?.[part] ?? schema?.items ?? Object.values(schema?.patternProperties ?? {})[0];
  return schema;
}

function expectation(schema: Schema | undefined, otherwise: string): string {
  if (schema === undefined) return otherwise;
  if (schema.enum !== undefined) return `one of ${schema.enum.map((v) => JSON.stringify(v)).join(', ')}`;
  const range =
    schema.minimum !== undefined && schema.maximum !== undefined
      ? ` from ${schema.minimum} to ${schema.maximum}`
      : schema.minimum !== undefined
        ? `, at least ${schema.minimum}`
        : schema.exclusiveMinimum !== undefined
          ? ` above ${schema.exclusiveMinimum}${schema.maximum === undefined ? '' : `, at most ${schema.maximum}`}`
          : '';
  const kinds: { [type: string]: string } = { string: 'text', integer: 'a whole number', number: 'a number', boolean: 'true or false', array: 'a list', object: 'an object' };
  const shape = schema.pattern !== undefined ? ` that matches ${schema.pattern}` : schema.minLength !== undefined ? ` of at least ${schema.minLength} characters` : '';
  return `${kinds[schema.type ?? ''] ?? otherwise}${range}${shape}`;
}

/** `routers[0].r1.interfaces[1]` */
function pathText(at: string[]): string {
  return at.map((part, i) => (/^\d+$/.test(part) ? `[${part}]` : `${i === 0 ? '' : '.'}${part}`)).join('');
}

function valueAt(value: unknown, at: string[]): unknown {
  let here = value;
  for (const part of at) here = typeof here === 'object' && here !== null ? (here as { [k: string]: unknown })[part] : undefined;
  return here;
}

/**
 * Reads a JSON file that a person wrote.
 * @returns its value, and a function that gives the line of a place in it as `:12`
 * @throws NdtError CONFIG with file, line and column
 */
export function readJson(path: string): { value: unknown; lineOf: (at: string[]) => string } {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const why = codeOf(error) === 'ENOENT' ? 'there is no such file' : `cannot be read (${messageOf(error)})`;
    throw new NdtError('CONFIG', `${path}: ${why}: check the path; config/ in the project has examples`);
  }
  const errors: ParseError[] = [];
  const tree = parseTree(text, errors, { disallowComments: true, allowTrailingComma: false });
  const first = errors[0];
  const place = (offset: number) => {
    const before = text.slice(0, offset).split('\n');
    return { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 };
  };
  if (first !== undefined || tree === undefined) {
    const { line, column } = place(first?.offset ?? 0);
    const what = first === undefined ? 'the file is empty' : printParseErrorCode(first.error).replace(/([a-z])([A-Z])/g, '$1 $2').toLowerCase();
    throw new NdtError('CONFIG', `${path}:${line}:${column}: not valid JSON (${what}): mend this place in the file`);
  }
  const lineOf = (at: string[]) => {
    for (let depth = at.length; depth > 0; depth -= 1) {
      const node: Node | undefined = findNodeAtLocation(tree, at.slice(0, depth).map((part) => (/^\d+$/.test(part) ? Number(part) : part)));
      if (node !== undefined) return `:${place(node.offset).line}`;
    }
    return '';
  };
  return { value: JSON.parse(text) as unknown, lineOf };
}

/** Sets options from `NDT_…` variables in place; returns warnings about variables that no option has. */
function overrideFromEnv(value: unknown, env: NodeJS.ProcessEnv, origin: Map<string, string>): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [];
  const known = new Map(options().map((option) => [option.variable, option]));
  const warnings: string[] = [];
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith('NDT_') || text === undefined || text === '' || OTHER_VARIABLES.test(name)) continue;
    const option = known.get(name);
    if (option === undefined) {
      warnings.push(`the environment variable ${name} is no option of ndt${suggestion(name, [...known.keys()]).replace(/; there are.*/, '')}`);
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
  if (schema.type === 'integer' || schema.type === 'number') return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
  if (schema.type === 'boolean') return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : text;
  if (schema.type === 'array' && schema.items?.type === 'string' && !text.startsWith('[')) return text.split(',').map((part) => part.trim());
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
        complain([...at, source === 'collector' ? 'collector_url' : 'url'], `expected an address, because the router’s source is ${source}`);
      } else if (url !== undefined && !URL.canParse(url)) complain([...at, source === 'collector' ? 'collector_url' : 'url'], `"${url}" is not an address`);
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
        maxThroughputMbps: settings.max_throughput_mbps ?? config.max_throughput_mbps,
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
  const { host, users, tls, insecure, enabled } = config.aggregator.mqtt;
  if (enabled && !isLoopback(host) && !insecure && users === undefined && tls?.require_client_certificate !== true) {
    complain(['aggregator', 'mqtt', 'host'], `"${host}" is not loopback: set users, or tls with require_client_certificate, beside it, or insecure: true to go without`);
  }
  if (tls?.require_client_certificate === true && tls.ca_file === undefined) {
    complain(['aggregator', 'mqtt', 'tls', 'ca_file'], 'expected the authority that signs the agents’ certificates, because require_client_certificate is true');
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
export function secretOf(loaded: Pick<Loaded, 'dir'>, value: string | undefined, file: string | undefined, option: string): string | undefined {
  return file === undefined ? value : readSetting(loaded, file, option).trimEnd();
}

/** A file that an option names. @throws NdtError CONFIG where it cannot be read */
export function readSetting(loaded: Pick<Loaded, 'dir'>, file: string, option: string): string {
  try {
    return readFileSync(pathOf(loaded, file), 'utf8');
  } catch (error) {
    throw new NdtError('CONFIG', `${option}: cannot read ${pathOf(loaded, file)} (${codeOf(error) ?? messageOf(error)}): check the path and that this user may read it`);
  }
}

const SECRET = /^(password|token)$/;

/** The effective configuration as JSON, secrets masked. */
export function dumpConfig(config: Config): string {
  return JSON.stringify(config, (key, value: unknown) => (SECRET.test(key) && typeof value === 'string' ? '********' : value), 2);
}
