#!/usr/bin/env node
/** ndt-agent: reads routers' counters, works the rates out and ships every record. */
import './memory.ts';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Args, CONFIG_OPTIONS, main, textOption } from '../common/cli.ts';
import { type Loaded, loadConfig, secretOf } from '../common/config.ts';
import { EXIT, messageOf, NdtError } from '../common/errors.ts';
import { printRecord } from '../common/record.ts';
import { runCommand } from '../common/service.ts';
import { Agent } from './agent.ts';
import { bufferCommands, bufferExamples, joinSubcommand } from './buffer.ts';
import { routersInForce } from './capacity.ts';
import { collectUrl } from './collector.ts';
import { compileWhenBusy } from './compilers.ts';
import { doctorCommand, doctorExamples } from './doctor.ts';
import { enrich, rawRecord } from './enrich.ts';
import { inventoryCommand, inventoryExamples } from './inventory/command.ts';
import { systemClock } from './source.ts';
import { createSource } from './sources.ts';

function requireRouters({ routers, file }: Loaded): void {
  if (routers.length === 0) throw new NdtError('CONFIG', `${file ?? 'the configuration'} names no routers: add some to "routers"`);
}

/** One round over all routers, raw records or (with --processed, after one interval) processed ones, a line each. */
async function once(args: Args): Promise<number> {
  const loaded = loadConfig(textOption(args, 'config'));
  requireRouters(loaded);
  const results = await Promise.allSettled(
    loaded.routers.map(async (router) => {
      const source = createSource(router, loaded);
      try {
        const signal = new AbortController().signal;
        const first = await source.poll(signal);
        if (args.values.processed !== true) return printRecord(rawRecord(first, loaded.config, systemClock.nowMicros()));
        // What the agent ships makes no odds here.
        const config = { ...loaded.config, agent: { ...loaded.config.agent, ship: 'processed' as const } };
        const { baseline } = enrich(first, undefined, config, systemClock.nowMicros(), '');
        await sleep(router.pollingIntervalS * 1000);
        const { record, noRate } = enrich(await source.poll(signal), baseline, config, systemClock.nowMicros(), '');
        if (record === undefined) throw new Error(`router ${router.name}: no rate (${noRate})`);
        return record.body;
      } finally {
        source.close();
      }
    }),
  );
  let code: number = EXIT.ok;
  for (const result of results) {
    if (result.status === 'fulfilled') process.stdout.write(`${result.value}\n`);
    else {
      process.stderr.write(`ndt-agent: ${messageOf(result.reason)}\n`);
      code = EXIT.unavailable;
    }
  }
  return code;
}

async function collect(args: Args): Promise<number> {
  const [url, ...more] = args.positionals;
  if (url === undefined || more.length > 0) throw new NdtError('USAGE', 'collect: expected one URL, such as http://r1:9100/metrics');
  process.stdout.write(`${await collectUrl(url)}\n`);
  return EXIT.ok;
}

void main(
  {
    name: 'ndt-agent',
    summary: 'reads routers’ interface counters, works the rates out and ships every record',
    commands: [
      runCommand({
        program: 'ndt-agent',
        summary: 'watch the routers of the configuration until stopped',
        routersInForce,
        check: async (loaded) => {
          requireRouters(loaded);
          // Also what stands beside the configuration: test metrics, secrets, certificates.
          for (const router of loaded.routers) createSource(router, loaded).close();
          const { http, uplink } = loaded.config.agent;
          secretOf(loaded, http.token, http.token_file, 'agent.http.token_file');
          // Over MQTT a wrong file is no reason not to start: it is read again for each connection.
          if (uplink === 'kafka') (await import('../common/kafka/settings.ts')).kafkaOptions(loaded, '');
        },
        start: (loaded, log) => {
          compileWhenBusy();
          return Agent.start(loaded, log);
        },
      }),
      {
        name: 'once',
        summary: 'print the records of one round and end',
        options: {
          config: CONFIG_OPTIONS.config,
          processed: { type: 'boolean', help: 'wait one polling interval and print processed records instead of raw ones' },
        },
        run: once,
      },
      { name: 'collect', summary: 'print all metrics of one exporter as the collector’s JSON', operands: 'URL', run: collect },
      doctorCommand,
      inventoryCommand,
      ...bufferCommands,
    ],
    examples: [
      'ndt-agent run --config /etc/ndt/ndt.json',
      'ndt-agent run --check --config /etc/ndt/ndt.json',
      'ndt-agent once --config /etc/ndt/ndt.json',
      'ndt-agent collect http://127.0.0.1:9100/metrics',
      ...doctorExamples,
      ...inventoryExamples,
      ...bufferExamples,
    ],
  },
  joinSubcommand(process.argv.slice(2)),
);
