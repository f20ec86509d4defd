/**
 * `buffer import`: lines of `buffer export` go into a buffer under the numbers that they have.
 *
 * A number that this buffer gave out itself is taken only where it was dropped on purpose; otherwise it waits here still, or has been
 * delivered, refused or dropped, and would come twice. Numbers below the first and above the last (a disk that was lost, a backup that was
 * put back) widen the range; what lies between is passed over and can be imported later.
 */
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { decodeBatch } from '../../common/batch.ts';
import { HEADER, type Message } from '../../common/bus.ts';
import { codeOf, messageOf, NdtError } from '../../common/errors.ts';
import { epochMicros } from '../../common/record.ts';
import { type Account, add } from '../outbox/account.ts';
import type { Row } from '../outbox/database.ts';
import { ReturnableNumbers } from './returnable.ts';
import { agentInFile, type Target } from './target.ts';
import { BufferWriter, type Change } from './writer.ts';

export interface Imported {
  lines: number;
  imported: number;
  /** Wait here still, or have been delivered, refused or dropped. */
  known: number;
  /** Of other agents, by their ids. */
  foreign: Map<string, number>;
  /** No lines of a buffer. */
  bad: number;
}

const AT_ONCE = 500;
const COMPLAINTS = 10;
const NO_LIMITS = { maxBytes: Number.MAX_SAFE_INTEGER, maxLines: Number.MAX_SAFE_INTEGER };
/** Numbers begin at the clock’s milliseconds, and no agent makes a thousand records a second for long; its clock may have been ahead. */
const AHEAD_MS = 366 * 86_400_000;
/** No era of the wall clock: a record that comes from elsewhere is not moved in time. */
const NO_ERA = 0;

interface Line {
  message: Message;
  seq: number;
}

/**
 * @param input a file's name, or `-` for standard input; gzip and zstd are understood
 * @param report told what is wrong with a line
 */
export async function importRecords(
  target: Target,
  input: string,
  report: (message: string) => void,
  stdin: Readable = process.stdin,
): Promise<Imported> {
  const agent = agentInFile(target);
  const source = await openInput(input, stdin);
  const result: Imported = { lines: 0, imported: 0, known: 0, foreign: new Map(), bad: 0 };
  let complaints = 0;
  const complain = (number: number, text: string) => {
    complaints += 1;
    if (complaints <= COMPLAINTS) report(`line ${number}: ${text}`);
    if (complaints === COMPLAINTS) report('more lines like that are counted, and not told of one by one');
  };
  const writer = new BufferWriter(target, agent, false);
  try {
    let texts: string[] = [];
    const flush = () => {
      const lines = accepted(texts, result.lines - texts.length, agent, result, complain);
      texts = [];
      if (lines.length === 0) return;
      const taken = writer.change((change) => takeIn(change, lines));
      result.imported += taken;
      result.known += lines.length - taken;
    };
    for await (const text of createInterface({ input: source, crlfDelay: Number.POSITIVE_INFINITY })) {
      result.lines += 1;
      texts.push(text);
      if (texts.length >= AT_ONCE) flush();
    }
    flush();
    return result;
  } catch (error) {
    const code = codeOf(error) ?? '';
    if (/^Z_|^ERR_(TRAILING|ZSTD|BUFFER)|^E[A-Z]+$/.test(code))
      throw new NdtError(
        'DATA',
        `${input} cannot be read any further after line ${result.lines} (${messageOf(error)}); what came before is imported: mend the file and run this again`,
      );
    if (error instanceof NdtError)
      throw new NdtError(
        error.code,
        `${error.message}; ${result.imported} records are imported already, and running this again goes on behind them`,
        { cause: error },
      );
    throw error;
  } finally {
    writer.close();
  }
}

/** The text of a file, unpacked by its first bytes. */
async function openInput(name: string, stdin: Readable): Promise<Readable> {
  const source = name === '-' ? stdin : createReadStream(name);
  try {
    const first = await firstChunk(source);
    if (first === undefined) return source;
    source.unshift(first);
    const packed = first[0] === 0x1f && first[1] === 0x8b ? createGunzip() : isZstd(first) ? createZstdDecompress() : undefined;
    if (packed === undefined) return source;
    source.on('error', (error: Error) => packed.destroy(error));
    return source.pipe(packed);
  } catch (error) {
    const why = codeOf(error) ?? messageOf(error);
    throw new NdtError(
      'USAGE',
      `buffer import: ${name} cannot be read (${why}): name a file that buffer export wrote, or - for standard input`,
    );
  }
}

function isZstd(bytes: Buffer): boolean {
  return bytes.length >= 4 && bytes.readUInt32LE(0) === 0xfd2fb528;
}

/** Undefined where there is nothing in it. */
function firstChunk(source: Readable): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    source.once('error', reject);
    source.once('readable', () => {
      source.off('error', reject);
      const chunk: unknown = source.read();
      resolve(Buffer.isBuffer(chunk) ? chunk : undefined);
    });
  });
}

/** The lines that are records of this agent. */
function accepted(
  texts: readonly string[],
  before: number,
  agent: string,
  result: Imported,
  complain: (number: number, text: string) => void,
): Line[] {
  const lines: Line[] = [];
  const refuse = (number: number, text: string) => {
    result.bad += 1;
    complain(number, text);
  };
  for (const line of decodeBatch(Buffer.from(texts.join('\n')), NO_LIMITS)) {
    const number = before + line.line;
    if (!line.ok) {
      refuse(number, line.reason);
      continue;
    }
    const { headers } = line.message;
    const of = headers[HEADER.agent];
    const seq = Number(headers[HEADER.seq]);
    if (of === undefined || !/^\d{1,16}$/.test(headers[HEADER.seq] ?? '') || !Number.isSafeInteger(seq) || seq === 0) {
      refuse(number, `it has no ${HEADER.agent} and ${HEADER.seq}, so it is no record of an agent’s buffer`);
    } else if (of !== agent) {
      if (!result.foreign.has(of)) complain(number, `it is of agent "${of}", and this buffer is of "${agent}"`);
      result.foreign.set(of, (result.foreign.get(of) ?? 0) + 1);
    } else if (seq > Date.now() + AHEAD_MS) refuse(number, `its number ${seq} is higher than any that an agent can have given out`);
    else lines.push({ message: line.message, seq });
  }
  return lines;
}

/** Takes in the lines whose numbers are not known yet; returns how many those are. */
function takeIn({ db, account }: Change, lines: readonly Line[]): number {
  const returnable = new ReturnableNumbers(db.db);
  const there = db.db.prepare<[number, number]>('SELECT 1 FROM records WHERE seq = ? UNION ALL SELECT 1 FROM dead_letters WHERE seq = ?');
  const { elapsed } = db.ownTime();
  let taken = 0;
  for (const { message, seq } of lines) {
    if (there.get(seq, seq) !== undefined || !claim(account, returnable, seq)) continue;
    db.insert(rowOf(message, seq, elapsed));
    taken += 1;
  }
  return taken;
}

/** Puts a number on the account as waiting. Returns false where it was given out and is no longer to be had. */
function claim(account: Account, returnable: ReturnableNumbers, seq: number): boolean {
  const { first, last } = account;
  if (seq >= first && seq <= last) {
    const reason = returnable.take(seq);
    if (reason === undefined) return false;
    if (reason !== '') {
      add(account.dropped, reason, -1);
      return true;
    }
    account.skipped -= 1;
  } else if (seq < first) {
    returnable.add({ first: seq + 1, last: first - 1, reason: '' });
    account.skipped += first - 1 - seq;
    account.first = seq;
  } else {
    returnable.add({ first: last + 1, last: seq - 1, reason: '' });
    account.skipped += seq - 1 - last;
    account.last = account.floor = seq;
  }
  account.produced += 1;
  return true;
}

function rowOf({ topic, key, headers, value }: Message, seq: number, elapsed: number): Row {
  const body = value.toString('utf8');
  return { seq, at: timeOf(body), elapsed, era: NO_ERA, boot: headers[HEADER.boot] ?? 'imported', topic, key: key ?? '', body };
}

/** When the record came in is not in the line: when its counters were read is near enough [Unix ms]. */
function timeOf(body: string): number {
  try {
    const { epoch_timestamp: epoch } = JSON.parse(body) as { epoch_timestamp?: unknown };
    return typeof epoch === 'string' ? Math.max(0, Math.floor(epochMicros(epoch) / 1000)) : Date.now();
  } catch {
    return Date.now();
  }
}
