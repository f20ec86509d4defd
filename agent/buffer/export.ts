/**
 * `buffer export`: what waits, a line each, as agents send it (contract 7).
 *
 * Whoever takes the lines may be slow, or stop altogether (a pager), and while one state of the file is held on to, the agent cannot empty
 * its log, which counts against its cap. So one state is held only where the lines go into a file, and only as long as the log stays small.
 * Otherwise the file is read a page at a time: what goes out or is dropped meanwhile is left out then, and nothing else is.
 */
import { once } from 'node:events';
import { fstatSync } from 'node:fs';
import { batchLine } from '../../common/batch.ts';
import { HEADER, type Headers } from '../../common/bus.ts';
import { NdtError } from '../../common/errors.ts';
import type { Row } from '../outbox/database.ts';
import { OUTBOX_HEADER } from '../outbox.ts';
import { restamp } from '../wall-clock.ts';
import { type Eras, erasOf } from './eras.ts';
import { BufferFile, type Range } from './reader.ts';
import { agentIn, type Target } from './target.ts';

/** What the outbox lets its log grow to [bytes], or an eighth of the cap; and how much of that is left to us. */
const LOG_BYTES = 4 * 2 ** 20;
const LOG_SHARE = 0.75;

export interface ExportOptions {
  range: Range;
  deadLetters: boolean;
}

export interface Exported {
  lines: number;
  /** Records that are not as they were written, and are left out. */
  damaged: number;
  /** Whether all of it is of one state of the file. */
  oneState: boolean;
}

/** @param holdable whether the lines go where writing does not wait for anyone */
export async function exportRecords(
  target: Target,
  { range, deadLetters }: ExportOptions,
  output: NodeJS.WritableStream,
  holdable = isFile(1),
): Promise<Exported> {
  const file = new BufferFile(target.file);
  const exported: Exported = { lines: 0, damaged: 0, oneState: true };
  try {
    const agent = agentIn(file, target);
    const most = Math.max(file.logBytes(), LOG_SHARE * Math.min(LOG_BYTES, target.loaded.config.agent.buffer.max_bytes / 8));
    file.hold();
    // A record that comes in while we read is not of those that were asked for.
    const bounded = { ...range, toSeq: Math.min(range.toSeq ?? Number.MAX_SAFE_INTEGER, file.ledger().last) };
    const eras = erasOf(file.eras());
    for (let above = 0; ; ) {
      if (!file.holding) file.hold();
      const page = deadLetters ? deadLetterLines(file, agent, above, bounded) : recordLines(file, agent, above, bounded, eras);
      if (page === undefined) break;
      if (!holdable || file.logBytes() > most) file.release();
      above = page.last;
      exported.lines += page.lines.length;
      exported.damaged += page.damaged;
      exported.oneState &&= file.holding || file.access !== 'shared';
      if (page.lines.length > 0 && !output.write(`${page.lines.join('\n')}\n`)) await once(output, 'drain');
    }
    if (file.disturbed()) {
      throw new NdtError(
        'UNAVAILABLE',
        `the agent has begun to write to ${file.file} while it was read: throw this output away and run it again`,
      );
    }
    return exported;
  } finally {
    file.close();
  }
}

interface Lines {
  lines: string[];
  last: number;
  damaged: number;
}

function recordLines(file: BufferFile, agent: string, above: number, range: Range, eras: Eras): Lines | undefined {
  const page = file.page(above, range);
  const last = page.at(-1)?.row.seq;
  if (last === undefined) return undefined;
  const whole = page.filter((entry) => entry.whole);
  return { lines: whole.map(({ row }) => recordLine(agent, row, eras)), last, damaged: page.length - whole.length };
}

/** As the agent would send it now. */
function recordLine(agent: string, { seq, era, boot, topic, key, body }: Row, eras: Eras): string {
  const headers: Headers = { [HEADER.agent]: agent, [HEADER.boot]: boot, [HEADER.seq]: String(seq) };
  const shift = eras.shiftOf(era);
  if (shift === 0) {
    if (eras.isWrong(era)) headers[OUTBOX_HEADER.clock] = 'wrong';
    return batchLine({ topic, key, headers, body });
  }
  headers[OUTBOX_HEADER.restamped] = '1';
  return batchLine({ topic, key, headers, body: restamp(body, shift) });
}

function deadLetterLines(file: BufferFile, agent: string, above: number, range: Range): Lines | undefined {
  const page = file.deadLetters(above, range);
  const last = page.at(-1)?.seq;
  if (last === undefined) return undefined;
  const lines = page.map(({ seq, topic, key, reason, body }) =>
    batchLine({ topic, key, headers: { [HEADER.agent]: agent, [HEADER.seq]: String(seq), [HEADER.reason]: reason }, body }),
  );
  return { lines, last, damaged: 0 };
}

function isFile(fd: number): boolean {
  try {
    return fstatSync(fd).isFile();
  } catch {
    return false;
  }
}
