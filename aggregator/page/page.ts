/** The page: what is selected, what is asked for and when, and where it is shown. */
import type { LatestBody, LedgerBody, RouterDetailBody, RoutersBody, SeriesBody } from '../api-schemas.ts';
import { showLatencies, showLedger } from './accounts.ts';
import { Charts } from './charts.ts';
import { AnswerError, Connection, type ConnectionState } from './connection.ts';
import { byId, element, keepTableRoles, setText } from './elements.ts';
import { age, clock, machine } from './format.ts';
import { RouterTable } from './routers.ts';

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

function figures(latest: LatestBody): void {
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
function wanted(): string {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return '';
  }
}

/** Selects the router of the address, or the first one. */
function choose(): void {
  const first = byId('routers-rows').querySelector('button')?.textContent ?? undefined;
  const router = table.latestOf(wanted()) === undefined ? first : wanted();
  if (router !== undefined) select(router);
}

/** Selected by a person: on a narrow screen the charts are out of sight, below the routers. */
function pick(router: string): void {
  select(router);
  if (matchMedia('(max-width: 860px)').matches) byId('history').scrollIntoView({ block: 'start' });
}

function select(router: string): void {
  if (router === table.selected) return;
  table.select(router);
  setText(byId('history-router'), router);
  history.replaceState(null, '', `#${encodeURIComponent(router)}`);
  void loadHistory();
  void loadRouter();
}

/** Asks, and shows the answer. When nobody answers the connection says so; a router that is gone is nothing to show. */
async function quietly(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof AnswerError && error.status === 401) location.reload();
    else if (!(error instanceof AnswerError) && !(error instanceof TypeError) && !(error instanceof DOMException)) throw error;
  }
}

function loadHistory(): Promise<void> {
  return quietly(async () => {
    const router = table.selected;
    if (router === undefined) return;
    question += 1;
    const asked = question;
    historyAt = performance.now();
    const to = connection.now();
    const upTo = table.latestOf(router)?.at ?? to;
    // A little beyond now, for clocks that differ a little.
    const path = (metric: string) =>
      `/api/v1/routers/${encodeURIComponent(router)}/series?metric=${metric}&from=${(to - range).toFixed(3)}&to=${(to + 60).toFixed(3)}`;
    const histories = await Promise.all(charts.metrics.map((metric) => connection.ask<SeriesBody>(path(metric))));
    if (asked !== question) return;
    charts.load(histories, Math.max(upTo, ...histories.flatMap(({ points }) => points.at(-1)?.at ?? 0)));
    draw();
  });
}

function loadRouter(): Promise<void> {
  return quietly(async () => {
    const router = table.selected;
    if (router === undefined) return;
    const detail = await connection.ask<RouterDetailBody>(`/api/v1/routers/${encodeURIComponent(router)}`);
    if (router !== table.selected) return;
    showLatencies(router, detail);
    const text = machine(detail.inventory);
    setText(byId('history-machine'), text);
    byId('history-machine').hidden = text === '';
  });
}

/** Asks for what no event tells. */
async function refresh(everything: boolean): Promise<void> {
  await quietly(async () => {
    showLedger(await connection.ask<LedgerBody>('/api/v1/ledger'));
    if (everything || table.size === 0) {
      const { routers } = await connection.ask<RoutersBody>('/api/v1/routers');
      for (const { latest } of routers) table.update(latest);
    }
    if (table.selected === undefined) choose();
    showParts();
  });
  await loadRouter();
  if (everything || performance.now() - historyAt > HISTORY_MS) await loadHistory();
}

function draw(): void {
  if (table.selected === undefined) return;
  const now = connection.now();
  charts.draw(now - range, now, table.latestOf(table.selected)?.at);
}

function tick(): void {
  const now = connection.now();
  table.tick(now);
  const newest = table.newest();
  const { text, unit } = age(newest === undefined ? 0 : now - newest);
  setText(byId('age'), newest === undefined ? '' : `data ${text} ${unit} old`);
  draw();
}

function showParts(): void {
  const some = table.size > 0;
  byId('empty').hidden = some;
  for (const id of ['routers', 'history', 'pair']) byId(id).hidden = !some;
}

function showState(state: ConnectionState, since: Date): void {
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
