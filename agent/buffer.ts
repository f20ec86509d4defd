/** `buffer`: looking after what waits at the edge: status, ledger, export, import, verify, drop. */
import { type Args, type CliOption, CONFIG_OPTIONS, type Command, textOption } from '../common/cli.ts';
import { EXIT, NdtError } from '../common/errors.ts';
import { countOf, countText } from './buffer/text.ts';

// What a command needs is loaded when it runs: the agent itself needs none of it.

const COMMON = {
  config: CONFIG_OPTIONS.config,
  file: { type: 'string', value: 'PATH', help: 'another buffer, such as a copied outbox.db; the configuration’s own when missing' },
} as const satisfies { [name: string]: CliOption };
const AGENT = {
  agent: { type: 'string', value: 'ID', help: 'whose records are in it, where the file does not say so itself' },
} as const satisfies {
  [name: string]: CliOption;
};
const JSON_OUT = { json: { type: 'boolean', help: 'print JSON' } } as const satisfies { [name: string]: CliOption };
const POINT = 'a sequence number, a time (2026-05-04T12:00:00Z), or how long ago (90m, 6h, 2d), both by when records came in';
const RANGE = {
  from: { type: 'string', value: 'TIME|SEQ', help: `the first: ${POINT}` },
  to: { type: 'string', value: 'TIME|SEQ', help: 'the last, in the same way' },
} as const satisfies { [name: string]: CliOption };

const status: Command = {
  name: 'buffer status',
  summary: 'how many records wait, how much room they take, and for how many hours of outage there is room left',
  options: {
    ...COMMON,
    ...JSON_OUT,
    watch: { type: 'boolean', help: 'draw how the backlog goes down, until it is empty; Ctrl-C ends it earlier' },
  },
  run: async (args) => {
    const { printStatus, watch } = await import('./buffer/status.ts');
    const target = await targetOf(args);
    const json = args.values.json === true;
    if (args.values.watch !== true) return await printStatus(target, json);
    const stop = new AbortController();
    process.once('SIGINT', () => stop.abort());
    return await watch(target, json, stop.signal);
  },
};

const ledger: Command = {
  name: 'buffer ledger',
  summary: 'what became of every record ever produced; exit code 1 where that does not balance',
  options: { ...COMMON, ...JSON_OUT },
  run: async (args) => {
    const { printLedger } = await import('./buffer/ledger.ts');
    return printLedger((await targetOf(args)).file, args.values.json === true);
  },
};

const exportCommand: Command = {
  name: 'buffer export',
  summary: 'print what waits, a record a line with its topic, key and headers, as agents send it',
  options: {
    ...COMMON,
    ...AGENT,
    ...RANGE,
    'dead-letters': { type: 'boolean', help: 'what the receiving side has refused for good instead, with the reason' },
  },
  run: async (args) => {
    const [{ exportRecords }, { rangeOf }] = await Promise.all([import('./buffer/export.ts'), import('./buffer/range.ts')]);
    const options = { range: rangeOf(args), deadLetters: args.values['dead-letters'] === true };
    const { lines, damaged, oneState } = await exportRecords(await targetOf(args), options, process.stdout);
    const moved = oneState ? '' : '; what went out while this was read is left out';
    tell(`${countOf(lines, options.deadLetters ? 'dead letter' : 'record')} exported${moved}`);
    if (damaged === 0) return EXIT.ok;
    tell(`${countText(damaged)} are not as they were written and are left out: look closer with buffer verify`);
    return EXIT.failed;
  },
};

const importCommand: Command = {
  name: 'buffer import',
  summary: 'take lines of buffer export in, under their own numbers, none of them twice; the agent has to be stopped',
  operands: 'FILE',
  options: { ...COMMON, ...AGENT },
  run: async (args) => {
    const [input, ...more] = args.positionals;
    if (input === undefined || more.length > 0)
      throw new NdtError('USAGE', 'buffer import: expected one file, or - for standard input (ndt-agent buffer import --help)');
    const { importRecords } = await import('./buffer/import.ts');
    const { lines, imported, known, foreign, bad } = await importRecords(await targetOf(args), input, tell);
    const others = [...foreign.values()].reduce((sum, n) => sum + n, 0);
    const parts = [
      `${countText(imported)} imported`,
      ...(known > 0 ? [`${countText(known)} known already (they wait here, or were delivered, refused or dropped)`] : []),
      ...(others > 0 ? [`${countText(others)} of other agents`] : []),
      ...(bad > 0 ? [`${countText(bad)} of no use`] : []),
    ];
    say(`${countOf(lines, 'line')}: ${parts.join(', ')}`);
    for (const [agent, n] of foreign) {
      tell(
        `${countOf(n, 'line')} of agent "${agent}": import them there; where it is gone for good, into a buffer of its own (agent.id "${agent}", another data_dir), and run an agent on that until it is empty`,
      );
    }
    return others + bad === 0 ? EXIT.ok : EXIT.failed;
  },
};

const verifyCommand: Command = {
  name: 'buffer verify',
  summary: 'check the file, every record, the ledger and the sequence numbers; exit code 1 where something is wrong',
  options: { ...COMMON, ...JSON_OUT },
  run: async (args) => {
    const [{ verify }, { agentOf }, { exitCodeOf }, { asJson, coloured, line, summary }] = await Promise.all([
      import('./buffer/verify.ts'),
      import('./buffer/target.ts'),
      import('./doctor/finding.ts'),
      import('./doctor/print.ts'),
    ]);
    const target = await targetOf(args);
    const findings = verify(target.file, (await agentOf(target)).state !== 'stopped');
    const wrong = exitCodeOf(findings) === 1;
    if (args.values.json === true) process.stdout.write(`${asJson(findings, target.agentId, Date.now())}\n`);
    else {
      const width = Math.max(...findings.map(({ check }) => check.length));
      const lines = findings.map((finding) => line(finding, width, coloured(process.stdout)));
      process.stdout.write(`${lines.join('\n')}\n\n${wrong ? 'NOT sound' : 'sound'} (${summary(findings)})\n`);
    }
    return wrong ? EXIT.failed : EXIT.ok;
  },
};

const dropCommand: Command = {
  name: 'buffer drop',
  summary: 'drop waiting records on purpose: they are counted under the reason, and told as a gap; also while the agent runs',
  options: {
    ...COMMON,
    ...AGENT,
    ...RANGE,
    reason: { type: 'string', value: 'TEXT', help: 'why, as the ledger and the gap notice will say it' },
    yes: { type: 'boolean', help: 'do it; without this it is only told what would be dropped' },
  },
  run: async (args) => {
    const [{ checkReason, drop, toDrop }, { rangeOf }] = await Promise.all([import('./buffer/drop.ts'), import('./buffer/range.ts')]);
    const reason = checkReason(textOption(args, 'reason'));
    const range = rangeOf(args);
    const target = await targetOf(args);
    const told = ({ count, first, last }: { count: number; first: number | undefined; last: number | undefined }) =>
      `${countOf(count, 'record')}${first === undefined ? '' : ` (numbers ${first} to ${last})`}`;
    if (args.values.yes !== true) {
      say(`${told(toDrop(target, range))} would be dropped for "${reason}": add --yes to do it; buffer export keeps a copy`);
      return EXIT.usage;
    }
    say(`${told(await drop(target, range, reason))} dropped for "${reason}"`);
    return EXIT.ok;
  },
};

const SUBCOMMANDS = [status, ledger, exportCommand, importCommand, verifyCommand, dropCommand];

/** What stands before them all. */
const overview: Command = {
  name: 'buffer',
  summary: `look after the buffer: ${SUBCOMMANDS.map(nameOf).join(', ')}`,
  operands: `${SUBCOMMANDS.map(nameOf).join('|')} …`,
  run: async ({ positionals }) => {
    const asked = positionals.length === 0 ? 'which one is missing' : `there is no "${positionals[0]}"`;
    throw new NdtError('USAGE', `buffer: ${asked}: ${SUBCOMMANDS.map(nameOf).join(', ')} (ndt-agent buffer --help)`);
  },
};

export const bufferCommands: Command[] = [overview, ...SUBCOMMANDS];

/** Arguments in which `buffer status` is one command. */
export function joinSubcommand(argv: readonly string[]): string[] {
  const at = argv[0] === 'help' ? 1 : 0;
  const joined = `${argv[at]} ${argv[at + 1]}`;
  if (argv[at] !== 'buffer' || !SUBCOMMANDS.some(({ name }) => name === joined)) return [...argv];
  return [...argv.slice(0, at), joined, ...argv.slice(at + 2)];
}

function nameOf({ name }: Command): string {
  return name.slice('buffer '.length);
}

async function targetOf(args: Args) {
  return (await import('./buffer/target.ts')).targetOf(args);
}

function say(message: string): void {
  process.stdout.write(`${message}\n`);
}

/** Beside what is printed. */
function tell(message: string): void {
  process.stderr.write(`ndt-agent: ${message}\n`);
}

export const bufferExamples = [
  'ndt-agent buffer status --config /etc/ndt/ndt.json',
  'ndt-agent buffer status --watch',
  'ndt-agent buffer ledger --json | jq .pending',
  'ndt-agent buffer ledger --file /mnt/stick/outbox.db',
  'ndt-agent buffer export > waiting.ndjson',
  'ndt-agent buffer export --from 6h --to 2h | zstd > part.ndjson.zst',
  'ndt-agent buffer export --dead-letters | jq -r \'.headers["ndt-reason"]\' | sort | uniq -c',
  'ndt-agent buffer import waiting.ndjson',
  'zcat waiting.ndjson.gz | ndt-agent buffer import -',
  'ndt-agent buffer verify',
  'ndt-agent buffer verify --file outbox.db.damaged-20260504T120000Z --json',
  'ndt-agent buffer drop --reason "test traffic" --from 2026-05-04T12:00:00Z --to 2026-05-04T13:00:00Z',
  'ndt-agent buffer drop --reason "test traffic" --to 12h --yes',
];
