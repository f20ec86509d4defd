/** `ndt-aggregator netflow`: the normaliser as a filter of the command line. */
import { once } from 'node:events';
import { type Args, type Command, durationMs, textOption } from '../../common/cli.ts';
import { EXIT, NdtError } from '../../common/errors.ts';
import { AGGREGATE_DEFAULTS } from './aggregate.ts';
import { BIDIRECTIONAL_DEFAULTS } from './bidirectional.ts';
import { type FilterOptions, netflowFilter } from './filter.ts';

/** Where it reads and writes: the process, but for tests. */
export interface FilterStreams {
  readonly input: AsyncIterable<Buffer>;
  readonly output: NodeJS.WritableStream;
  readonly report: (message: string) => void;
}

const PROCESS: FilterStreams = {
  input: process.stdin,
  output: process.stdout,
  report: (message) => process.stderr.write(`ndt-aggregator: ${message}\n`),
};

export const netflowCommand: Command = {
  name: 'netflow',
  summary: 'filter: flows of GoFlow2 in (JSON or protobuf), records of YANG module netflow-v9 out; exit code 1 if a flow was bad',
  options: {
    input: { type: 'string', value: 'KIND', help: 'auto (default), ndjson or protobuf (GoFlow2’s -format=bin)' },
    format: { type: 'string', value: 'KIND', help: 'ndjson (default) or csv' },
    rfc7951: { type: 'boolean', help: '64-bit integers and decimals as strings, as RFC 7951 has them' },
    'switched-unit': {
      type: 'string',
      value: 'UNIT',
      help: 'first-switched and last-switched in s or ms; input (default) leaves them as they are',
    },
    aggregate: { type: 'string', value: 'DURATION', help: 'one record per flow and window of that length: 60s' },
    lateness: { type: 'string', value: 'DURATION', help: `how late a flow may come for its window (${AGGREGATE_DEFAULTS.latenessS}s)` },
    bidirectional: { type: 'boolean', help: 'both directions of a conversation in one record' },
    'pair-timeout': {
      type: 'string',
      value: 'DURATION',
      help: `how long a flow waits for its other direction (${BIDIRECTIONAL_DEFAULTS.timeoutS}s)`,
    },
    counters: { type: 'boolean', help: 'print what was counted as JSON on standard error at the end' },
  },
  run: (args) => runNetflow(args, PROCESS),
};

/** @returns the exit code */
export async function runNetflow(args: Args, { input, output, report }: FilterStreams): Promise<number> {
  const write = async (text: string): Promise<void> => {
    if (!output.write(text)) await once(output, 'drain');
  };
  const { counters } = await netflowFilter(input, write, {
    ...filterOptions(args),
    onBad: ({ unit, number, reason }) => report(`${unit} ${number}: ${reason}`),
  });
  const leftOut = Object.entries(counters.leftOut).map(([leaf, count]) => `${leaf} ${count}`);
  if (leftOut.length > 0) report(`values left out, by leaf: ${leftOut.join(', ')}`);
  if (args.values.counters === true) report(JSON.stringify(counters));
  return counters.bad === 0 ? EXIT.ok : EXIT.failed;
}

function filterOptions(args: Args): FilterOptions {
  const windowS = seconds(args, 'aggregate');
  const latenessS = seconds(args, 'lateness');
  const timeoutS = seconds(args, 'pair-timeout');
  if (windowS === 0) throw new NdtError('USAGE', '--aggregate 0: a window has to have a length');
  if (latenessS !== undefined && windowS === undefined) throw new NdtError('USAGE', '--lateness is of use only with --aggregate');
  const bidirectional = args.values.bidirectional === true;
  if (timeoutS !== undefined && (!bidirectional || windowS !== undefined)) {
    throw new NdtError(
      'USAGE',
      '--pair-timeout is of use only with --bidirectional, and not with --aggregate: there a window’s flows are paired',
    );
  }
  return {
    input: oneOf(args, 'input', ['auto', 'ndjson', 'protobuf']),
    format: oneOf(args, 'format', ['ndjson', 'csv']),
    switchedUnit: oneOf(args, 'switched-unit', ['input', 's', 'ms']),
    rfc7951: args.values.rfc7951 === true,
    ...(windowS !== undefined && { aggregate: { ...AGGREGATE_DEFAULTS, windowS, ...(latenessS !== undefined && { latenessS }) } }),
    ...(bidirectional && { bidirectional: { ...BIDIRECTIONAL_DEFAULTS, ...(timeoutS !== undefined && { timeoutS }) } }),
  };
}

/** The option's value, the first of the choices when it is missing. */
function oneOf<T extends string>(args: Args, name: string, choices: readonly [T, ...T[]]): T {
  const text = textOption(args, name) ?? choices[0];
  const choice = choices.find((one) => one === text);
  if (choice === undefined) throw new NdtError('USAGE', `--${name} ${text}: expected ${choices.join(', ')}`);
  return choice;
}

function seconds(args: Args, name: string): number | undefined {
  const text = textOption(args, name);
  return text === undefined ? undefined : durationMs(text, name) / 1000;
}
