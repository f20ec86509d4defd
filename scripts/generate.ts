/**
 * Files made from the code: the JSON Schema of the configuration, its reference page, and the page's script. `--check` only tells
 * whether they are up to date.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { generatedPage } from '../aggregator/page/generate.ts';
import { type Option, options } from '../common/config.ts';
import { ConfigSchema, RouterSchema } from '../common/schema.ts';
import type { Schema } from '../common/validate.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

function schemaFile(): string {
  return `${JSON.stringify({ $schema: 'http://json-schema.org/draft-07/schema#', ...ConfigSchema }, null, 2)}\n`;
}

interface Field {
  type?: string;
  enum?: unknown[];
  description?: string;
  default?: unknown;
  minimum?: number;
  maximum?: number;
}

function kindOf(schema: Field): string {
  if (schema.enum !== undefined) return schema.enum.map((value) => `\`${String(value)}\``).join(', ');
  const range = schema.minimum !== undefined && schema.maximum !== undefined ? ` ${schema.minimum} to ${schema.maximum}` : '';
  return `${schema.type === 'array' ? 'list' : schema.type === 'object' ? 'object' : (schema.type ?? '')}${range}`;
}

function row(name: string, schema: Field, variable?: string): string {
  const fallback = schema.default === undefined ? '' : `\`${JSON.stringify(schema.default)}\``;
  const cells = [`\`${name}\``, kindOf(schema), fallback, schema.description ?? '', ...(variable === undefined ? [] : [`\`${variable}\``])];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

function referencePage(): string {
  const bySection = new Map<string, Option[]>();
  for (const option of options(JSON.parse(JSON.stringify(ConfigSchema)) as Schema)) {
    const section = option.path.slice(0, -1).join('.');
    bySection.set(section, [...(bySection.get(section) ?? []), option]);
  }
  const sections = [...bySection].map(([section, found]) =>
    [
      section === '' ? '## Top level' : `## \`${section}\``,
      '',
      '| option | kind | default | meaning | variable |',
      '|---|---|---|---|---|',
      ...found.map(({ path, schema, variable }) => row(path.at(-1) ?? '', schema as Field, variable)),
      '',
    ].join('\n'),
  );
  const routers = Object.entries(RouterSchema.properties).map(([name, schema]) => row(name, schema as Field));
  return [
    '# Configuration',
    '',
    'Agent, aggregator and ML read one JSON file (`--config FILE`, or the variable `NDT_CONFIG`). Every option has a default; the JSON',
    'Schema for editors is `config/ndt.schema.json`. An option’s variable overrides the file; lists of names are separated by commas,',
    'other lists and objects are written as JSON. A wrong value is refused with file, line and option, and exit code 78.',
    '',
    'A changed file, or SIGHUP, takes effect without a restart and without losing a sample; a bad one is refused and logged, and the old',
    'configuration stays in force. `data_dir`, the agent’s id and the listeners need a restart.',
    '',
    '*Made from `common/schema.ts` by `npm run generate`.*',
    '',
    ...sections,
    '## A router',
    '',
    'Each entry of `routers` is an object from a router’s name to these settings.',
    '',
    '| option | kind | default | meaning |',
    '|---|---|---|---|',
    ...routers,
    '',
  ].join('\n');
}

const files: Array<[string, () => string]> = [
  ['config/ndt.schema.json', schemaFile],
  ['docs/configuration.md', referencePage],
  ['aggregator/page/page.js', generatedPage],
];

const checking = process.argv.includes('--check');
let stale = 0;
for (const [file, make] of files) {
  const wanted = make();
  let present = '';
  try {
    present = readFileSync(root + file, 'utf8');
  } catch {
    // Not there yet.
  }
  if (wanted === present) continue;
  if (checking) {
    stale += 1;
    process.stderr.write(`${file} is not up to date: run npm run generate\n`);
  } else {
    // Never half-written: programs that start meanwhile read it.
    writeFileSync(`${root}${file}.new`, wanted);
    renameSync(`${root}${file}.new`, root + file);
    process.stdout.write(`wrote ${file}\n`);
  }
}
process.exitCode = stale === 0 ? 0 : 1;
