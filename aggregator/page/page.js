// Made from the .ts files beside it by `npm run generate`.

'use strict';
(() => {
// format.ts

/** Numbers as people read them: a figure of few digits, and its unit. */

const NONE          = { text: '–', unit: '' };
const SCALES                                           = [
  [1e12, 'T'],
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
];

/** Three digits, and k, M, G or T from a thousand on. */
function quantity(value        )         {
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size < 0.01) return String(Number(value.toPrecision(2)));
  // What rounds up to a thousand is one.
  const scale = SCALES.find(([least]) => size >= least * 0.9995);
  if (scale !== undefined) return `${digits(value / scale[0])}${scale[1]}`;
  return digits(value);
}

function digits(value        )         {
  const size = Math.abs(value);
  return value.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

function packetRate(value               )          {
  return value === null ? NONE : { text: quantity(value), unit: 'packets/s' };
}

function packetLength(value               )          {
  return value === null ? NONE : { text: value.toFixed(value < 99.95 && value !== Math.round(value) ? 1 : 0), unit: 'bytes' };
}

function percentage(value               )          {
  if (value === null) return NONE;
  if (value === 0) return { text: '0', unit: '%' };
  if (value < 0.0001) return { text: '<0.0001', unit: '%' };
  const places = value >= 9.995 ? 1 : value >= 0.1 ? 2 : 4;
  return { text: value.toFixed(places), unit: '%' };
}

function watts(value               )          {
  if (value === null) return NONE;
  return Math.abs(value) < 9999.5 ? { text: value.toFixed(2), unit: 'W' } : { text: (value / 1000).toFixed(2), unit: 'kW' };
}

/** What a router is made of, in a line; nothing where that is not known. */
function machine(inventory                               )         {
  if (inventory === null) return '';
  const { system, os, cpu, memory } = inventory;
  const words = (...parts                      ) => parts.filter((part) => part !== null).join(' ');
  const cores = cpu.cores === null ? null : `${cpu.cores} ${cpu.cores === 1 ? 'thread' : 'threads'}`;
  return [
    words(system.manufacturer, system.model, system.virtual === true ? '(virtual)' : null),
    [words(cpu.manufacturer, cpu.brand), cores].filter((part) => part !== '' && part !== null).join(', '),
    memory.total_bytes === null ? '' : `${quantity(memory.total_bytes).replace(/[kMGT]?$/, ' $&')}B`,
    words(os.distribution, os.release),
    words(os.kernel === null ? null : 'kernel', os.kernel),
  ]
    .filter((part) => part !== '')
    .join(' · ');
}

/** Milliseconds, or what is readable above a second. */
function duration(ms               )          {
  if (ms === null) return NONE;
  const size = Math.abs(ms);
  if (size < 99.95) return { text: ms.toFixed(1), unit: 'ms' };
  if (size < 999.5) return { text: ms.toFixed(0), unit: 'ms' };
  if (size < 99_950) return { text: (ms / 1000).toFixed(size < 9995 ? 2 : 1), unit: 's' };
  return age(ms / 1000);
}

/** How long ago [s]: one unit, no more digits than it takes. */
function age(seconds        )          {
  // Clocks that differ by a moment are no news from the future.
  const size = seconds < 0 && seconds > -2 ? 0 : seconds;
  if (Math.abs(size) < 9.95) return { text: size.toFixed(1), unit: 's' };
  if (Math.abs(size) < 99.5) return { text: size.toFixed(0), unit: 's' };
  if (Math.abs(size) < 5970) return { text: (size / 60).toFixed(0), unit: 'min' };
  if (Math.abs(size) < 171_000) return { text: (size / 3600).toFixed(0), unit: 'h' };
  return { text: (size / 86_400).toFixed(0), unit: 'd' };
}

const WHOLE = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** Every digit, in groups of three: counts have to be exact. */
function count(value        )         {
  return WHOLE.format(value);
}

/** Marks of an axis: all at one scale, with the decimals that their distance needs. */
function ticks(values                   , distance        )           {
  const most = Math.max(...values.map(Math.abs), 0);
  const [factor, letter] = SCALES.find(([least]) => most >= least && distance >= least / 1000) ?? [1, ''];
  const places = Math.max(0, Math.min(8, Math.ceil(-Math.log10(distance / factor) - 1e-9)));
  return values.map((value) => (value === 0 ? '0' : `${(value / factor).toFixed(places)}${letter}`));
}

/** Time of day of a Unix time [s], with the date when it is not today's. */
function clock(seconds        , withSeconds         , now = Date.now())         {
  const date = new Date(seconds * 1000);
  const two = (n        ) => String(n).padStart(2, '0');
  const time = `${two(date.getHours())}:${two(date.getMinutes())}${withSeconds ? `:${two(date.getSeconds())}` : ''}`;
  if (date.toDateString() === new Date(now).toDateString()) return time;
  return `${date.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' })} ${time}`;
}

/** Ranges of numbers in few words: `7, 9–12 and 3 more`. */
function ranges(list                                             , shown = 4)         {
  const first = list.slice(0, shown).map(({ from, to }) => (from === to ? count(from) : `${count(from)}–${count(to)}`));
  return list.length > shown ? `${first.join(', ')} and ${list.length - shown} more` : first.join(', ');
}

// series.ts

/** One metric over time as a chart takes it: history by steps from the API, and live figures that go into the same steps. */

/** Times, averages, greatest and least values; null breaks the line. */

class StepSeries {
                   points         ;
                   step        ;
  /** Figures up to here came with the history. */
          newest        ;

  /**
   * @param step length of a step [s]
   * @param upTo event time of the newest figures in the history [Unix s]
   */
  constructor(points                  , step        , upTo        ) {
    this.points = points.map((point) => ({ ...point }));
    this.step = step;
    this.newest = upTo;
  }

  /** Adds a live figure. One that is not newer than all others came already. */
  add(at        , value               )       {
    if (at <= this.newest || value === null) return;
    this.newest = at;
    const start = Math.floor(at / this.step) * this.step;
    const last = this.points.at(-1);
    if (last === undefined || start > last.at) {
      this.points.push({ at: start, average: value, min: value, max: value, count: 1 });
      return;
    }
    if (start < last.at) return;
    last.average = (last.average * last.count + value) / (last.count + 1);
    last.count += 1;
    last.min = Math.min(last.min, value);
    last.max = Math.max(last.max, value);
  }

  /** Forgets what begins before a time [Unix s]. */
  trim(from        )       {
    const keep = this.points.findIndex(({ at }) => at + this.step > from);
    this.points.splice(0, keep < 0 ? this.points.length : keep);
  }

  /** The columns of a chart. Where records are missing for much longer than usual the line breaks. */
  columns()          {
    const gap = this.usualDistance() * 2.5;
    const columns          = [[], [], [], []];
    let previous                    ;
    for (const { at, average, min, max } of this.points) {
      if (previous !== undefined && at - previous > gap) push(columns, previous + this.step, null, null, null);
      push(columns, at, average, max, min);
      previous = at;
    }
    return columns;
  }

  /** Least and greatest value, and the last average; undefined without points. */
  extent()                                                         {
    const last = this.points.at(-1);
    if (last === undefined) return undefined;
    let { min, max } = last;
    for (const point of this.points) {
      if (point.min < min) min = point.min;
      if (point.max > max) max = point.max;
    }
    return { min, max, last: last.average };
  }

          usualDistance()         {
    const distances           = [];
    for (let i = 1; i < this.points.length; i += 1) distances.push((this.points[i]?.at ?? 0) - (this.points[i - 1]?.at ?? 0));
    distances.sort((a, b) => a - b);
    return Math.max(this.step, distances[Math.floor(distances.length / 2)] ?? this.step);
  }
}

function push(columns         , at        , average               , max               , min               )       {
  columns[0].push(at);
  columns[1].push(average);
  columns[2].push(max);
  columns[3].push(min);
}

// elements.ts

/** Making and finding elements. Text always goes in as text, and style only as custom properties, so the page needs no inline style. */

function element                                       (
  tag   ,
  properties                             = {},
  ...children
)                           {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function byId(id        )              {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element #${id}`);
  return found;
}

/** A text that is touched only when it changes. */
function setText(node      , text        )       {
  if (node.textContent !== text) node.textContent = text;
}

function setFlag(node             , name        , on         )       {
  if (on !== node.hasAttribute(name)) node.toggleAttribute(name, on);
}

/** A figure with its unit that can be changed in place. */
class Figure {
           node             ;
                   value = element('span', { class: 'value' }, '–');
                   unit = element('span', { class: 'unit' });

  constructor(tag               = 'span', className = 'figure') {
    this.node = element(tag, { class: className }, this.value, this.unit);
  }

  set({ text, unit }         )       {
    setText(this.value, text);
    setText(this.unit, unit);
  }
}

/** A table cell with a figure; its label shows where the table has no head (narrow screens). */
function figureCell(label        , className = '')       {
  const figure = new Figure();
  return { node: element('td', { role: 'cell', class: `number ${className}`.trim(), 'data-label': label }, figure.node), figure };
}

const TABLE_ROLES = { table: 'table', 'thead, tbody': 'rowgroup', tr: 'row', th: 'columnheader' };

/** Tables stay tables for screen readers where the style sheet lays them out as cards, which would end that. */
function keepTableRoles()       {
  for (const [selector, role] of Object.entries(TABLE_ROLES))
    for (const node of document.querySelectorAll(selector)) node.setAttribute('role', role);
}

// connection.ts

/**
 * The connection to the aggregator: live figures over server-sent events, and everything else asked for every few seconds, which also
 * notices a connection that is dead without anyone having said so.
 */

/** A stream that was refused is asked for again after this. */
const RETRY_MS = 4000;
const ANSWER_MS = 8000;
/** The aggregator's clock counts when it differs by more than this from ours. */
const SKEW_MS = 3000;

/** What the aggregator answered instead of the data. */
class AnswerError extends Error {
           status        ;
  constructor(status        , path        ) {
    super(`${path} answered ${status}`);
    this.status = status;
  }
}

class Connection {
                   events                  ;
          source                         ;
          state                  = 'connecting';
          lastContact = new Date();
          retry                    ;
          skewMs = 0;

  constructor(events                  ) {
    this.events = events;
  }

  start()       {
    this.open();
  }

  /** Now, on the aggregator's clock [Unix s]. */
  now()         {
    return (Date.now() + this.skewMs) / 1000;
  }

  /** Asks the API. Rejects with AnswerError for an error's status, and goes offline when nobody answers. */
  async ask   (path        )             {
    let response          ;
    try {
      response = await fetch(path, { signal: AbortSignal.timeout(ANSWER_MS), headers: { accept: 'application/json' } });
    } catch (error) {
      this.lost();
      throw error;
    }
    this.contact(response.headers.get('date'));
    if (!response.ok) throw new AnswerError(response.status, path);
    return (await response.json())     ;
  }

          open()       {
    clearTimeout(this.retry);
    this.source?.close();
    const source = new EventSource('/api/v1/stream');
    this.source = source;
    source.addEventListener('open', () => {
      clearTimeout(this.retry);
      this.contact(null);
      this.turn('live');
      this.events.connected();
    });
    source.addEventListener('figures', (event) => {
      this.contact(null);
      this.events.figures(JSON.parse((event                        ).data)              );
    });
    source.addEventListener('error', () => {
      if (source === this.source) this.lost();
    });
  }

          contact(date               )       {
    this.lastContact = new Date();
    if (date === null) return;
    // The header's resolution is a second.
    const difference = Date.parse(date) + 500 - Date.now();
    this.skewMs = Math.abs(difference) > SKEW_MS ? difference : 0;
  }

          lost()       {
    this.turn('offline');
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.open(), RETRY_MS);
  }

          turn(state                 )       {
    if (state === this.state) return;
    this.state = state;
    this.events.state(state, this.lastContact);
  }
}

// routers.ts

/** The table of routers with their live figures. */

/** From this occupation on the bar warns [%]. */
const HIGH = 90;
const STALE_INTERVALS = 4;
const STALE_S = 15;

class RouterTable {
                   rows = new Map             ();
                   body = byId('routers-rows');
                   changed = new Set     ();
                   onSelect                          ;
          frame = 0;
  selected                    ;

  constructor(onSelect                          ) {
    this.onSelect = onSelect;
  }

  get size()         {
    return this.rows.size;
  }

  latestOf(router        )                         {
    return this.rows.get(router)?.latest;
  }

  /** Event time of the newest figures of all routers. */
  newest()                     {
    let newest                    ;
    for (const { latest } of this.rows.values()) if (newest === undefined || latest.at > newest) newest = latest.at;
    return newest;
  }

  update(latest            )       {
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

  select(router        )       {
    this.selected = router;
    for (const [name, { node, button }] of this.rows) {
      setFlag(node, 'data-selected', name === router);
      button.setAttribute('aria-pressed', String(name === router));
    }
  }

  /** Brings the ages up to date. */
  tick(now        )       {
    for (const row of this.rows.values()) {
      const seconds = now - row.latest.at;
      const { text, unit } = age(seconds);
      row.cells.last.figure.set({ text, unit: `${unit} ago` });
      setFlag(row.node, 'data-stale', seconds > Math.max(STALE_S, (row.interval ?? 0) * STALE_INTERVALS));
    }
  }

          add(latest            )      {
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
    const row      = { latest, node, button, bar, cells, interval: undefined };
    this.rows.set(latest.router, row);
    const next = [...this.rows.keys()]
      .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
      .find((name) => name.localeCompare(latest.router, 'en', { numeric: true }) > 0);
    this.body.insertBefore(node, next === undefined ? null : (this.rows.get(next)?.node ?? null));
    setText(byId('routers-count'), this.rows.size === 1 ? '1 router' : `${this.rows.size} routers`);
    return row;
  }

          draw()       {
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

// charts.ts

/** The charts of one router: rate, occupation and power over one time range, their cursors together. */

const KINDS                  = [
  { metric: 'rate', title: 'Packet rate', read: packetRate, fromZero: true, span: 1 },
  { metric: 'occupation', title: 'Occupation', read: percentage, fromZero: true, span: 0.001 },
  { metric: 'power', title: 'Power', read: watts, fromZero: false, span: 0.4 },
];

/** The column that the line shows; the others are the edges of its band. */
const AVERAGE = 1;

class Chart {
           metric             ;
           node             ;
                   kind      ;
                   now = new Figure('p', 'now');
                   when = element('span', { class: 'when' });
                   extent = element('span', { class: 'extent' });
                   plot = element('div', { class: 'plot', 'aria-hidden': 'true' });
                   none = element('p', { class: 'none' });
          series = new StepSeries([], 1, 0);
          chart                   ;
          window = { from: 0, to: 1 };
          pointed = false;

  constructor(kind      ) {
    this.kind = kind;
    this.metric = kind.metric;
    const caption = element('figcaption', {}, element('h3', {}, kind.title), this.when, this.now.node, this.extent);
    this.node = element('figure', { class: 'card chart', 'data-metric': kind.metric }, caption, this.plot);
    this.plot.append(this.none);
    new ResizeObserver(() => this.chart?.setSize(this.size())).observe(this.plot);
  }

  load(series            )       {
    this.series = series;
  }

  add(at        , value               )       {
    this.series.add(at, value);
  }

  draw(from        , to        , lastAt                    )       {
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
  restyle()       {
    this.chart?.destroy();
    this.chart = undefined;
  }

  /** The figure at the cursor, or the last one. */
          show(index                    )       {
    this.pointed = index !== undefined;
    const [times, averages] = this.chart?.data ?? [[], []];
    const at = index === undefined ? undefined : times[index];
    this.now.set(this.kind.read((index === undefined ? this.series.extent()?.last : averages?.[index]) ?? null));
    setText(this.when, at === undefined ? '' : clock(at, true));
  }

          size()                                    {
    return { width: Math.max(120, this.plot.clientWidth), height: this.plot.clientHeight };
  }

          make(columns                   )        {
    const style = getComputedStyle(document.documentElement);
    const colour = (name        ) => style.getPropertyValue(`--${name}`).trim();
    const stroke = colour(this.kind.metric);
    const axis             = {
      stroke: colour('soft'),
      font: `11px ${colour('sans')}`,
      grid: { stroke: colour('hairline'), width: 1 },
      ticks: { show: false },
    };
    const hidden               = { stroke: 'transparent', width: 0, points: { show: false } };
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
          { stroke, width: 1.75, points: { show: false }, ...(this.kind.fromZero ? { fill: (self       ) => fade(self, stroke) } : {}) },
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

          range(least               , most               )                   {
    const { fromZero, span } = this.kind;
    if (least === null || most === null) return [0, span];
    if (fromZero) return [0, Math.max(most * 1.12, span)];
    const middle = (least + most) / 2;
    const half = Math.max((most - least) * 0.65, span / 2);
    return [middle - half, middle + half];
  }
}

function together({ text, unit }         )         {
  return `${text} ${unit}`.trim();
}

function fade(self       , colour        )                          {
  const { top, height } = self.bbox;
  if (!Number.isFinite(top) || !Number.isFinite(height)) return 'transparent';
  const gradient = self.ctx.createLinearGradient(0, top, 0, top + height);
  gradient.addColorStop(0, withAlpha(colour, 0.26));
  gradient.addColorStop(1, withAlpha(colour, 0.02));
  return gradient;
}

/** A `#rrggbb` colour with an alpha of 0 to 1. */
function withAlpha(colour        , alpha        )         {
  return `${colour}${Math.round(alpha * 255)
    .toString(16)
    .padStart(2, '0')}`;
}

class Charts {
                   charts = KINDS.map((kind) => new Chart(kind));

  constructor() {
    byId('charts').append(...this.charts.map(({ node }) => node));
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      for (const chart of this.charts) chart.restyle();
    });
  }

  get metrics()                {
    return this.charts.map(({ metric }) => metric);
  }

  /**
   * Shows a history.
   * @param upTo event time of the newest record in it [Unix s]
   */
  load(histories                       , upTo        )       {
    for (const chart of this.charts) {
      const history = histories.find(({ metric }) => metric === chart.metric);
      if (history !== undefined) chart.load(new StepSeries(history.points, history.step, upTo));
    }
  }

  add(latest            )       {
    for (const chart of this.charts) chart.add(latest.at, latest[chart.metric]);
  }

  /** Draws [from, to) [Unix s]. */
  draw(from        , to        , lastAt                    )       {
    for (const chart of this.charts) chart.draw(from, to, lastAt);
  }
}

// accounts.ts

/** The ledger of each agent, and the latencies of the selected router's stages. */

function showLedger({ agents }            )       {
  byId('ledger-none').hidden = agents.length > 0;
  const rows = agents.flatMap((account) => [numbersRow(account), stateRow(account)]);
  replaceRows(byId('ledger-rows'), rows);
}

/** Keeps rows that did not change, so that a selection or a reader's place in the table stays. */
function replaceRows(body             , rows               )       {
  const present = [...body.children];
  rows.forEach((row, i) => {
    const old = present[i];
    if (old === undefined) body.append(row);
    else if (old.outerHTML !== row.outerHTML) old.replaceWith(row);
  });
  for (const old of present.slice(rows.length)) old.remove();
}

function sum(byReason                              )         {
  return Object.values(byReason).reduce((total, n) => total + n, 0);
}

function numbersRow({ agent, ledger, received, difference }         )              {
  const cell = (label        , value                           , flag = '') => {
    const text = value === undefined || value === null ? '–' : count(value);
    return element('td', { role: 'cell', class: `number ${flag}`.trim(), 'data-label': label }, element('span', { class: 'value' }, text));
  };
  const dropped = ledger === null ? undefined : sum(ledger.dropped) + sum(ledger.rejected);
  return element(
    'tr',
    { role: 'row', class: 'account' },
    element('td', { role: 'cell' }, element('span', { class: 'agent' }, agent)),
    cell('Produced', ledger?.produced),
    cell('Delivered', ledger?.delivered),
    cell('Pending', ledger?.pending),
    cell('Dropped', dropped, (dropped ?? 0) > 0 ? 'noted' : ''),
    cell('Duplicates removed', received.duplicates),
    cell('Difference', difference, (difference ?? 0) > 0 ? 'flagged' : ''),
  );
}

function stateRow({ state, difference, ledger, unexplained, received }         )              {
  const badge = state === 'complete' ? 'Nothing missing' : state === 'missing' ? `${count(difference ?? 0)} missing` : 'No ledger yet';
  const details           = [];
  if (state === 'missing') {
    const waiting = unexplained.count - (difference ?? 0);
    details.push(
      `not here: ${ranges(unexplained.ranges)}${waiting > 0 ? ` (${count(waiting)} of them may still come from the agent)` : ''}`,
    );
  }
  if (state === 'unknown') details.push(`${count(received.records)} records are here; the agent’s own account comes with its next ledger`);
  const reasons = { ...ledger?.dropped, ...ledger?.rejected };
  for (const [reason, n] of Object.entries(reasons))
    if (n > 0) details.push(`${count(n)} dropped at the agent: ${reason.replaceAll('_', ' ')}`);
  if (state === 'complete' && (ledger?.pending ?? 0) > 0) details.push(`${count(ledger?.pending ?? 0)} wait at the agent`);
  if (state === 'complete' && details.length === 0) details.push(`all ${count(ledger?.delivered ?? 0)} delivered records are here`);
  return element(
    'tr',
    { role: 'row' },
    element(
      'td',
      { role: 'cell', class: 'detail', colspan: '7' },
      element('span', { class: 'badge', 'data-state': state }, badge),
      details.join('; '),
    ),
  );
}

const STAGES = [
  { stage: 'collected', title: 'Read to collected' },
  { stage: 'processed', title: 'Read to processed' },
  { stage: 'inferred', title: 'Read to inferred' },
]         ;

function showLatencies(router        , { latencies }                  )       {
  const seen = STAGES.flatMap(({ stage, title }) => {
    const quantiles = latencies[stage];
    return quantiles === null ? [] : [{ title, ...quantiles }];
  });
  const records = Math.max(0, ...seen.map((quantiles) => quantiles.count));
  setText(
    byId('latency-note'),
    seen.length === 0 ? router : `${router}, ${count(records)} records in ${Math.round(latencies.window_s / 60)} min`,
  );
  const longest = Math.max(1e-9, ...seen.map(({ p99_ms }) => p99_ms));
  const bodies = seen.map(({ title, p50_ms, p99_ms }) => {
    const median = new Figure();
    median.set(duration(p50_ms));
    const slow = new Figure();
    slow.set(duration(p99_ms));
    const track = element('div', { class: 'track', 'aria-hidden': 'true' }, bar('p99', p99_ms / longest), bar('p50', p50_ms / longest));
    const figures = element('p', { class: 'stage-figures' }, labelled('p50', median), labelled('p99', slow));
    return element(
      'div',
      { class: 'stage' },
      element('div', { class: 'stage-head' }, element('p', { class: 'stage-name' }, title), figures),
      track,
    );
  });
  const none = element('p', { class: 'quiet' }, 'The records carry no stage times: flag_debug_params is off, or none came in time.');
  byId('latency').replaceChildren(...(bodies.length === 0 ? [none] : bodies));
}

function labelled(label        , figure        )              {
  return element('span', {}, element('span', { class: 'note' }, `${label} `), figure.node);
}

function bar(className        , share        )              {
  const node = element('span', { class: className });
  node.style.setProperty('--share', String(Math.max(0, Math.min(1, share))));
  return node;
}

// page.ts

/** The page: what is selected, what is asked for and when, and where it is shown. */

const RANGES = [
  { seconds: 300, label: '5 min' },
  { seconds: 900, label: '15 min' },
  { seconds: 3600, label: '1 h' },
  { seconds: 86_400, label: '24 h' },
];
const ASK_MS = 5000;
/** Histories are asked for again this often: records that came late are in them. */
const HISTORY_MS = 60_000;

const table = new RouterTable((router) => pick(router));
const charts = new Charts();
const connection = new Connection({
  figures: (latest) => figures(latest),
  connected: () => void refresh(true),
  state: (state, since) => showState(state, since),
});
let range = 900;
/** Counts what was asked for last: an answer to an earlier question is not shown. */
let question = 0;
let historyAt = 0;

function figures(latest            )       {
  table.update(latest);
  if (table.selected === undefined) {
    // The router of the address may be about to come.
    if (wanted() === '' || wanted() === latest.router) choose();
  } else if (latest.router === table.selected) {
    charts.add(latest);
  }
  showParts();
}

/** The router that the address names (`#r1`), or nothing. */
function wanted()         {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return '';
  }
}

/** Selects the router of the address, or the first one. */
function choose()       {
  const first = byId('routers-rows').querySelector('button')?.textContent ?? undefined;
  const router = table.latestOf(wanted()) === undefined ? first : wanted();
  if (router !== undefined) select(router);
}

/** Selected by a person: on a narrow screen the charts are out of sight, below the routers. */
function pick(router        )       {
  select(router);
  if (matchMedia('(max-width: 860px)').matches) byId('history').scrollIntoView({ block: 'start' });
}

function select(router        )       {
  if (router === table.selected) return;
  table.select(router);
  setText(byId('history-router'), router);
  history.replaceState(null, '', `#${encodeURIComponent(router)}`);
  void loadHistory();
  void loadRouter();
}

/** Asks, and shows the answer. When nobody answers the connection says so; a router that is gone is nothing to show. */
async function quietly(work                     )                {
  try {
    await work();
  } catch (error) {
    if (error instanceof AnswerError && error.status === 401) location.reload();
    else if (!(error instanceof AnswerError) && !(error instanceof TypeError) && !(error instanceof DOMException)) throw error;
  }
}

function loadHistory()                {
  return quietly(async () => {
    const router = table.selected;
    if (router === undefined) return;
    question += 1;
    const asked = question;
    historyAt = performance.now();
    const to = connection.now();
    const upTo = table.latestOf(router)?.at ?? to;
    // A little beyond now, for clocks that differ a little.
    const path = (metric        ) =>
      `/api/v1/routers/${encodeURIComponent(router)}/series?metric=${metric}&from=${(to - range).toFixed(3)}&to=${(to + 60).toFixed(3)}`;
    const histories = await Promise.all(charts.metrics.map((metric) => connection.ask            (path(metric))));
    if (asked !== question) return;
    charts.load(histories, Math.max(upTo, ...histories.flatMap(({ points }) => points.at(-1)?.at ?? 0)));
    draw();
  });
}

function loadRouter()                {
  return quietly(async () => {
    const router = table.selected;
    if (router === undefined) return;
    const detail = await connection.ask                  (`/api/v1/routers/${encodeURIComponent(router)}`);
    if (router !== table.selected) return;
    showLatencies(router, detail);
    const text = machine(detail.inventory);
    setText(byId('history-machine'), text);
    byId('history-machine').hidden = text === '';
  });
}

/** Asks for what no event tells. */
async function refresh(everything         )                {
  await quietly(async () => {
    showLedger(await connection.ask            ('/api/v1/ledger'));
    if (everything || table.size === 0) {
      const { routers } = await connection.ask             ('/api/v1/routers');
      for (const { latest } of routers) table.update(latest);
    }
    if (table.selected === undefined) choose();
    showParts();
  });
  await loadRouter();
  if (everything || performance.now() - historyAt > HISTORY_MS) await loadHistory();
}

function draw()       {
  if (table.selected === undefined) return;
  const now = connection.now();
  charts.draw(now - range, now, table.latestOf(table.selected)?.at);
}

function tick()       {
  const now = connection.now();
  table.tick(now);
  const newest = table.newest();
  const { text, unit } = age(newest === undefined ? 0 : now - newest);
  setText(byId('age'), newest === undefined ? '' : `data ${text} ${unit} old`);
  draw();
}

function showParts()       {
  const some = table.size > 0;
  byId('empty').hidden = some;
  for (const id of ['routers', 'history', 'pair']) byId(id).hidden = !some;
}

function showState(state                 , since      )       {
  const at = clock(since.getTime() / 1000, true);
  byId('connection').setAttribute('data-state', state);
  setText(byId('connection-text'), state === 'offline' ? `offline since ${at}` : state);
  const banner = byId('offline');
  banner.hidden = state !== 'offline';
  setText(
    banner,
    state === 'offline'
      ? `The aggregator has not answered since ${at}. The figures are the last that came; the page goes on by itself when it answers again.`
      : '',
  );
}

for (const { seconds, label } of RANGES) {
  const button = element('button', { type: 'button', 'aria-pressed': String(seconds === range) }, label);
  button.addEventListener('click', () => {
    range = seconds;
    for (const other of byId('ranges').querySelectorAll('button')) other.setAttribute('aria-pressed', String(other === button));
    void loadHistory();
  });
  byId('ranges').append(button);
}

keepTableRoles();
connection.start();
setInterval(tick, 500);
setInterval(() => void refresh(false), ASK_MS);

})();
