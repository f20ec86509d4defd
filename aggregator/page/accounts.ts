/** The ledger of each agent, and the latencies of the selected router's stages. */
import type { LedgerBody, RouterDetailBody } from '../api-schemas.ts';
import { byId, element, Figure, setText } from './elements.ts';
import { count, duration, ranges } from './format.ts';

type Account = LedgerBody['agents'][number];

export function showLedger({ agents }: LedgerBody): void {
  byId('ledger-none').hidden = agents.length > 0;
  const rows = agents.flatMap((account) => [numbersRow(account), stateRow(account)]);
  replaceRows(byId('ledger-rows'), rows);
}

/** Keeps rows that did not change, so that a selection or a reader's place in the table stays. */
function replaceRows(body: HTMLElement, rows: HTMLElement[]): void {
  const present = [...body.children];
  rows.forEach((row, i) => {
    const old = present[i];
    if (old === undefined) body.append(row);
    else if (old.outerHTML !== row.outerHTML) old.replaceWith(row);
  });
  for (const old of present.slice(rows.length)) old.remove();
}

function sum(byReason: { [reason: string]: number }): number {
  return Object.values(byReason).reduce((total, n) => total + n, 0);
}

function numbersRow({ agent, ledger, received, difference }: Account): HTMLElement {
  const cell = (label: string, value: number | undefined | null, flag = '') => {
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

function stateRow({ state, difference, ledger, unexplained, received }: Account): HTMLElement {
  const badge = state === 'complete' ? 'Nothing missing' : state === 'missing' ? `${count(difference ?? 0)} missing` : 'No ledger yet';
  const details: string[] = [];
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
] as const;

export function showLatencies(router: string, { latencies }: RouterDetailBody): void {
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

function labelled(label: string, figure: Figure): HTMLElement {
  return element('span', {}, element('span', { class: 'note' }, `${label} `), figure.node);
}

function bar(className: string, share: number): HTMLElement {
  const node = element('span', { class: className });
  node.style.setProperty('--share', String(Math.max(0, Math.min(1, share))));
  return node;
}
