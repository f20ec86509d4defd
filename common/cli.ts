/** The command line of the three programs: commands, options, help, and errors as one clear message. */
import { type ParseArgsConfig, parseArgs } from 'node:util';
import pkg from '../package.json' with { type: 'json' };
import { codeOf, EXIT, messageOf, NdtError } from './errors.ts';

export const VERSION: string = pkg.version;

export interface CliOption {
  type: 'string' | 'boolean';
  short?: string;
  /** What stands for the value in the help: `FILE`. */
  value?: string;
  help: string;
}

export interface Args {
  /** Values of options given, by name. */
  values: { [option: string]: string | boolean | undefined };
  positionals: string[];
}

export interface Command {
  name: string;
  summary: string;
  /** Positional arguments as the help shows them: `URL`. */
  operands?: string;
  options?: { [name: string]: CliOption };
  /** Returns the exit code. */
  run(args: Args): Promise<number>;
}

export interface Program {
  name: string;
  summary: string;
  commands: Command[];
  examples: string[];
}

/** Options that every command with a configuration has. */
export const CONFIG_OPTIONS = {
  config: { type: 'string', short: 'c', value: 'FILE', help: 'configuration file (JSON); NDT_CONFIG names it as well' },
  check: { type: 'boolean', help: 'check the configuration and end' },
  'dump-config': { type: 'boolean', help: 'print the effective configuration, secrets masked, and end' },
} as const satisfies { [name: string]: CliOption };

/** Runs a program and ends the process with its exit code. */
export async function main(program: Program, argv: string[] = process.argv.slice(2)): Promise<void> {
  // A reader that goes away (`| head`) is no error of ours.
  process.stdout.on('error', (error) => {
    if (codeOf(error) === 'EPIPE') process.exit(EXIT.ok);
    throw error;
  });
  try {
    process.exitCode = await dispatch(program, argv);
  } catch (error) {
    if (error instanceof NdtError) {
      process.stderr.write(`${program.name.replace(' --', '')}: ${error.message}\n`);
      process.exitCode = error.exitCode;
    } else {
      process.stderr.write(
        `${program.name}: this is a defect of ndt, please report it: ${error instanceof Error ? error.stack : messageOf(error)}\n`,
      );
      process.exitCode = 70;
    }
  }
}

async function dispatch(program: Program, argv: string[]): Promise<number> {
  const [first, ...rest] = argv;
  if (first === '--version' || first === '-V') return print(`${program.name} ${VERSION}\n`);
  if (first === undefined || first === '--help' || first === '-h' || first === 'help') {
    const command = program.commands.find((c) => c.name === rest[0]);
    const text = command === undefined ? programHelp(program) : commandHelp(program, command);
    if (first !== undefined) return print(text);
    process.stderr.write(text);
    return EXIT.usage;
  }
  // `ndt-agent --check --config FILE` checks what `run` would run.
  const implied = first.startsWith('-') ? program.commands.find((c) => c.name === 'run') : undefined;
  const command = implied ?? program.commands.find((c) => c.name === first);
  if (command === undefined) {
    throw new NdtError(
      'USAGE',
      `there is no command "${first}": the commands are ${program.commands.map((c) => c.name).join(', ')} (${program.name} --help)`,
    );
  }
  const args = implied === undefined ? rest : argv;
  if (args.includes('--help') || args.includes('-h')) return print(commandHelp(program, command));
  return await command.run(parse(program, command, args));
}

function print(text: string): number {
  process.stdout.write(text);
  return EXIT.ok;
}

function parse(program: Program, command: Command, args: string[]): Args {
  const options: NonNullable<ParseArgsConfig['options']> = {};
  for (const [name, { type, short }] of Object.entries(command.options ?? {}))
    options[name] = short === undefined ? { type } : { type, short };
  try {
    const { values, positionals } = parseArgs({ args, options, allowPositionals: command.operands !== undefined, strict: true });
    return { values: values as Args['values'], positionals };
  } catch (error) {
    throw new NdtError('USAGE', `${command.name}: ${messageOf(error)} (${program.name} ${command.name} --help)`);
  }
}

function programHelp(program: Program): string {
  const width = Math.max(...program.commands.map((c) => c.name.length));
  return [
    `${program.name} ${VERSION}: ${program.summary}`,
    '',
    `Usage: ${program.name} COMMAND [OPTIONS]`,
    '',
    'Commands:',
    ...program.commands.map((c) => `  ${c.name.padEnd(width)}  ${c.summary}`),
    '',
    `  --version  print the version and end`,
    `  --help     this text; ${program.name} COMMAND --help for one command`,
    '',
    'Examples:',
    ...program.examples.map((example) => `  ${example}`),
    '',
    'Every option of the configuration file can be set by an environment variable as well: docs/configuration.md lists them.',
    '',
  ].join('\n');
}

function commandHelp(program: Program, command: Command): string {
  const rows = Object.entries(command.options ?? {}).map(([name, option]) => ({
    left: `${option.short === undefined ? '    ' : `-${option.short}, `}--${name}${option.value === undefined ? '' : ` ${option.value}`}`,
    help: option.help,
  }));
  const width = Math.max(0, ...rows.map((row) => row.left.length));
  const examples = program.examples.filter((example) => example.includes(` ${command.name}`));
  return [
    `${program.name} ${command.name}: ${command.summary}`,
    '',
    `Usage: ${program.name} ${command.name}${rows.length === 0 ? '' : ' [OPTIONS]'}${command.operands === undefined ? '' : ` ${command.operands}`}`,
    ...(rows.length === 0 ? [] : ['', 'Options:', ...rows.map((row) => `  ${row.left.padEnd(width)}  ${row.help}`)]),
    ...(examples.length === 0 ? [] : ['', 'Examples:', ...examples.map((example) => `  ${example}`)]),
    '',
  ].join('\n');
}

/** The text of an option, or undefined. */
export function textOption(args: Args, name: string): string | undefined {
  const value = args.values[name];
  return typeof value === 'string' ? value : undefined;
}

/** `20s`, `5m`, `1h`, `500ms` or seconds as a number, to milliseconds. @throws NdtError USAGE */
export function durationMs(text: string, option: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text);
  if (match === null) throw new NdtError('USAGE', `--${option} ${text}: expected a duration such as 20s, 5m or 1h`);
  const unit = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[match[2] ?? 's'] ?? 1000;
  return Number(match[1]) * unit;
}
