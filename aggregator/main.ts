#!/usr/bin/env node
/** ndt-aggregator: takes agents' records in, works out what is missing in them, keeps and shows them. */
import { type Args, CONFIG_OPTIONS, main, textOption } from '../common/cli.ts';
import { loadConfig } from '../common/config.ts';
import { EXIT } from '../common/errors.ts';
import { filterLines } from '../common/ndjson.ts';
import { parseRecord, printRecord } from '../common/record.ts';
import { runCommand } from '../common/service.ts';
import { loadModels } from '../ml/worker.ts';
import { hasRole, startAggregator } from './aggregator.ts';
import { netflowCommand } from './netflow/command.ts';
import { checkPods, podsCommand, takeSeedEnvironment } from './pods/command.ts';
import { RateTracker } from './rates.ts';

/** Raw records in, processed records out; intervals without a rate are counted on standard error. */
async function rates(args: Args): Promise<number> {
  const tracker = new RateTracker(loadConfig(textOption(args, 'config')));
  const without = new Map<string, number>();
  const report = (message: string) => process.stderr.write(`ndt-aggregator: ${message}\n`);
  const bad = await filterLines(process.stdin, process.stdout, report, (lines) =>
    Promise.resolve(
      lines.map((line) => {
        try {
          const result = tracker.next(parseRecord(line, 'raw'), Date.now());
          if (typeof result !== 'string') return printRecord(result);
          without.set(result, (without.get(result) ?? 0) + 1);
          return undefined;
        } catch (error) {
          return error instanceof Error ? error : new Error(String(error));
        }
      }),
    ),
  );
  for (const [reason, n] of without) report(`${n} interval${n === 1 ? '' : 's'} without a rate: ${reason}`);
  return bad === 0 ? EXIT.ok : EXIT.failed;
}

const service = runCommand({
  program: 'ndt-aggregator',
  summary: 'run broker, bus, stages, store, API and page until stopped',
  check: async (loaded) => {
    if (loaded.config.ml.enabled) await loadModels(loaded);
    if (hasRole(loaded, 'pods')) checkPods(loaded);
  },
  start: startAggregator,
});

void main({
  name: 'ndt-aggregator',
  summary: 'takes agents’ records in, removes duplicates, works out rates and power, keeps history, and shows it',
  commands: [
    {
      ...service,
      run: async (args) => {
        const loaded = loadConfig(textOption(args, 'config'));
        // Some have names of a single word: whoever does not publish pods' metrics may mean other things by them.
        if (hasRole(loaded, 'pods')) takeSeedEnvironment(loaded);
        return await service.run(args);
      },
    },
    {
      name: 'rates',
      summary: 'filter: raw records in (JSON, one a line), processed records out; exit code 1 if a line was bad',
      options: { config: CONFIG_OPTIONS.config },
      run: rates,
    },
    netflowCommand,
    podsCommand,
  ],
  examples: [
    'ndt-aggregator run --config /etc/ndt/ndt.json',
    'ndt-aggregator run --check --config /etc/ndt/ndt.json',
    'ndt-aggregator netflow < flows.ndjson > records.ndjson',
    'ndt-aggregator pods --once --config /etc/ndt/ndt.json',
    'ndt-aggregator rates --config /etc/ndt/ndt.json < raw.ndjson > processed.ndjson',
  ],
});
