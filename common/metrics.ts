/** ndt's own metrics: counters, gauges and histograms, printed in the Prometheus text format 0.0.4. */

export type Labels = { [name: string]: string };

interface Series {
  labels: Labels;
  value: number;
}

function keyOf(labels: Labels): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}="${value.replace(/[\\"\n]/g, (c) => (c === '\n' ? '\\n' : `\\${c}`))}"`)
    .join(',');
}

function numberText(value: number): string {
  if (value === Infinity) return '+Inf';
  if (value === -Infinity) return '-Inf';
  return String(value);
}

abstract class Instrument {
  readonly name: string;
  readonly help: string;
  abstract readonly type: string;
  constructor(name: string, help: string) {
    this.name = name;
    this.help = help;
  }
  abstract lines(): string[];
}

export class Counter extends Instrument {
  readonly type: string = 'counter';
  protected readonly series = new Map<string, Series>();

  inc(labels: Labels = {}, by = 1): void {
    const series = this.at(labels);
    series.value += by;
  }
  get(labels: Labels = {}): number {
    return this.series.get(keyOf(labels))?.value ?? 0;
  }
  protected at(labels: Labels): Series {
    const key = keyOf(labels);
    let series = this.series.get(key);
    if (series === undefined) {
      series = { labels, value: 0 };
      this.series.set(key, series);
    }
    return series;
  }
  lines(): string[] {
    return [...this.series].map(([key, { value }]) => `${this.name}${key === '' ? '' : `{${key}}`} ${numberText(value)}`);
  }
}

export class Gauge extends Counter {
  override readonly type: string = 'gauge';
  set(value: number, labels: Labels = {}): void {
    this.at(labels).value = value;
  }
  clear(): void {
    this.series.clear();
  }
}

export class Histogram extends Instrument {
  readonly type = 'histogram';
  private readonly bounds: readonly number[];
  private readonly series = new Map<string, { counts: number[]; sum: number; count: number }>();

  constructor(name: string, help: string, bounds: readonly number[]) {
    super(name, help);
    this.bounds = bounds;
  }
  observe(value: number, labels: Labels = {}): void {
    const key = keyOf(labels);
    let series = this.series.get(key);
    if (series === undefined) {
      series = { counts: this.bounds.map(() => 0), sum: 0, count: 0 };
      this.series.set(key, series);
    }
    series.sum += value;
    series.count += 1;
    const bucket = this.bounds.findIndex((bound) => value <= bound);
    if (bucket >= 0) series.counts[bucket] = (series.counts[bucket] ?? 0) + 1;
  }
  lines(): string[] {
    return [...this.series].flatMap(([key, { counts, sum, count }]) => {
      const more = key === '' ? '' : `${key},`;
      let below = 0;
      const buckets = this.bounds.map((bound, i) => {
        below += counts[i] ?? 0;
        return `${this.name}_bucket{${more}le="${numberText(bound)}"} ${below}`;
      });
      const own = key === '' ? '' : `{${key}}`;
      return [
        ...buckets,
        `${this.name}_bucket{${more}le="+Inf"} ${count}`,
        `${this.name}_sum${own} ${numberText(sum)}`,
        `${this.name}_count${own} ${count}`,
      ];
    });
  }
}

/** Seconds, from half a millisecond to ten seconds. */
export const LATENCY_BOUNDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export class Metrics {
  private readonly instruments = new Map<string, Instrument>();
  private readonly collectors: Array<() => void> = [];

  counter(name: string, help: string): Counter {
    return this.add(new Counter(name, help));
  }
  gauge(name: string, help: string): Gauge {
    return this.add(new Gauge(name, help));
  }
  histogram(name: string, help: string, bounds: readonly number[] = LATENCY_BOUNDS): Histogram {
    return this.add(new Histogram(name, help, bounds));
  }
  /** Runs before every scrape, to set gauges that are read rather than counted. */
  onCollect(collect: () => void): void {
    this.collectors.push(collect);
  }
  /** The exposition. */
  print(): string {
    for (const collect of this.collectors) collect();
    const lines = [...this.instruments.values()].flatMap((i) => [`# HELP ${i.name} ${i.help}`, `# TYPE ${i.name} ${i.type}`, ...i.lines()]);
    return `${lines.join('\n')}\n`;
  }
  private add<T extends Instrument>(instrument: T): T {
    if (this.instruments.has(instrument.name)) throw new Error(`metric ${instrument.name} is declared twice`);
    this.instruments.set(instrument.name, instrument);
    return instrument;
  }
}

/** What every program tells of itself. */
export function processMetrics(metrics: Metrics, program: string, version: string): void {
  metrics.gauge('ndt_build_info', 'The program and its version, always 1').set(1, { program, version, node: process.versions.node });
  const rss = metrics.gauge('process_resident_memory_bytes', 'Resident memory of the process');
  const cpu = metrics.counter('process_cpu_seconds_total', 'User and system time of the process');
  const start = metrics.gauge('process_start_time_seconds', 'Start of the process, Unix seconds');
  start.set(Math.round(Date.now() / 1000 - process.uptime()));
  metrics.onCollect(() => {
    rss.set(process.memoryUsage.rss());
    const { user, system } = process.cpuUsage();
    cpu.inc({}, (user + system) / 1e6 - cpu.get());
  });
}
