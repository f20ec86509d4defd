/** `buffer ledger`: every record that was ever produced, and what became of it. */
import { EXIT } from '../../common/errors.ts';
import type { Reasons } from '../outbox/account.ts';
import { BufferFile } from './reader.ts';
import { countText, reasonsText, sum } from './text.ts';

export interface Account {
  /** The first sequence number, and the last one given out; `first - 1` when none was. */
  first: number;
  last: number;
  produced: number;
  delivered: number;
  /** Records that wait, counted one by one. */
  pending: number;
  dropped: Reasons;
  rejected: Reasons;
  balanced: boolean;
  /** produced minus all that became of it: 0 where it balances. */
  difference: number;
  /** Of those that wait: in the running agent's memory, not in the file. */
  memory: number;
}

/** The ledger and the waiting records in one state of the file. */
export function account(file: BufferFile): Account {
  return file.snapshot(() => {
    const { first, last, produced, delivered, memory, dropped, rejected } = file.ledger();
    const pending = file.count();
    const difference = produced - delivered - pending - sum(dropped) - sum(rejected);
    const whole = { first, last, produced: produced + memory, delivered, pending: pending + memory, dropped, rejected };
    return { ...whole, balanced: difference === 0, difference, memory };
  });
}

export function printLedger(path: string, json: boolean): number {
  const file = new BufferFile(path);
  try {
    const told = account(file);
    process.stdout.write(json ? `${JSON.stringify({ file: path, ...told }, null, 2)}\n` : `${ledgerText(told)}\n`);
    return told.balanced ? EXIT.ok : EXIT.failed;
  } finally {
    file.close();
  }
}

export function ledgerText({
  first,
  last,
  produced,
  delivered,
  pending,
  memory,
  dropped,
  rejected,
  balanced,
  difference,
}: Account): string {
  const reasons = (counts: Reasons) => (sum(counts) === 0 ? '' : reasonsText(counts));
  const rows: Array<[string, number, string]> = [
    ['produced', produced, produced === 0 ? 'no number has been given out yet' : `numbers ${first} to ${last}`],
    ['delivered', delivered, ''],
    ['pending', pending, memory === 0 ? '' : `${countText(memory)} of them in the agent’s memory`],
    ['dropped', sum(dropped), reasons(dropped)],
    ['rejected', sum(rejected), reasons(rejected)],
  ];
  const width = Math.max(...rows.map(([, n]) => countText(n).length));
  const lines = rows.map(([name, n, more]) => `${name.padEnd(9)}  ${countText(n).padStart(width)}${more === '' ? '' : `  ${more}`}`);
  return [...lines, verdictText(balanced, difference)].join('\n');
}

export function verdictText(balanced: boolean, difference: number): string {
  if (balanced) return 'balanced: produced = delivered + pending + dropped + rejected';
  const what = difference > 0 ? 'more were produced than are accounted for' : 'more are accounted for than were produced';
  return `NOT balanced: ${countText(Math.abs(difference))} ${what}; buffer verify looks closer`;
}
