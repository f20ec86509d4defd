/**
 * The ledger: what each agent says it delivered, beside what arrived here.
 *
 * Only the sequence numbers that the agent's last ledger speaks of are compared: a record above it is in flight, not missing, and a
 * number below the agent's first one was never given out.
 */
import type { AgentSeqs, SeqRange } from '../common/dedupe.ts';
import type { AgentLedger, Gap } from './notices.ts';

/** `complete`: all that was delivered is here. `missing`: it is not. `unknown`: the agent has sent no ledger yet. */
export type AccountState = 'complete' | 'missing' | 'unknown';

export interface Account {
  agent: string;
  ledger: AgentLedger | undefined;
  seen: AgentSeqs | undefined;
  gaps: Gap[];
  /** Numbers of records that have not arrived: of those in the agent's ledger, or between the lowest and the highest that arrived. */
  missing: SeqRange[];
  /** Those of them that no gap notice explains. They may still wait at the agent: `difference` tells. */
  unexplained: SeqRange[];
  /** What the agent says was delivered minus what of it arrived, never below 0; undefined without a ledger. */
  difference: number | undefined;
  state: AccountState;
}

/** One account for each agent that sent a record or a notice. */
export function accounts(seen: readonly AgentSeqs[], ledgers: readonly AgentLedger[], gaps: readonly Gap[]): Account[] {
  const names = new Set([...seen, ...ledgers, ...gaps].map(({ agent }) => agent));
  return [...names].sort().map((agent) =>
    account(
      agent,
      seen.find((seqs) => seqs.agent === agent),
      ledgers.find((ledger) => ledger.agent === agent),
      gaps.filter((gap) => gap.agent === agent),
    ),
  );
}

function account(agent: string, seen: AgentSeqs | undefined, ledger: AgentLedger | undefined, gaps: Gap[]): Account {
  const holes = seen?.missing ?? [];
  if (ledger === undefined) {
    // Where the agent's numbers begin is not known: what arrived first may have been the first.
    return { agent, ledger, seen, gaps, missing: holes, unexplained: subtract(holes, gaps), difference: undefined, state: 'unknown' };
  }
  const { first, last } = ledger;
  const before = { first, last: seen === undefined ? last : seen.lowest - 1 };
  const after = { first: seen === undefined ? last + 1 : seen.highest + 1, last };
  // Numbers that no record was ever given: an agent passes some over where it cannot tell whether it used them.
  const unused = gaps.filter(({ reason }) => reason === 'unused');
  const notArrived = clip([before, ...holes, after], first, last);
  const arrived = Math.max(0, last - first + 1) - size(notArrived);
  const difference = Math.max(0, ledger.delivered - arrived);
  return {
    agent,
    ledger,
    seen,
    gaps,
    missing: subtract(notArrived, unused),
    unexplained: subtract(notArrived, gaps),
    difference,
    state: difference === 0 ? 'complete' : 'missing',
  };
}

/** How many numbers the ranges hold. */
export function size(ranges: readonly SeqRange[]): number {
  return ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0);
}

function clip(ranges: readonly SeqRange[], from: number, to: number): SeqRange[] {
  return ranges
    .map(({ first, last }) => ({ first: Math.max(first, from), last: Math.min(last, to) }))
    .filter(({ first, last }) => first <= last);
}

/** What of the ranges lies in none of the others. */
export function subtract(ranges: readonly SeqRange[], others: readonly SeqRange[]): SeqRange[] {
  const sorted = [...others].sort((a, b) => a.first - b.first);
  return ranges.flatMap(({ first, last }) => {
    const rest: SeqRange[] = [];
    let from = first;
    for (const other of sorted) {
      if (other.last < from) continue;
      if (other.first > last) break;
      if (other.first > from) rest.push({ first: from, last: other.first - 1 });
      from = other.last + 1;
    }
    if (from <= last) rest.push({ first: from, last });
    return rest;
  });
}
