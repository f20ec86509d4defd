/** `buffer verify`: whether a buffer's file is sound, its account balances, and every number is accounted for. */
import { NdtError } from '../../common/errors.ts';
import { type Finding, fail, ok, warning } from '../doctor/finding.ts';
import { putAside } from '../outbox/salvage.ts';
import { logState } from '../outbox/write-ahead-log.ts';
import { account, verdictText } from './ledger.ts';
import { BufferFile } from './reader.ts';
import { bytesText, countOf, countText, reasonsText, sum } from './text.ts';

const RANGES_TOLD = 8;
const NUMBERS_TOLD = 5;

/**
 * What there is to say about a file, worst case that it cannot be read at all.
 * @param inUse whether an agent may be writing to it
 */
export function verify(path: string, inUse = false): Finding[] {
  let file: BufferFile;
  try {
    file = new BufferFile(path);
  } catch (error) {
    if (error instanceof NdtError) return [fail('file', error.message)];
    throw error;
  }
  try {
    const damage = file.integrity();
    const sound = damage.length === 0;
    const findings = [
      sound ? ok('file', `${path}: ${bytesText(file.bytes())}, sound`) : fail('file', `${path} is damaged: ${damage.join('; ')}`, MEND),
    ];
    // Of a damaged file the rest is told as far as it can be read.
    for (const check of [records, ledger, numbers, deadLetters, notices]) findings.push(...attempt(() => check(file)));
    findings.push(...log(file, inUse), ...aside(path));
    if (file.disturbed()) findings.push(warning('file', 'the agent has begun to write to it while it was read', 'run this again'));
    return findings;
  } finally {
    file.close();
  }
}

const MEND = 'start the agent: it puts the file aside, saves what can be read, and names the rest as dropped';

function attempt(check: () => Finding[]): Finding[] {
  try {
    return check();
  } catch (error) {
    if (error instanceof NdtError) return [fail('file', error.message)];
    throw error;
  }
}

/** Every record against its checksum. */
function records(file: BufferFile): Finding[] {
  const bad: number[] = [];
  let [seen, damaged, last] = [0, 0, 0];
  for (;;) {
    const page = file.page(last);
    const end = page.at(-1);
    if (end === undefined) break;
    last = end.row.seq;
    seen += page.length;
    for (const { row, whole } of page) {
      if (whole) continue;
      damaged += 1;
      if (bad.length < NUMBERS_TOLD) bad.push(row.seq);
    }
  }
  if (damaged === 0) return [ok('records', `${countOf(seen, 'record')} waiting, each as it was written`)];
  const which = `${bad.join(', ')}${damaged > bad.length ? ', …' : ''}`;
  return [fail('records', `${countText(damaged)} of ${countOf(seen, 'waiting record')} are not as they were written (${which})`, MEND)];
}

function ledger(file: BufferFile): Finding[] {
  const { balanced, difference, produced, delivered, pending, dropped, rejected } = account(file);
  const what = `${countText(produced)} produced, ${countText(delivered)} delivered, ${countText(pending)} pending, dropped ${reasonsText(dropped)}, rejected ${reasonsText(rejected)}`;
  return [balanced ? ok('ledger', `balanced: ${what}`) : fail('ledger', `${verdictText(balanced, difference)} (${what})`, MEND)];
}

/** Every number from the first to the last waits, or is delivered, dropped, rejected, or was never given out: as many as are counted. */
function numbers(file: BufferFile): Finding[] {
  return file.snapshot(() => {
    const { first, last, skipped, produced, delivered, pending, memory, dropped, rejected } = file.ledger();
    const { count, runs, first: told } = file.runs(RANGES_TOLD);
    const [oldest, newest] = [file.oldest()?.seq, file.newest()?.seq];
    const findings: Finding[] = [];
    const given = last - first + 1 - skipped;
    if (given !== produced + memory) {
      findings.push(
        fail(
          'numbers',
          `${first} to ${last} are ${countText(given)} numbers, but ${countText(produced + memory)} records were produced`,
          MEND,
        ),
      );
    }
    if ((oldest !== undefined && oldest < first) || (newest !== undefined && newest > last)) {
      findings.push(fail('numbers', `records ${oldest} to ${newest} wait, but only ${first} to ${last} were given out`, MEND));
    }
    if (pending !== count)
      findings.push(fail('numbers', `the file says that ${countText(pending)} records wait, and ${countText(count)} do`, MEND));
    if (findings.length > 0) return findings;
    if (given === 0) return [ok('numbers', 'none has been given out yet')];
    const gone = delivered + sum(dropped) + sum(rejected);
    const ranges = told.map((run) => (run.first === run.last ? `${run.first}` : `${run.first}–${run.last}`)).join(', ');
    const more = runs > told.length ? `, and ${countText(runs - told.length)} more ranges` : '';
    const rest = `the other ${countText(gone)} are delivered, dropped or rejected, as counted`;
    const passed = skipped === 0 ? '' : `, ${countText(skipped)} were passed over`;
    const inMemory = memory === 0 ? '' : `, ${countText(memory)} are in the agent’s memory`;
    return [
      ok('numbers', `${first} to ${last}: ${count === 0 ? 'none waits' : `waiting are ${ranges}${more}`}${inMemory}${passed}; ${rest}`),
    ];
  });
}

function deadLetters(file: BufferFile): Finding[] {
  const [kept, rejected] = [file.countDeadLetters(), sum(file.ledger().rejected)];
  if (kept === 0) return [];
  if (kept > rejected)
    return [fail('dead letters', `${countText(kept)} are kept, but only ${countOf(rejected, 'record')} were rejected`, MEND)];
  return [ok('dead letters', `${countText(kept)} kept of ${countText(rejected)} rejected (buffer export --dead-letters prints them)`)];
}

function notices(file: BufferFile): Finding[] {
  const n = file.countNotices();
  return n === 0 ? [] : [ok('notices', `${countOf(n, 'gap notice')} to be sent`)];
}

/** Files that the agent has put aside because they were damaged. */
export function aside(path: string): Finding[] {
  const found = attemptNames(() => putAside(path));
  if (found.length === 0) return [];
  const text = `${countOf(found.length, 'damaged file')} put aside: ${found.join(', ')}`;
  return [
    warning(
      'put aside',
      text,
      'look with buffer verify --file, keep what is wanted, then delete them; what was saved from them is in the buffer',
    ),
  ];
}

/** A folder that cannot be read has been told of already. */
function attemptNames(read: () => string[]): string[] {
  try {
    return read();
  } catch {
    return [];
  }
}

/** A log that nobody writes to, and that ends in the middle of something. */
function log(file: BufferFile, inUse: boolean): Finding[] {
  if (inUse) return [];
  if (logState(file.file) !== 'torn') return [];
  return [
    warning(
      'log',
      'the write-ahead log is torn: what was committed last may be missing',
      'a crash leaves that; the agent names what is lost when it starts',
    ),
  ];
}
