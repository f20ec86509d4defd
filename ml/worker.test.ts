import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig, readJson } from '../common/config.ts';
import { messageOf } from '../common/errors.ts';
import { Metrics } from '../common/metrics.ts';
import { type MlOutput, parseRecord, printRecord, type TelemetryRecord } from '../common/record.ts';
import { delivered, deliveredRecord, recordWith } from '../test/telemetry.ts';
import { tempDir } from '../test/tempdir.ts';
import { formulaModels } from './models/formula.ts';
import { Inferrer, loadModels, MlStage } from './worker.ts';

const seed = (stage: 'processed' | 'inferred') =>
  parseRecord(readFileSync(new URL(`../test/fixtures/records/seed-${stage}.json`, import.meta.url), 'utf8'), stage);

function config(value: object) {
  const dir = tempDir();
  writeFileSync(join(dir, 'config.json'), JSON.stringify(value, null, 1));
  return { dir, load: () => loadConfig(join(dir, 'config.json'), {}) };
}
const outputs = (record: TelemetryRecord | string | undefined) =>
  (typeof record === 'object' ? record.output_ml_metrics : undefined) as MlOutput[];
const only = <T>(values: T[]) => values[0];

describe('the shipped models', () => {
  it('give the seed’s inferred message for its inputs', async () => {
    const loaded = config({}).load();
    const inferred = seed('inferred');
    const { output_ml_metrics, ...processed } = inferred;
    const found = only(await new Inferrer(loaded, await loadModels(loaded)).infer([processed]));
    expect(outputs(found).map(({ name, type }) => ({ name, type }))).toEqual(output_ml_metrics?.map(({ name, type }) => ({ name, type })));
    const x = 0.003811188890163414 / 100;
    const [power, byX, byY] = outputs(found).map(({ value }) => value);
    expect(power).toEqual([700 + 20 * x ** 2 - 0.0008 * 1464]);
    expect((power as number[])[0]).toBeCloseTo(698.8288, 6);
    expect(byX).toEqual([40 * x]);
    expect(byY).toBe(-0.0008);
    expect(typeof found === 'object' && found.debug_params?.ml_timestamp).toMatch(/^\d{10}\.\d{3}$/);
  });

  it('by router type: B idles at 500 W, and A is the default', async () => {
    const loaded = config({ routers: [{ r1: { router_type: 'B' } }] }).load();
    const inferrer = new Inferrer(loaded, await loadModels(loaded));
    const r1 = seed('processed');
    const r9 = { ...r1, node_exporter: 'r9:9100' };
    const [b, a] = (await inferrer.infer([r1, r9])).map((record) => [outputs(record)[0]?.value].flat()[0]);
    expect(b).toBeCloseTo(500 - 0.0008 * 1464, 6);
    expect(a).toBeCloseTo(700 - 0.0008 * 1464, 6);
  });

  it('say why a record gives nothing', async () => {
    const loaded = config({}).load();
    const inferrer = new Inferrer(loaded, await loadModels(loaded));
    expect(await inferrer.infer([{ ...seed('processed'), input_ml_metrics: [] }])).toEqual(['no_inputs']);
  });
});

describe('on the bus', () => {
  it('leaves out a record that is nested too deeply, and goes on with the rest of the batch', async () => {
    const loaded = config({}).load();
    const metrics = new Metrics();
    const stage = new MlStage(loaded, await loadModels(loaded), metrics);
    const T0 = 1_745_233_620_000_000;
    const deep = `,"further":${'['.repeat(20_000)}${']'.repeat(20_000)}}`;
    const batch = [
      deliveredRecord(recordWith({ at: T0 }), 1),
      delivered('TP_r1', printRecord(recordWith({ at: T0 + 1 })).replace(/}$/, deep)),
      deliveredRecord(recordWith({ at: T0 + 2 }), 3),
    ];
    const { append = [] } = await stage.handle(batch);
    expect(append.map(({ topic, headers }) => [topic, headers['ndt-seq']])).toEqual([
      ['ML_r1', '1'],
      ['ML_r1', '3'],
    ]);
    expect(metrics.print()).toContain('\nndt_inference_failures_total{reason="unreadable"} 1\n');
  });
});

describe('formulas', () => {
  const load = (models: unknown) => {
    const file = join(tempDir(), 'models.json');
    writeFileSync(file, typeof models === 'string' ? models : JSON.stringify(models, null, 1));
    return formulaModels(file, readJson(file));
  };
  const refusal = (models: unknown) => {
    try {
      load(models);
    } catch (error) {
      return messageOf(error).replace(/\S*models\.json/, 'models.json');
    }
    return 'taken';
  };

  it('have their derivatives worked out, or take the given ones', async () => {
    const models = load({
      C: { power: '300 + 5 sqrt(x) + y^2 / 1000' },
      D: { power: '10 + max(x, 0.1)', by_occupation: '2', by_packet_length: '0' },
    });
    expect(await models.get('C')?.infer([{ occupation: 0.25, packetLength: 100 }])).toEqual([
      { power: 312.5, byOccupation: 5, byPacketLength: 0.2 },
    ]);
    expect(await models.get('D')?.infer([{ occupation: 0.5, packetLength: 1 }])).toEqual([
      { power: 10.5, byOccupation: 2, byPacketLength: 0 },
    ]);
  });

  it.each([
    ['no formula', { A: { power: '700 + * 3' } }, 'models.json:3: A.power: "700 + * 3" is no formula: Value expected (char 7)'],
    [
      'unknown variable',
      { A: { power: '700 + 3 z' } },
      'models.json:3: A.power: "700 + 3 z": unknown variable "z"; known are x (occupation, a fraction) and y (average packet length, bytes)',
    ],
    ['assignment', { A: { power: 'x = 5' } }, 'models.json:3: A.power: "x = 5": assignment is not allowed in a formula'],
    ['import', { A: { power: 'import(x)' } }, 'models.json:3: A.power: "import(x)": there is no function "import"; there are:'],
    ['method', { A: { power: 'x.constructor(y)' } }, 'models.json:3: A.power: "x.constructor(y)":'],
    ['no derivative', { A: { power: 'floor(x)' } }, 'models.json:3: A.power: its derivative by x cannot be worked out ('],
    ['a bad given derivative', { A: { power: 'x', by_occupation: 'q' } }, 'models.json:4: A.by_occupation: "q": unknown variable "q"'],
    ['no power', { A: { version: '1' } }, 'models.json:2: A: expected the formula "power"'],
    ['a number', { A: { power: 5 } }, 'models.json:3: A.power: expected text, got number'],
    ['a field of another name', { A: { powr: 'x' } }, 'models.json:3: A.powr: there is no such field'],
    ['nothing', {}, 'models.json: expected an object from router type to its model, with at least one'],
    ['broken JSON', '{\n"A": }', 'models.json:2:6: not valid JSON (expected a value)'],
  ])('refused: %s', (_what, models, message) => {
    expect(refusal(models).startsWith(message), refusal(models)).toBe(true);
  });

  it('without a value give no inference, never NaN', async () => {
    const { dir, load: loaded } = config({ ml: { models_file: 'm.json', default_type: 'L' } });
    writeFileSync(join(dir, 'm.json'), JSON.stringify({ L: { power: 'log(x - 1)' } }));
    expect(await new Inferrer(loaded(), await loadModels(loaded())).infer([seed('processed')])).toEqual(['not_finite']);
  });
});

it('an unknown router type stops the start, with its place', async () => {
  const { load } = config({ routers: [{ r1: { router_type: 'Z' } }] });
  await expect(loadModels(load())).rejects.toThrow(
    /config\.json:5: routers\[0\]\.r1\.router_type: unknown router type "Z"; .*power-models\.json has: A, B/,
  );
});
