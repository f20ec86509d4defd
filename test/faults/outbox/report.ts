/** What came of the fault matrix: a JSON file, a table to read, and the table in the page about the buffer. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface Figures {
  rounds: number;
  produced: number;
  delivered: number;
  /** By reason. A gap may own up to records that arrived all the same, or were never made, where the agent could not know. */
  dropped: { [reason: string]: number };
  /** Records that the receiving side has, each once. */
  arrived: number;
  /** Records that came again and were removed. */
  duplicates: number;
  lostSilently: number;
}

export interface Row {
  fault: string;
  /** How it is brought about. */
  how: string;
  /** How often. */
  times: number;
  /** Why it cannot be done on this machine. */
  needs?: string | undefined;
  timeoutMs: number;
  run: (times: number) => Promise<Figures>;
}

export type Done = Pick<Row, 'fault' | 'how'> & Figures & { seconds: number };

const JSON_FILE = fileURLToPath(new URL('../../../.ndt/faults-outbox.json', import.meta.url));
const PAGE = fileURLToPath(new URL('../../../docs/buffer.md', import.meta.url));
const [BEGIN, END] = ['<!-- fault matrix: begin -->', '<!-- fault matrix: end -->'];

const whole = (n: number): string => n.toLocaleString('en-US');

/** Half of the rounds each on two rigs that run beside each other. */
export async function inTwo(times: number, run: (times: number) => Promise<Figures>): Promise<Figures> {
  // Both end before either's failure is told: what they started ends with the test.
  const ended = await Promise.allSettled([run(Math.ceil(times / 2)), run(Math.floor(times / 2))]);
  const sum: Figures = { rounds: 0, produced: 0, delivered: 0, dropped: {}, arrived: 0, duplicates: 0, lostSilently: 0 };
  for (const half of ended) {
    if (half.status === 'rejected') throw half.reason;
    for (const name of ['rounds', 'produced', 'delivered', 'arrived', 'duplicates', 'lostSilently'] as const) sum[name] += half.value[name];
    for (const [reason, n] of Object.entries(half.value.dropped)) sum.dropped[reason] = (sum.dropped[reason] ?? 0) + n;
  }
  return sum;
}

function table(head: string[], lines: string[][]): string {
  return [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** All that was counted. */
export function tableOf(rows: readonly Done[]): string {
  return table(
    ['fault', 'cases', 'produced', 'in the store', 'dropped and named', 'came again, removed', 'lost, not named', 's'],
    rows.map(({ fault, rounds, produced, arrived, dropped, duplicates, lostSilently, seconds }) => [
      fault,
      ...[rounds, produced, arrived].map(whole),
      Object.entries(dropped)
        .map(([reason, n]) => `${whole(n)} ${reason}`)
        .join(', ') || '0',
      ...[duplicates, lostSilently, Math.round(seconds)].map(whole),
    ]),
  );
}

/** The page's table: a row ends only when nothing is in the store twice, so that figure is 0 wherever there is a row. */
function pageTable(rows: readonly Done[]): string {
  return table(
    ['fault', 'how it is made', 'cases', 'records in the store', 'of them twice', 'lost, not named', 'dropped and named'],
    rows.map(({ fault, how, rounds, arrived, lostSilently, dropped }) => [
      fault,
      how,
      ...[rounds, arrived, 0, lostSilently].map(whole),
      Object.keys(dropped)
        .sort()
        .map((reason) => `\`${reason}\``)
        .join(', ') || 'none',
    ]),
  );
}

/** Writes the report; with `NDT_WRITE_REPORT=1` the page's table as well, where the whole matrix was run. */
export function report(rows: readonly Done[], isWhole: boolean): string {
  mkdirSync(new URL('.', `file://${JSON_FILE}`), { recursive: true });
  writeFileSync(JSON_FILE, `${JSON.stringify({ at: new Date().toISOString(), rows }, null, 2)}\n`);
  if (process.env.NDT_WRITE_REPORT === '1') {
    if (!isWhole) throw new Error('the page gets its figures from a run of the whole matrix: not all of it was run, or passed');
    const page = readFileSync(PAGE, 'utf8');
    const [from, to] = placeIn(page);
    writeFileSync(PAGE, `${page.slice(0, from)}\n\n${pageTable(rows)}\n\n${page.slice(to)}`);
  }
  return tableOf(rows);
}

/** The faults that the page has figures of, and how many cases of each. */
export function faultsOnPage(): Array<{ fault: string; how: string; cases: number }> {
  const page = readFileSync(PAGE, 'utf8');
  const lines = page
    .slice(...placeIn(page))
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .slice(2);
  return lines.map((line) => {
    const [fault = '', how = '', cases = ''] = line.slice(2, -2).split(' | ');
    return { fault, how, cases: Number(cases.replaceAll(',', '')) };
  });
}

function placeIn(page: string): [number, number] {
  const [from, to] = [page.indexOf(BEGIN) + BEGIN.length, page.indexOf(END)];
  if (page.indexOf(BEGIN) < 0 || to < from) throw new Error(`${PAGE} has no place for the table: ${BEGIN} … ${END}`);
  return [from, to];
}
