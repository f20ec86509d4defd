/** What `npm start` shows: on a terminal a table that is drawn again, elsewhere a line for every second and router. */
import type { LiveFigures } from './follow.ts';

const COLUMNS = ['router', 'packets/s', 'avg length', 'occupation', 'power', 'latency', 'at'];
const REDRAW_MS = 250;

export class View {
  private readonly out: NodeJS.WriteStream;
  private readonly latest = new Map<string, LiveFigures>();
  private readonly timer: NodeJS.Timeout | undefined;
  private drawn = 0;
  private closed = false;

  constructor(out: NodeJS.WriteStream) {
    this.out = out;
    if (out.isTTY) {
      this.timer = setInterval(() => this.redraw(), REDRAW_MS);
      this.timer.unref();
    }
  }

  intro(lines: string[]): void {
    this.out.write(`${lines.join('\n')}\n\n`);
  }

  show(figures: LiveFigures): void {
    const last = this.latest.get(figures.router);
    this.latest.set(figures.router, figures);
    if (!this.out.isTTY && !this.closed && last?.at !== figures.at) this.out.write(`${plainLine(figures)}\n`);
  }

  close(): void {
    if (this.closed) return;
    clearInterval(this.timer);
    if (this.out.isTTY) this.redraw();
    this.closed = true;
  }

  private redraw(): void {
    if (this.closed || this.latest.size === 0) return;
    const rows = [COLUMNS, ...[...this.latest.values()].sort((a, b) => a.router.localeCompare(b.router)).map(cells)];
    const widths = COLUMNS.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
    const lines = rows.map((row) =>
      row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  '),
    );
    const up = this.drawn === 0 ? '' : `\x1b[${this.drawn}A`;
    this.out.write(`${up}${lines.map((line) => `\x1b[2K${line}`).join('\n')}\n`);
    this.drawn = lines.length;
  }
}

function cells({ router, at, rate, length, occupation, power, latency_ms }: LiveFigures): string[] {
  return [
    router,
    number(rate, 1, ''),
    number(length, 0, ' B'),
    number(occupation, 4, ' %'),
    number(power, 3, ' W'),
    number(latency_ms, 0, ' ms'),
    new Date(at * 1000).toLocaleTimeString('en-GB'),
  ];
}

function plainLine(figures: LiveFigures): string {
  const [router, rate, length, occupation, power, latency] = cells(figures);
  return `${new Date(figures.at * 1000).toISOString()} ${router}: ${rate} packets/s, average ${length}, occupation ${occupation}, power ${power}, counter to inference ${latency}`;
}

function number(value: number | null, digits: number, unit: string): string {
  return value === null ? '-' : `${value.toFixed(digits)}${unit}`;
}
