/** The inference stage: processed records in, inferred records out. */
import type { Delivered, Message, Outcome, Stage } from '../common/bus.ts';
import { type JsonText, type Loaded, parseJson, pathOf, readJson } from '../common/config.ts';
import { NdtError } from '../common/errors.ts';
import type { Metrics } from '../common/metrics.ts';
import {
  epochMicros,
  epochText,
  inputOf,
  type MlOutput,
  parseRecord,
  printRecord,
  RecordError,
  routerOf,
  type TelemetryRecord,
} from '../common/record.ts';
import { readShipped, SHIPPED } from '../common/shipped.ts';
import { topicFor } from '../common/topics.ts';
import type { Inference, Model, ModelInput } from './model.ts';

export const ML_GROUP = 'ndt-ml';

/** The models file: the configured one, or the one that ships. */
function readModels(loaded: Loaded): { file: string; json: JsonText } {
  const { models_file } = loaded.config.ml;
  if (models_file === undefined) return { file: SHIPPED.models, json: parseJson(readShipped(SHIPPED.models).toString(), SHIPPED.models) };
  const file = pathOf(loaded, models_file);
  return { file, json: readJson(file) };
}

/**
 * Loads the models and checks that every router's type is there.
 * @throws NdtError CONFIG
 */
export async function loadModels(loaded: Loaded): Promise<Map<string, Model>> {
  const { formulaModels } = await import('./models/formula.ts');
  const { file, json } = readModels(loaded);
  const models = formulaModels(file, json);
  const known = [...models.keys()].join(', ');
  const { default_type } = loaded.config.ml;
  if (!models.has(default_type))
    throw new NdtError(
      'CONFIG',
      `${loaded.place(['ml', 'default_type'])}: there is no model "${default_type}" in ${file}; there are: ${known}`,
    );
  loaded.config.routers.forEach((entry, i) => {
    for (const [name, { router_type }] of Object.entries(entry)) {
      if (router_type === undefined || models.has(router_type)) continue;
      const place = loaded.place(['routers', String(i), name, 'router_type']);
      throw new NdtError('CONFIG', `${place}: unknown router type "${router_type}"; ${file} has: ${known}`);
    }
  });
  return models;
}

/** Why a record that could be read gave no inference. */
export type NoInference = 'no_inputs' | 'not_finite';

export class Inferrer {
  private readonly models: ReadonlyMap<string, Model>;
  private readonly types: ReadonlyMap<string, string>;
  private readonly defaultType: string;

  constructor(loaded: Loaded, models: ReadonlyMap<string, Model>) {
    this.models = models;
    this.defaultType = loaded.config.ml.default_type;
    this.types = new Map(loaded.routers.flatMap(({ name, type }) => (type === undefined ? [] : [[name, type]])));
  }

  /** The inferred record of each processed one, or why there is none, in their order. */
  async infer(records: readonly TelemetryRecord[]): Promise<Array<TelemetryRecord | NoInference>> {
    const results: Array<TelemetryRecord | NoInference> = records.map(() => 'no_inputs');
    const byType = new Map<string, Array<{ index: number; input: ModelInput }>>();
    records.forEach((record, index) => {
      const occupation = inputOf(record, 'node_network_router_capacity_occupation');
      const packetLength = inputOf(record, 'node_network_average_received_packet_length');
      if (occupation === undefined || packetLength === undefined) return;
      const type = this.types.get(routerOf(record)) ?? this.defaultType;
      const wanted = byType.get(type) ?? [];
      wanted.push({ index, input: { occupation: occupation / 100, packetLength } });
      byType.set(type, wanted);
    });
    for (const [type, wanted] of byType) {
      const inferences = await this.models.get(type)?.infer(wanted.map(({ input }) => input));
      const now = epochText(Date.now() * 1000);
      wanted.forEach(({ index }, i) => {
        const record = records[index];
        const inference = inferences?.[i];
        if (record !== undefined && inference !== undefined) results[index] = withOutputs(record, inference, now);
      });
    }
    return results;
  }
}

function withOutputs(
  record: TelemetryRecord,
  { power, byOccupation, byPacketLength }: Inference,
  now: string,
): TelemetryRecord | NoInference {
  if (!Number.isFinite(power) || !Number.isFinite(byOccupation) || !Number.isFinite(byPacketLength)) return 'not_finite';
  const outputs: MlOutput[] = [
    { name: 'node_network_power_consumption_wats', type: 'power_consumption_wats', value: [power] },
    { name: 'node_network_power_consumption_variation_rate_occupation', type: 'power_consumption_variation_rate', value: [byOccupation] },
    {
      name: 'node_network_power_consumption_variation_rate_packet_length',
      type: 'power_consumption_variation_rate',
      value: byPacketLength,
    },
  ];
  return {
    ...record,
    ...(record.debug_params === undefined ? {} : { debug_params: { ...record.debug_params, ml_timestamp: now } }),
    output_ml_metrics: outputs,
  };
}

/** The inference stage on the bus. Records that cannot be read are left to the store, which keeps them as dead letters. */
export class MlStage implements Stage {
  private readonly loaded: Loaded;
  private inferrer: Inferrer;
  private readonly counted;
  /** Overrides the topic of inferred records. */
  private readonly output: string | undefined;

  constructor(loaded: Loaded, models: ReadonlyMap<string, Model>, metrics: Metrics, output?: string) {
    this.loaded = loaded;
    this.inferrer = new Inferrer(loaded, models);
    this.output = output;
    this.counted = {
      inferred: metrics.counter('ndt_inferred_total', 'Records inferred'),
      failed: metrics.counter('ndt_inference_failures_total', 'Processed records that gave no inference, by reason'),
      latency: metrics.histogram(
        'ndt_inference_latency_seconds',
        'Time from reading the counters to the inference (event time, so replayed records are late)',
      ),
    };
  }

  /** Goes over to other models and router types. */
  configure(loaded: Loaded, models: ReadonlyMap<string, Model>): void {
    this.inferrer = new Inferrer(loaded, models);
  }

  async handle(batch: Delivered[]): Promise<Outcome> {
    const readable: Array<{ message: Delivered; record: TelemetryRecord }> = [];
    for (const message of batch) {
      try {
        readable.push({ message, record: parseRecord(message.value.toString(), 'processed') });
      } catch (error) {
        if (!(error instanceof RecordError)) throw error;
        this.counted.failed.inc({ reason: 'unreadable' });
      }
    }
    const results = await this.inferrer.infer(readable.map(({ record }) => record));
    const append: Message[] = [];
    const now = Date.now() / 1000;
    readable.forEach(({ message, record }, i) => {
      const result = results[i];
      if (result === undefined || typeof result === 'string') {
        this.counted.failed.inc({ reason: result ?? 'no_inputs' });
        return;
      }
      let text: string;
      try {
        text = printRecord(result);
      } catch (error) {
        if (!(error instanceof RecordError)) throw error;
        this.counted.failed.inc({ reason: 'unreadable' });
        return;
      }
      const router = routerOf(record);
      const topic = this.output ?? topicFor(this.loaded.config.topics.inferred, router);
      append.push({ topic, key: message.key ?? router, headers: message.headers, value: Buffer.from(text) });
      this.counted.inferred.inc();
      this.counted.latency.observe(Math.max(0, now - epochMicros(record.epoch_timestamp) / 1e6));
    });
    return { append };
  }
}
