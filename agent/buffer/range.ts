/** `--from` and `--to`: a sequence number, a time, or how long ago. */
import { type Args, textOption } from '../../common/cli.ts';
import { NdtError } from '../../common/errors.ts';
import type { Range } from './reader.ts';

const AGO = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const TIME = /^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$/;

/** @throws NdtError USAGE */
export function rangeOf(args: Args, nowMs = Date.now()): Range {
  const range: Range = {};
  const from = point(args, 'from', nowMs);
  const to = point(args, 'to', nowMs);
  if (from !== undefined) range['seq' in from ? 'fromSeq' : 'fromAt'] = 'seq' in from ? from.seq : from.at;
  if (to !== undefined) range['seq' in to ? 'toSeq' : 'toAt'] = 'seq' in to ? to.seq : to.at;
  const { fromSeq, toSeq, fromAt, toAt } = range;
  if ((fromSeq ?? 0) > (toSeq ?? Number.POSITIVE_INFINITY) || (fromAt ?? 0) > (toAt ?? Number.POSITIVE_INFINITY)) {
    throw new NdtError('USAGE', `--from ${textOption(args, 'from')} is after --to ${textOption(args, 'to')}: nothing is in between`);
  }
  return range;
}

function point(args: Args, option: 'from' | 'to', nowMs: number): { seq: number } | { at: number } | undefined {
  const text = textOption(args, option);
  if (text === undefined) return undefined;
  if (/^\d{1,16}$/.test(text) && Number.isSafeInteger(Number(text))) return { seq: Number(text) };
  const [, number, unit] = /^(\d{1,6}(?:\.\d+)?)([smhd])$/.exec(text) ?? [];
  if (number !== undefined && (unit === 's' || unit === 'm' || unit === 'h' || unit === 'd'))
    return { at: Math.round(nowMs - Number(number) * AGO[unit]) };
  const time = TIME.test(text) ? Date.parse(text.replace(' ', 'T')) : Number.NaN;
  if (!Number.isNaN(time)) return { at: time };
  throw new NdtError(
    'USAGE',
    `--${option} ${text}: expected a sequence number, a time such as 2026-05-04T12:00:00Z, or how long ago, such as 90m, 6h or 2d`,
  );
}
