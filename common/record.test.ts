import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { epochMicros, epochText, inputOf, parseRecord, printRecord, RecordError, routerOf, type StageName } from './record.ts';

const fixture = (stage: string) => readFileSync(new URL(`../test/fixtures/records/seed-${stage}.json`, import.meta.url), 'utf8');

describe('the seed’s example messages', () => {
  it.each<StageName>(['raw', 'processed', 'inferred'])('%s: is read, and written as it was', (stage) => {
    const text = fixture(stage);
    const record = parseRecord(text, stage);
    expect(routerOf(record)).toBe('r1');
    expect(JSON.parse(printRecord(record))).toEqual(JSON.parse(text));
    expect(Object.keys(JSON.parse(printRecord(record)) as object)).toEqual(Object.keys(JSON.parse(text) as object));
    expect(record.metrics?.[0]?.values[0]?.value).toMatch(/^2\.434\d+e\+09$/);
  });

  it.each<StageName>(['processed', 'inferred'])('%s: occupation follows from rate and length, the multiplier taken out', (stage) => {
    const record = parseRecord(fixture(stage), stage);
    const packets = inputOf(record, 'node_network_receive_packets_total_rate') ?? Number.NaN;
    const length = inputOf(record, 'node_network_average_received_packet_length') ?? Number.NaN;
    const occupation = inputOf(record, 'node_network_router_capacity_occupation') ?? Number.NaN;
    expect((((packets / 2000) * length * 8) / 1e8) * 100).toBeCloseTo(occupation, 15);
  });
});

/** A record that a test breaks. */
// biome-ignore lint/suspicious/noExplicitAny: the test writes what the type forbids
type Loose = any;

describe('what is refused', () => {
  const good = () => JSON.parse(fixture('inferred')) as { [field: string]: unknown };
  const refused = (change: (record: Loose) => unknown, stage: StageName = 'inferred') => {
    const record = good();
    change(record);
    try {
      parseRecord(JSON.stringify(record), stage);
    } catch (error) {
      if (error instanceof RecordError) return error.message;
      throw error;
    }
    return 'taken';
  };

  it.each([
    ['node_exporter', (r: Loose) => delete r.node_exporter, 'node_exporter: expected text, got nothing'],
    ['no host', (r: Loose) => (r.node_exporter = ':9100'), 'node_exporter: expected "host:port" with a host'],
    [
      'epoch_timestamp',
      (r: Loose) => (r.epoch_timestamp = 'now'),
      'epoch_timestamp: expected Unix seconds as text ("1745233635.21"), got "now"',
    ],
    ['a number as time', (r: Loose) => (r.epoch_timestamp = 17), 'epoch_timestamp: expected text, got number 17'],
    ['interfaces', (r: Loose) => (r.interfaces = ['eth0', 3]), 'interfaces[1]: expected text, got number 3'],
    [
      'debug_params',
      (r: Loose) => delete r.debug_params,
      'debug_params: expected an object because flag_debug_params is true, got nothing',
    ],
    ['multiplier', (r: Loose) => (r.debug_params.multiplier = 0), 'debug_params.multiplier: expected a number above 0, got number 0'],
    ['a value', (r: Loose) => (r.metrics[0].values[0].value = 5), 'metrics[0].values[0].value: expected text, got number 5'],
    [
      'a large input',
      (r: Loose) => (r.input_ml_metrics[1].value = -1.1e200),
      'input_ml_metrics[1].value: expected a number of at most 1e+200, got -1.1e+200',
    ],
    [
      'a large output',
      (r: Loose) => (r.output_ml_metrics[0].value = [1e308]),
      'output_ml_metrics[0].value: expected a number of at most 1e+200, got 1e+308',
    ],
    ['inputs', (r: Loose) => (r.input_ml_metrics[1].value = '1'), 'input_ml_metrics[1].value: expected a number, got string "1"'],
    ['outputs', (r: Loose) => delete r.output_ml_metrics, 'output_ml_metrics: expected a list, got nothing'],
  ])('%s', (_what, change, message) => {
    expect(refused(change)).toBe(message);
  });

  it('is no figure up to the bound', () => {
    for (const value of [1e200, -1e200, 0]) expect(refused((r) => (r.input_ml_metrics[1].value = value))).toBe('taken');
  });

  it('is a figure beyond what a double holds', () => {
    const text = JSON.stringify({ ...good(), input_ml_metrics: [{ name: 'a', type: 'b', value: 12.5 }] });
    expect(() => parseRecord(text.replace('12.5', '1e999'), 'inferred')).toThrow(
      new RecordError('input_ml_metrics[0].value', 'expected a number of at most 1e+200, got Infinity'),
    );
  });

  it('needs no more than its stage has', () => {
    expect(refused((r) => delete r.output_ml_metrics, 'processed')).toBe('taken');
    expect(refused((r) => delete r.input_ml_metrics, 'raw')).toBe('taken');
    expect(refused((r) => delete r.metrics, 'processed')).toBe('taken');
  });

  it('throws nothing else, whatever comes', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), fc.constantFrom<StageName>('raw', 'processed', 'inferred'), (text, stage) => {
        try {
          parseRecord(text, stage);
        } catch (error) {
          expect(error).toBeInstanceOf(RecordError);
        }
      }),
    );
  });
});

it('says that a record cannot be written which could be read', () => {
  const deep = `${'['.repeat(20_000)}${']'.repeat(20_000)}`;
  const record = parseRecord(fixture('raw').replace('{', `{"further":${deep},`), 'raw');
  expect(() => printRecord(record)).toThrow(new RecordError('', 'nested too deeply to be written'));
});

describe('times', () => {
  it('are exact to the microsecond', () => {
    expect(epochMicros('1745233635.2172275')).toBe(1745233635217227);
    expect(epochMicros('1745233635')).toBe(1745233635000000);
    expect(epochMicros('1745233635.5')).toBe(1745233635500000);
    expect(epochText(1745233635217000)).toBe('1745233635.217');
    expect(epochText(1745233635217227)).toBe('1745233635.217227');
  });
  it('come back as they went', () => {
    fc.assert(fc.property(fc.nat({ max: 4_000_000_000_000_000 }), (micros) => epochMicros(epochText(micros)) === micros));
  });
});
