/**
 * The tokens of one line of an exposition: blanks, names, quoted text, numbers. The text always ends in a newline, so that every
 * loop here stops there. A method that reads something leaves the offset behind it in `pos`.
 */

import { NdtError } from '../common/errors.ts';

/** A page that is not in the format: where (1-based; columns count UTF-16 units) and what was expected there. */
export class ExpositionError extends NdtError {
  readonly line: number;
  readonly column: number;

  constructor(line: number, column: number, message: string) {
    super('DATA', `line ${line}, column ${column}: ${message}`);
    this.name = 'ExpositionError';
    this.line = line;
    this.column = column;
  }
}

export const TAB = 9;
export const LF = 10;
export const CR = 13;
export const SPACE = 32;
export const QUOTE = 34;
export const HASH = 35;
export const COMMA = 44;
export const EQUALS = 61;
export const OPEN = 123;
export const CLOSE = 125;
const PLUS = 43;
const MINUS = 45;
const DOT = 46;
const BACKSLASH = 92;
const LOWER_E = 101;

/** The characters of an unquoted name, by code: 1 where one is allowed. */
export type Alphabet = Uint8Array;
export const LABEL_NAME: Alphabet = new Uint8Array(128).map((_, c) => (/\w/.test(String.fromCharCode(c)) ? 1 : 0));
export const METRIC_NAME: Alphabet = LABEL_NAME.with(':'.charCodeAt(0), 1);

export function isBlank(c: number): boolean {
  return c === SPACE || c === TAB;
}

export function isBlankOrNewline(c: number): boolean {
  return c === SPACE || c === TAB || c === LF || c === CR;
}

function isDigit(c: number): boolean {
  return c >= 48 && c <= 57;
}

/** Undoes `\\`, `\n` and, where the format has it, `\"`. Other escapes stay as they are, as in Prometheus: `C:\dir`. */
function undoEscapes(raw: string, quotes: boolean): string {
  return raw.replace(quotes ? /\\([\\n"])/g : /\\([\\n])/g, (_, c: string) => (c === 'n' ? '\n' : c));
}

export class Scanner {
  protected readonly text: string;
  protected pos = 0;
  /** The end of the line at hand (the offset of its newline, which may be CR LF) and the start of the next one. */
  protected end = 0;
  protected next = 0;
  /** Where the next backslash is, from what was read last on. Mostly there is none, which saves looking for it in every token. */
  private backslash = -1;

  constructor(text: string) {
    this.text = text.endsWith('\n') ? text : `${text}\n`;
  }

  protected setLine(start: number): void {
    const lf = this.text.indexOf('\n', start);
    this.next = lf + 1;
    this.end = this.text.charCodeAt(lf - 1) === CR ? lf - 1 : lf;
  }

  /** The first offset from `p` on that is not a blank. */
  protected blanks(p: number): number {
    while (isBlank(this.text.charCodeAt(p))) p++;
    return p;
  }

  protected readName(start: number, alphabet: Alphabet, what: string): string {
    let p = start;
    while (alphabet[this.text.charCodeAt(p)] === 1) p++;
    if (p === start || isDigit(this.text.charCodeAt(start))) throw this.expected(start, what);
    this.pos = p;
    return this.text.slice(start, p);
  }

  /** A name in quotes: anything but nothing. */
  protected readQuotedName(start: number, what: string): string {
    const name = this.readQuoted(start);
    if (name === '') throw this.expected(start, what);
    return name;
  }

  /** Quoted text, its escapes undone; `start` is at the opening quote. */
  protected readQuoted(start: number): string {
    const { text, end } = this;
    let p = text.indexOf('"', start + 1);
    const escaped = this.hasBackslash(start, p);
    if (escaped) for (p = start + 1; p < end && text.charCodeAt(p) !== QUOTE; p++) if (text.charCodeAt(p) === BACKSLASH) p++;
    if (p < 0 || p >= end) throw this.expected(end, `'"' at the end of the quoted text`);
    this.pos = p + 1;
    const raw = text.slice(start + 1, p);
    return escaped ? undoEscapes(raw, true) : raw;
  }

  /** The text from `start` to the end of the line. Only OpenMetrics escapes quotes in it. */
  protected readRest(start: number, quotes: boolean): string {
    const raw = this.text.slice(start, this.end);
    return this.hasBackslash(start, this.end) ? undoEscapes(raw, quotes) : raw;
  }

  private hasBackslash(start: number, end: number): boolean {
    if (this.backslash < start) {
      const at = this.text.indexOf('\\', start);
      this.backslash = at < 0 ? this.text.length : at;
    }
    return this.backslash < end;
  }

  /** A decimal number as text, exactly as it stands; with `special` also NaN and infinities, in any case. */
  protected readNumber(start: number, special: boolean): string {
    const { text } = this;
    let p = start;
    let c = text.charCodeAt(p);
    if (c === PLUS || c === MINUS) c = text.charCodeAt(++p);
    let digits = 0;
    for (; isDigit(c); digits++) c = text.charCodeAt(++p);
    if (c === DOT) for (c = text.charCodeAt(++p); isDigit(c); digits++) c = text.charCodeAt(++p);
    if (digits > 0 && (c | 32) === LOWER_E) {
      c = text.charCodeAt(++p);
      if (c === PLUS || c === MINUS) c = text.charCodeAt(++p);
      for (digits = 0; isDigit(c); digits++) c = text.charCodeAt(++p);
    } else if (digits === 0 && special) {
      digits = /^(?:[+-]?inf(?:inity)?|nan)/i.exec(text.slice(start, start + 10))?.[0].length ?? 0;
      p = start + digits;
      c = text.charCodeAt(p);
    }
    if (digits === 0 || !(p === this.end || isBlank(c)))
      throw this.expected(start, special ? 'a number, NaN, +Inf or -Inf' : 'a timestamp');
    this.pos = p;
    return text.slice(start, p);
  }

  protected expected(offset: number, what: string): ExpositionError {
    const found = this.text.slice(offset, Math.min(this.end, offset + 16));
    return this.error(offset, `expected ${what}, found ${found === '' ? 'the end of the line' : JSON.stringify(found)}`);
  }

  protected error(offset: number, message: string): ExpositionError {
    let line = 1;
    let start = 0;
    for (let lf = this.text.indexOf('\n'); lf >= 0 && lf < offset; lf = this.text.indexOf('\n', start)) {
      line++;
      start = lf + 1;
    }
    return new ExpositionError(line, offset - start + 1, message);
  }
}
