/** The charts of one router: rate, occupation and power over one time range, their cursors together. */
import type UPlot from 'uplot';
import type { LatestBody, SeriesBody } from '../api-schemas.ts';
import { byId, element, Figure, setText } from './elements.ts';
import { age, clock, packetRate, percentage, type Reading, ticks, watts } from './format.ts';
import { StepSeries } from './series.ts';

declare const uPlot: typeof UPlot;

export type ChartMetric = 'rate' | 'occupation' | 'power';

interface Kind {
  metric: ChartMetric;
  title: string;
  read: (value: number | null) => Reading;
  /** Begins at 0, and is filled down to it: the area means something. */
  fromZero: boolean;
  /** Least height of the scale, so that noise does not look like news. */
  span: number;
}

const KINDS: readonly Kind[] = [
  { metric: 'rate', title: 'Packet rate', read: packetRate, fromZero: true, span: 1 },
  { metric: 'occupation', title: 'Occupation', read: percentage, fromZero: true, span: 0.001 },
  { metric: 'power', title: 'Power', read: watts, fromZero: false, span: 0.4 },
];

/** The column that the line shows; the others are the edges of its band. */
const AVERAGE = 1;

class Chart {
  readonly metric: ChartMetric;
  readonly node: HTMLElement;
  private readonly kind: Kind;
  private readonly now = new Figure('p', 'now');
  private readonly when = element('span', { class: 'when' });
  private readonly extent = element('span', { class: 'extent' });
  private readonly plot = element('div', { class: 'plot', 'aria-hidden': 'true' });
  private readonly none = element('p', { class: 'none' });
  private series = new StepSeries([], 1, 0);
  private chart: UPlot | undefined;
  private window = { from: 0, to: 1 };
  private pointed = false;

  constructor(kind: Kind) {
    this.kind = kind;
    this.metric = kind.metric;
    const caption = element('figcaption', {}, element('h3', {}, kind.title), this.when, this.now.node, this.extent);
    this.node = element('figure', { class: 'card chart', 'data-metric': kind.metric }, caption, this.plot);
    this.plot.append(this.none);
    new ResizeObserver(() => this.chart?.setSize(this.size())).observe(this.plot);
  }

  load(series: StepSeries): void {
    this.series = series;
  }

  add(at: number, value: number | null): void {
    this.series.add(at, value);
  }

  draw(from: number, to: number, lastAt: number | undefined): void {
    this.window = { from, to };
    this.series.trim(from);
    const columns = this.series.columns();
    if (this.chart === undefined) this.chart = this.make(columns);
    else this.chart.setData(columns, true);
    const extent = this.series.extent();
    const { read } = this.kind;
    setText(this.extent, extent === undefined ? '' : `${read(extent.min).text} to ${together(read(extent.max))}`);
    setText(
      this.none,
      extent !== undefined
        ? ''
        : lastAt === undefined
          ? 'No record yet'
          : `No record in this range. The last one came ${together(age(to - lastAt))} ago.`,
    );
    if (!this.pointed) this.show(undefined);
  }

  /** Colours come from the style sheet: begin anew when they change. */
  restyle(): void {
    this.chart?.destroy();
    this.chart = undefined;
  }

  /** The figure at the cursor, or the last one. */
  private show(index: number | undefined): void {
    this.pointed = index !== undefined;
    const [times, averages] = this.chart?.data ?? [[], []];
    const at = index === undefined ? undefined : times[index];
    this.now.set(this.kind.read((index === undefined ? this.series.extent()?.last : averages?.[index]) ?? null));
    setText(this.when, at === undefined ? '' : clock(at, true));
  }

  private size(): { width: number; height: number } {
    return { width: Math.max(120, this.plot.clientWidth), height: this.plot.clientHeight };
  }

  private make(columns: UPlot.AlignedData): UPlot {
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
    const stroke = colour(this.kind.metric);
    const axis: UPlot.Axis = {
      stroke: colour('soft'),
      font: `11px ${colour('sans')}`,
      grid: { stroke: colour('hairline'), width: 1 },
      ticks: { show: false },
    };
    const hidden: UPlot.Series = { stroke: 'transparent', width: 0, points: { show: false } };
    return new uPlot(
      {
        ...this.size(),
        legend: { show: false },
        // On the right there is room for half of the last time.
        padding: [8, 16, 0, 0],
        cursor: {
          y: false,
          drag: { x: false, y: false },
          sync: { key: 'ndt' },
          points: { size: (_self, series) => (series === AVERAGE ? 7 : 0), width: 2, stroke, fill: colour('surface') },
        },
        scales: {
          x: { time: true, range: () => [this.window.from, this.window.to] },
          y: { range: (_self, least, most) => this.range(least, most) },
        },
        axes: [
          {
            ...axis,
            space: 64,
            size: 26,
            values: (_self, splits, _axis, _space, distance) => splits.map((at) => clock(at, distance < 60, at * 1000)),
          },
          {
            ...axis,
            space: 34,
            size: (_self, values, _axis, cycle) =>
              cycle > 1 || values === null ? 44 : 18 + 6.3 * Math.max(3, ...values.map((value) => value.length)),
            values: (_self, splits, _axis, _space, distance) => ticks(splits, distance),
          },
        ],
        series: [
          {},
          { stroke, width: 1.75, points: { show: false }, ...(this.kind.fromZero ? { fill: (self: UPlot) => fade(self, stroke) } : {}) },
          hidden,
          hidden,
        ],
        bands: [{ series: [2, 3], fill: withAlpha(stroke, 0.16) }],
        hooks: { setCursor: [(self) => this.show(self.cursor.idx ?? undefined)] },
      },
      columns,
      this.plot,
    );
  }

  private range(least: number | null, most: number | null): [number, number] {
    const { fromZero, span } = this.kind;
    if (least === null || most === null) return [0, span];
    if (fromZero) return [0, Math.max(most * 1.12, span)];
    const middle = (least + most) / 2;
    const half = Math.max((most - least) * 0.65, span / 2);
    return [middle - half, middle + half];
  }
}

function together({ text, unit }: Reading): string {
  return `${text} ${unit}`.trim();
}

function fade(self: UPlot, colour: string): CanvasGradient | string {
  const { top, height } = self.bbox;
  if (!Number.isFinite(top) || !Number.isFinite(height)) return 'transparent';
  const gradient = self.ctx.createLinearGradient(0, top, 0, top + height);
  gradient.addColorStop(0, withAlpha(colour, 0.26));
  gradient.addColorStop(1, withAlpha(colour, 0.02));
  return gradient;
}

/** A `#rrggbb` colour with an alpha of 0 to 1. */
function withAlpha(colour: string, alpha: number): string {
  return `${colour}${Math.round(alpha * 255)
    .toString(16)
    .padStart(2, '0')}`;
}

export class Charts {
  private readonly charts = KINDS.map((kind) => new Chart(kind));

  constructor() {
    byId('charts').append(...this.charts.map(({ node }) => node));
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      for (const chart of this.charts) chart.restyle();
    });
  }

  get metrics(): ChartMetric[] {
    return this.charts.map(({ metric }) => metric);
  }

  /**
   * Shows a history.
   * @param upTo event time of the newest record in it [Unix s]
   */
  load(histories: readonly SeriesBody[], upTo: number): void {
    for (const chart of this.charts) {
      const history = histories.find(({ metric }) => metric === chart.metric);
      if (history !== undefined) chart.load(new StepSeries(history.points, history.step, upTo));
    }
  }

  add(latest: LatestBody): void {
    for (const chart of this.charts) chart.add(latest.at, latest[chart.metric]);
  }

  /** Draws [from, to) [Unix s]. */
  draw(from: number, to: number, lastAt: number | undefined): void {
    for (const chart of this.charts) chart.draw(from, to, lastAt);
  }
}
