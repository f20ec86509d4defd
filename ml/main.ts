#!/usr/bin/env node
/** ndt-ml: power estimates for processed records. */
import { type Args, CONFIG_OPTIONS, main, textOption, VERSION } from '../common/cli.ts';
import { type Loaded, loadConfig } from '../common/config.ts';
import { EXIT } from '../common/errors.ts';
import { closeServer, EXPOSITION_TYPE, health, json, listenHttp } from '../common/http.ts';
import type { Logger } from '../common/logger.ts';
import { Metrics, processMetrics } from '../common/metrics.ts';
import { filterLines } from '../common/ndjson.ts';
import { openBus } from '../common/open-bus.ts';
import { parseRecord, printRecord, type TelemetryRecord } from '../common/record.ts';
import { runCommand, type Service } from '../common/service.ts';
import { topicsOf } from '../common/topics.ts';
import { Inferrer, loadModels, ML_GROUP, MlStage } from './worker.ts';

/** ML as a process of its own: on Kafka, or on the embedded bus of an aggregator on the same machine whose own inference is off. */
async function start(loaded: Loaded, log: Logger, args: Args): Promise<Service> {
  const models = await loadModels(loaded);
  const metrics = new Metrics();
  processMetrics(metrics, 'ndt-ml', VERSION);
  const { bus, troubles, stuck } = await openBus(loaded, 'ndt-ml', metrics, log);
  const stage = new MlStage(loaded, models, metrics, textOption(args, 'output'));
  const stop = new AbortController();
  const input = textOption(args, 'input');
  const group = input === undefined ? ML_GROUP : `${ML_GROUP}-${input}`;
  const consuming = bus.consume(group, topicsOf(input ?? loaded.config.topics.processed), stage, stop.signal);
  const { url, server } = await listenHttp(loaded, loaded.config.ml.http, 'ml.http', (path) => {
    if (path === '/healthz') return health(stuck());
    if (path === '/readyz') return json(troubles().length === 0 ? 200 : 503, { ready: troubles().length === 0, reasons: troubles() });
    return path === '/metrics' ? { status: 200, type: EXPOSITION_TYPE, body: metrics.print() } : undefined;
  });
  log.info({ url, group, models: [...models.keys()] }, 'ml runs');
  return {
    reload: async (next) => stage.configure(next, await loadModels(next)),
    status: () => [`infers as ${group}`, ...troubles()].join('; '),
    stuck,
    stop: async () => {
      stop.abort();
      await consuming;
      await closeServer(server);
      await bus.close();
    },
  };
}

async function infer(args: Args): Promise<number> {
  const loaded = loadConfig(textOption(args, 'config'));
  const inferrer = new Inferrer(loaded, await loadModels(loaded));
  const report = (message: string) => process.stderr.write(`ndt-ml: ${message}\n`);
  const bad = await filterLines(process.stdin, process.stdout, report, async (lines) => {
    const records = lines.map((line): TelemetryRecord | Error => {
      try {
        return parseRecord(line, 'processed');
      } catch (error) {
        return error instanceof Error ? error : new Error(String(error));
      }
    });
    const readable = records.filter((record): record is TelemetryRecord => !(record instanceof Error));
    const results = (await inferrer.infer(readable)).values();
    return records.map((record) => {
      if (record instanceof Error) return record;
      const result = results.next().value;
      return result === undefined || typeof result === 'string' ? new Error(`no inference: ${result ?? 'no_inputs'}`) : printRecord(result);
    });
  });
  return bad === 0 ? EXIT.ok : EXIT.failed;
}

void main({
  name: 'ndt-ml',
  summary: 'estimates routers’ power consumption from processed records',
  commands: [
    runCommand({
      program: 'ndt-ml',
      summary: 'infer on the bus until stopped',
      options: {
        input: { type: 'string', value: 'TOPIC', help: 'read this topic only, instead of all processed ones' },
        output: { type: 'string', value: 'TOPIC', help: 'write to this topic, instead of one per router' },
      },
      check: async (loaded) => {
        await loadModels(loaded);
      },
      start,
    }),
    {
      name: 'infer',
      summary: 'filter: processed records in (JSON, one a line), inferred records out',
      options: { config: CONFIG_OPTIONS.config },
      run: infer,
    },
  ],
  examples: [
    'ndt-ml infer < processed.ndjson > inferred.ndjson',
    'ndt-ml run --config /etc/ndt/ndt.json',
    'ndt-ml run --input TP_r1 --output ML_r1 --config /etc/ndt/ndt.json',
  ],
});
