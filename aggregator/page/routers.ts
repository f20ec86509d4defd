/** The table of routers with their live figures. */
import type { LatestBody } from '../api-schemas.ts';
import { byId, type Cell, element, figureCell, setFlag, setText } from './elements.ts';
import { age, duration, packetLength, packetRate, percentage, watts } from './format.ts';

interface Row {
  latest: LatestBody;
  node: HTMLTableRowElement;
  button: HTMLButtonElement;
  bar: HTMLElement;
  cells: { rate: Cell; length: Cell; occupation: Cell; power: Cell; latency: Cell; last: Cell };
  /** Usual time between two records [s]. */
  interval: number | undefined;
}

/** From this occupation on the bar warns [%]. */
const HIGH = 90;
const STALE_INTERVALS = 4;
const STALE_S = 15;

export class RouterTable {
  private readonly rows = new Map<string, Row>();
  private readonly body = byId('routers-rows');
  private readonly changed = new Set<Row>();
  private readonly onSelect: (router: string) => void;
  private frame = 0;
  selected: string | undefined;

  constructor(onSelect: (router: string) => void) {
    this.onSelect = onSelect;
  }

  get size(): number {
    return this.rows.size;
  }

  latestOf(router: string): LatestBody | undefined {
    return this.rows.get(router)?.latest;
  }

  /** Event time of the newest figures of all routers. */
  newest(): number | undefined {
    let newest: number | undefined;
    for (const { latest } of this.rows.values()) if (newest === undefined || latest.at > newest) newest = latest.at;
    return newest;
  }

  update(latest: LatestBody): void {
    let row = this.rows.get(latest.router);
    if (row === undefined) {
      row = this.add(latest);
    } else {
      const passed = latest.at - row.latest.at;
      if (passed > 0) row.interval = row.interval === undefined ? passed : row.interval * 0.8 + passed * 0.2;
    }
    // Until its inference is there, a record keeps the power of the one before.
    const power = latest.power ?? (latest.at - row.latest.at < 10 ? row.latest.power : null);
    const latency_ms = latest.latency_ms ?? (latest.at - row.latest.at < 10 ? row.latest.latency_ms : null);
    row.latest = { ...latest, power, latency_ms };
    this.changed.add(row);
    if (this.frame === 0) this.frame = requestAnimationFrame(() => this.draw());
  }

  select(router: string): void {
    this.selected = router;
    for (const [name, { node, button }] of this.rows) {
      setFlag(node, 'data-selected', name === router);
      button.setAttribute('aria-pressed', String(name === router));
    }
  }

  /** Brings the ages up to date. */
  tick(now: number): void {
    for (const row of this.rows.values()) {
      const seconds = now - row.latest.at;
      const { text, unit } = age(seconds);
      row.cells.last.figure.set({ text, unit: `${unit} ago` });
      setFlag(row.node, 'data-stale', seconds > Math.max(STALE_S, (row.interval ?? 0) * STALE_INTERVALS));
    }
  }

  private add(latest: LatestBody): Row {
    const button = element('button', { type: 'button', class: 'pick', 'aria-pressed': 'false' }, latest.router);
    const bar = element('span', { class: 'bar', 'aria-hidden': 'true' });
    const cells = {
      rate: figureCell('Packet rate'),
      length: figureCell('Average length'),
      occupation: figureCell('Occupation', 'occupation'),
      power: figureCell('Power'),
      latency: figureCell('Counter to inference'),
      last: figureCell('Last record', 'last'),
    };
    cells.occupation.figure.node.append(bar);
    const node = element(
      'tr',
      { role: 'row', class: 'router' },
      element('td', { role: 'cell' }, button),
      ...Object.values(cells).map((cell) => cell.node),
    );
    node.addEventListener('click', () => this.onSelect(latest.router));
    const row: Row = { latest, node, button, bar, cells, interval: undefined };
    this.rows.set(latest.router, row);
    const next = [...this.rows.keys()]
      .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
      .find((name) => name.localeCompare(latest.router, 'en', { numeric: true }) > 0);
    this.body.insertBefore(node, next === undefined ? null : (this.rows.get(next)?.node ?? null));
    setText(byId('routers-count'), this.rows.size === 1 ? '1 router' : `${this.rows.size} routers`);
    return row;
  }

  private draw(): void {
    this.frame = 0;
    for (const { latest, cells, bar } of this.changed) {
      cells.rate.figure.set(packetRate(latest.rate));
      cells.length.figure.set(packetLength(latest.length));
      cells.occupation.figure.set(percentage(latest.occupation));
      cells.power.figure.set(watts(latest.power));
      cells.latency.figure.set(duration(latest.latency_ms));
      bar.style.setProperty('--share', String(Math.min(1, Math.max(0, (latest.occupation ?? 0) / 100))));
      setFlag(bar, 'data-high', (latest.occupation ?? 0) >= HIGH);
    }
    this.changed.clear();
  }
}
