/**
 * Integers of any size out of JSON, none of them rounded.
 *
 * `JSON.parse` makes doubles, which are exact up to 2^53-1; nanosecond timestamps and 64-bit counters are not below that. A text that
 * holds such a number is therefore parsed so that the number stays what it was: a string of decimal digits. The readers below take
 * both forms. (A string of digits in the input itself is read as well: protobuf's own JSON mapping writes 64-bit integers that way.)
 */

/** A safe integer as number, anything larger as bigint: one value has one form. */
export type Integer = number | bigint;

export const MAX_UINT64 = 2n ** 64n - 1n;

const CANONICAL = /^(?:0|[1-9][0-9]{0,19})$/;
const EXPONENT = /[0-9][eE][+-]?[0-9]+\s*[,}\]]/;
const DECIMAL = /^(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,6}))?$/;
/** No integer we take has more digits: 2^64 has 20. */
const MAX_DIGITS = 40;
/** Fewer digits than this are always below 2^53. */
const LONG = 16;

/**
 * Parses JSON; integers beyond 2^53-1 come out as strings of their digits, numbers that are no exact integer but would be rounded to
 * one as NaN. Throws the SyntaxError of `JSON.parse`.
 */
export function parseJson(text: string): unknown {
  const exponent = EXPONENT.test(text);
  const quoted = exponent ? undefined : withLongIntegersQuoted(text);
  if (quoted === text) return JSON.parse(text);
  if (quoted !== undefined) {
    try {
      return JSON.parse(quoted);
    } catch {
      // What looked like a number stood inside of a string, or the text is no JSON at all: the slow way tells.
    }
  }
  return JSON.parse(text, exactly);
}

/**
 * The text with quotes around its integers of 16 digits and more: parsing that is five times faster than asking `JSON.parse` for the
 * source of every value. Inside of a string, too, digits can stand between a `:` and a `,`; there the inserted quote ends the string with
 * a digit behind it, which is a syntax error and never another value.
 * @returns undefined where a long number is not a plain integer
 */
function withLongIntegersQuoted(text: string): string | undefined {
  let quoted = '';
  let copied = 0;
  // Every run of 16 digits covers one of every 16 places, so that only those are looked at.
  for (let at = LONG - 1; at < text.length; at += LONG) {
    if (!isDigit(text, at)) continue;
    let start = at;
    while (isDigit(text, start - 1)) start--;
    let end = at + 1;
    while (isDigit(text, end)) end++;
    if (end - start < LONG) continue;
    at = end - (end % LONG) - 1;
    if (text[start - 1] === '-') start--;
    if (text[start - 1] === '.' || text[end] === '.') return undefined;
    if (!':,['.includes(neighbour(text, start - 1, -1)) || !',}]'.includes(neighbour(text, end, 1))) continue;
    quoted += `${text.slice(copied, start)}"${text.slice(start, end)}"`;
    copied = end;
  }
  return copied === 0 ? text : quoted + text.slice(copied);
}

/** The next character that is no space; a space at the end of the text. */
function neighbour(text: string, from: number, step: 1 | -1): string {
  let at = from;
  while (text[at] === ' ' || text[at] === '\t' || text[at] === '\n' || text[at] === '\r') at += step;
  return text[at] ?? ' ';
}

function exactly(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== 'number') return value;
  const source = context?.source ?? '';
  if (Number.isSafeInteger(value)) return /[.eE]/.test(source) && integerText(source) === undefined ? Number.NaN : value;
  return integerText(source) ?? (Number.isInteger(value) ? Number.NaN : value);
}

/** `1.5e3` is `1500`; undefined for what is no integer or has more digits than any we take. */
export function integerText(source: string): string | undefined {
  const match = DECIMAL.exec(source);
  if (match === null) return undefined;
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = match;
  const digits = (whole + fraction).replace(/^0+/, '');
  const kept = digits.replace(/0+$/, '');
  if (kept === '') return '0';
  const zeros = digits.length - kept.length + Number(exponent) - fraction.length;
  if (zeros < 0 || kept.length + zeros > MAX_DIGITS) return undefined;
  return sign + kept + '0'.repeat(zeros);
}

function isDigit(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return code >= 0x30 && code <= 0x39;
}

/** An integer of 0…`max` (at most 2^53-1), from a number or a string of digits; undefined for anything else. */
export function readSmall(raw: unknown, max: number): number | undefined {
  if (typeof raw === 'number') return raw >= 0 && raw <= max && Number.isInteger(raw) ? raw + 0 : undefined;
  if (typeof raw === 'string' && raw.length <= 16 && CANONICAL.test(raw)) return readSmall(Number(raw), max);
  return undefined;
}

/** An integer of 0…2^64-1, exact; undefined for anything else. */
export function readUint64(raw: unknown): Integer | undefined {
  if (typeof raw === 'number') return raw >= 0 && Number.isSafeInteger(raw) ? raw + 0 : undefined;
  if (typeof raw === 'bigint') return raw >= 0n && raw <= MAX_UINT64 ? narrow(raw) : undefined;
  if (typeof raw !== 'string' || !CANONICAL.test(raw)) return undefined;
  return raw.length < 16 ? Number(raw) : readUint64(BigInt(raw));
}

/** The digits of an integer of 0…2^64-1; undefined for anything else. Cheaper than its value where only its digits matter. */
export function readDigits(raw: unknown): string | undefined {
  if (typeof raw === 'string' && raw.length < 20 && CANONICAL.test(raw)) return raw;
  const value = readUint64(raw);
  return value === undefined ? undefined : String(value);
}

/** The one form of a value: see `Integer`. */
export function narrow(value: bigint): Integer {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= BigInt(Number.MIN_SAFE_INTEGER) ? Number(value) : value;
}
