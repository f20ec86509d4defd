/**
 * Counters from a file, to try a pipeline with known figures: `{"period_0": {"total_bytes": "62500000", "total_packets": "52083"}, …}`.
 * Each poll takes the next period; after the last comes the first again, which is a counter reset.
 */
import { readFileSync } from 'node:fs';
import type { Router } from '../../common/config.ts';
import { codeOf, messageOf, NdtError } from '../../common/errors.ts';
import { parseCounter } from '../../common/rates.ts';
import { type MetricFamily, RECEIVED_BYTES, RECEIVED_PACKETS } from '../../common/record.ts';
import { keepMonitored } from '../families.ts';
import { InterfaceFilter } from '../interfaces.ts';
import type { CounterSample, Source, SourceOptions } from '../source.ts';

/** The file has figures of one interface, whatever interfaces the router has otherwise. */
const DEVICE = 'eth0';

export interface Period {
  bytes: string;
  packets: string;
}

export class TestMetricsSource implements Source {
  readonly name: string;
  private readonly router: Router;
  private readonly options: SourceOptions;
  private readonly periods: Period[];
  private next = 0;

  /** @throws NdtError CONFIG with the file and the field that is wrong */
  constructor(router: Router, options: SourceOptions) {
    this.name = router.name;
    this.router = router;
    this.options = options;
    this.periods = readPeriods(router.testMetricsFile);
  }

  async poll(signal: AbortSignal): Promise<CounterSample> {
    signal.throwIfAborted();
    const sample = this.sample(this.next);
    const { families } = keepMonitored(
      sample.families,
      this.options.families,
      new InterfaceFilter([DEVICE], []),
      `${this.name}: ${this.router.testMetricsFile}`,
    );
    this.next = (this.next + 1) % this.periods.length;
    return { ...sample, families };
  }

  /** The period that was polled last. */
  async collect(signal: AbortSignal): Promise<CounterSample> {
    signal.throwIfAborted();
    return this.sample((this.next + this.periods.length - 1) % this.periods.length);
  }

  close(): void {}

  private sample(period: number): CounterSample {
    const { bytes = '0', packets = '0' } = this.periods[period] ?? {};
    return {
      router: this.router,
      readAtMicros: this.options.clock.nowMicros(),
      monotonicNs: this.options.clock.monotonicNs(),
      interfaces: [DEVICE],
      missing: [],
      families: [family(RECEIVED_BYTES, 'receive_bytes', bytes), family(RECEIVED_PACKETS, 'receive_packets', packets)],
      testMetrics: true,
    };
  }
}

function family(name: string, statistic: string, value: string): MetricFamily {
  return {
    name,
    description: `Network device statistic ${statistic}.`,
    type: 'counter',
    values: [{ labels: [{ name: 'device', value: DEVICE }], value }],
  };
}

const EXAMPLE = '{"period_0": {"total_bytes": "62500000", "total_packets": "52083"}}';

/** The periods of a file by their numbers. @throws NdtError CONFIG */
export function readPeriods(file: string): Period[] {
  const refuse = (text: string) => new NdtError('CONFIG', `${file}: ${text}`);
  let json: string;
  try {
    json = readFileSync(file, 'utf8');
  } catch (error) {
    const why = codeOf(error) === 'ENOENT' ? 'there is no such file' : `cannot be read (${codeOf(error) ?? messageOf(error)})`;
    throw refuse(`${why}: a router with test_metrics needs it, beside the configuration: ${EXAMPLE}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw refuse(`not valid JSON (${messageOf(error)}): expected ${EXAMPLE}`);
  }
  if (!isObject(value)) throw refuse(`expected an object of periods, such as ${EXAMPLE}`);
  const periods = Object.entries(value).map(([name, fields]) => {
    const number = /^period_(\d{1,9})$/.exec(name)?.[1];
    if (number === undefined) throw refuse(`${name}: expected a name such as period_0`);
    if (!isObject(fields)) throw refuse(`${name}: expected an object, such as {"total_bytes": "62500000", "total_packets": "52083"}`);
    const counter = (field: string): string => {
      const text = fields[field];
      if (typeof text === 'string' && parseCounter(text) !== undefined) return text;
      throw refuse(
        `${name}.${field}: expected a whole number as text, such as "62500000", got ${text === undefined ? 'nothing' : JSON.stringify(text).slice(0, 60)}`,
      );
    };
    return { number: Number(number), bytes: counter('total_bytes'), packets: counter('total_packets') };
  });
  if (periods.length === 0) throw refuse(`expected at least one period, such as ${EXAMPLE}`);
  return periods.sort((a, b) => a.number - b.number).map(({ bytes, packets }) => ({ bytes, packets }));
}

function isObject(value: unknown): value is { [name: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
