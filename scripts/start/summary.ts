/** The summary at the end of `npm start`: what this run produced, and what became of it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseExposition } from '../../agent/exposition.ts';

export interface Totals {
  produced: number;
  delivered: number;
  pending: number;
  dropped: number;
  rejected: number;
  duplicates: number;
  processed: number;
  inferred: number;
  inventories: number;
  /** Delivered by the agent's word, but not arrived. */
  difference: number;
}

interface LedgerAnswer {
  agents: Array<{
    ledger: {
      produced: number;
      delivered: number;
      pending: number;
      dropped: { [reason: string]: number };
      rejected: { [reason: string]: number };
    } | null;
    received: { duplicates: number } | null;
    difference: number | null;
  }>;
}

const SETTLE_MS = 3000;

/** The totals up to now, over all agents. */
export async function accountsNow(url: string): Promise<Totals> {
  const { agents } = (await (await fetch(`${url}/api/v1/ledger`)).json()) as LedgerAnswer;
  const sum = (value: (agent: LedgerAnswer['agents'][number]) => number | undefined) =>
    agents.reduce((total, agent) => total + (value(agent) ?? 0), 0);
  const all = (counts: { [reason: string]: number } | undefined) => Object.values(counts ?? {}).reduce((a, b) => a + b, 0);
  const families = parseExposition(
    await (await fetch(`${url}/metrics`)).text(),
    new Set(['ndt_stored_total', 'ndt_store_inventories_total']),
  );
  const values = (name: string) => families.find((family) => family.name === name)?.values ?? [];
  const stored = (stage: string) =>
    Number(
      values('ndt_stored_total').find(({ labels }) => labels.some((label) => label.name === 'stage' && label.value === stage))?.value ?? 0,
    );
  return {
    produced: sum(({ ledger }) => ledger?.produced),
    delivered: sum(({ ledger }) => ledger?.delivered),
    pending: sum(({ ledger }) => ledger?.pending),
    dropped: sum(({ ledger }) => all(ledger?.dropped)),
    rejected: sum(({ ledger }) => all(ledger?.rejected)),
    duplicates: sum(({ received }) => received?.duplicates),
    processed: stored('processed'),
    inferred: stored('inferred'),
    inventories: Number(values('ndt_store_inventories_total')[0]?.value ?? 0),
    difference: sum(({ difference }) => difference ?? 0),
  };
}

/** Waits, a moment at most, until what has arrived is inferred, and tells what has changed since `before`. */
export async function summarise(url: string, before: Totals): Promise<string> {
  const end = performance.now() + SETTLE_MS;
  let now = await accountsNow(url);
  const settled = () => now.inferred >= now.processed && now.processed + now.inventories >= now.delivered - before.delivered;
  while (performance.now() < end && !settled()) {
    await sleep(50);
    now = await accountsNow(url);
  }
  const since = (name: keyof Totals) => now[name] - before[name];
  const lines: Array<[string, string]> = [
    ['produced', `${since('produced')} records`],
    ['delivered', `${since('delivered')}${now.pending === 0 ? '' : `, ${now.pending} still waiting at the agent`}`],
    ['inferred', `${since('inferred')}${since('inventories') === 0 ? '' : inventoriesText(since('inventories'))}`],
    ['dropped', `${since('dropped')}${since('rejected') === 0 ? '' : `, refused ${since('rejected')}`}`],
    ['duplicates removed', `${since('duplicates')}`],
  ];
  const verdict = now.difference === 0 ? 'nothing is missing' : `${now.difference} records are missing: see the ledger on the page`;
  return ['', 'this run:', ...lines.map(([name, value]) => `  ${name.padEnd(18)}  ${value}`), verdict].join('\n');
}

/** They are produced and delivered like the others, but there is nothing in them to infer from. */
function inventoriesText(count: number): string {
  return `; ${count === 1 ? 'one more is an inventory' : `${count} more are inventories`}`;
}
