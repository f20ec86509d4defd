/**
 * Parser for what exporters expose: the Prometheus text format 0.0.4 and OpenMetrics 1.0 text, which ends with `# EOF`, in one
 * grammar. It is generous where the two, or Prometheus' own readers, are (blanks, trailing commas, CRLF, no last newline, quoted
 * UTF-8 names, unknown escapes kept as they are) and exact about everything else.
 *
 * How it works. One pass, line by line, on the text itself: names and numbers are scanned, everything else is found with `indexOf`
 * and cut out with `slice`, which copies nothing. No step looks at a character more than a few times, whatever the text is, so the
 * time is linear. Line and column are worked out only when an error is thrown.
 *
 * With `want`, most lines are not read at all but skipped by a look at two characters of their names: see `skip`, and
 * exposition-families.ts for why that is safe.
 */

import type { Label, MetricFamily, MetricValue } from '../common/record.ts';
import { Families, type FamilyState, NameFilter, TYPES } from './exposition-families.ts';
import {
  CLOSE,
  COMMA,
  EQUALS,
  HASH,
  isBlank,
  isBlankOrNewline,
  LABEL_NAME,
  LF,
  METRIC_NAME,
  OPEN,
  QUOTE,
  Scanner,
  SPACE,
} from './exposition-scanner.ts';

export { printExposition } from './exposition-print.ts';
export { ExpositionError } from './exposition-scanner.ts';

/** One event behind a sample, such as a traced request (OpenMetrics only). */
export interface Exemplar {
  labels: Label[];
  value: string;
  /** Unix seconds, as exposed. */
  timestamp?: string;
}

export interface ExposedSample extends MetricValue {
  /** As exposed: whole milliseconds in the text format, seconds in OpenMetrics (`isOpenMetrics` tells which it is). */
  timestamp?: string;
  exemplar?: Exemplar;
}

/** A family as exposed. One with no unit, timestamps and exemplars has exactly the fields of a `MetricFamily`. */
export interface ExposedFamily extends MetricFamily {
  /** Of the UNIT line (OpenMetrics only). */
  unit?: string;
  values: ExposedSample[];
}

const NOT_METRICS = "not metrics: is the URL the exporter's /metrics?";

/**
 * The families of a page, in the order of their first lines. Types, values and timestamps are the page's own text.
 * Strings may be slices, which keep the whole page in memory for as long as they live.
 *
 * @param want names of the families to return; all if left out. What is wrong in the lines of other families goes unnoticed.
 * @throws ExpositionError and nothing else, whatever the text.
 */
export function parseExposition(text: string, want?: ReadonlySet<string>): ExposedFamily[] {
  return new Parser(text, want).parse();
}

/** Whether a page is OpenMetrics, and complete: its last line is `# EOF`. */
export function isOpenMetrics(text: string): boolean {
  return eofOffset(text) >= 0;
}

/** The offset of the `# EOF` that is the last line, or -1. */
function eofOffset(text: string): number {
  let end = text.length;
  while (end > 0 && isBlankOrNewline(text.charCodeAt(end - 1))) end--;
  const start = end - '# EOF'.length;
  return text.endsWith('# EOF', end) && (start === 0 || text.charCodeAt(start - 1) === LF) ? start : -1;
}

function hasTwins(labels: readonly Label[]): boolean {
  if (labels.length > 8) return new Set(labels.map((label) => label.name)).size < labels.length;
  for (let i = 1; i < labels.length; i++) for (let j = 0; j < i; j++) if (labels[i]?.name === labels[j]?.name) return true;
  return false;
}

class Parser extends Scanner {
  private readonly want: ReadonlySet<string> | undefined;
  /** Where the closing `# EOF` of OpenMetrics is; -1 in the text format. */
  private readonly eof: number;
  private readonly families: Families;
  /** The last unquoted metric name and its family: the next line is mostly about the same. */
  private lastName = '';
  private lastState: FamilyState | undefined;
  /** The last unquoted label names, by position: the next sample mostly has the same, and need not make them anew. */
  private readonly labelNames: string[] = [];

  constructor(text: string, want: ReadonlySet<string> | undefined) {
    super(text);
    this.want = want;
    this.families = new Families(want);
    this.eof = eofOffset(text);
  }

  parse(): ExposedFamily[] {
    const { want, text } = this;
    const filter = want === undefined ? undefined : new NameFilter(want);
    let start = this.start();
    while (start < text.length) {
      this.setLine(start);
      const p = this.blanks(start);
      const c = text.charCodeAt(p);
      if (c === HASH) this.readComment(p);
      else if (p !== this.end) this.readSample(p, c === OPEN);
      start = filter === undefined ? this.next : this.skip(this.next, filter);
    }
    return this.families.all.filter((state) => state.wanted).map((state) => state.family);
  }

  /** The offset of the first line with something on it, once it is clear that the page is not something else altogether. */
  private start(): number {
    let p = this.text.charCodeAt(0) === 0xfeff ? 1 : 0;
    while (isBlankOrNewline(this.text.charCodeAt(p))) p++;
    const head = this.text.slice(p, p + 500);
    if (head.startsWith('<')) throw this.error(p, `looks like HTML, ${NOT_METRICS}`);
    if (/^(?:\[|\{\s*(?:\}\s*$|"[^"\n]*"\s*:|[\r\n]))/.test(head)) throw this.error(p, `looks like JSON, ${NOT_METRICS}`);
    return p;
  }

  /**
   * The start of the first line from `p` on that may be about a wanted family. This decides by where a name is in `name…` and
   * `# TYPE name…`; lines of any other form (indented, quoted names, …) are left to be read like all lines.
   */
  private skip(p: number, filter: NameFilter): number {
    const { text } = this;
    for (; p < text.length; p = text.indexOf('\n', p) + 1) {
      const c = text.charCodeAt(p);
      let name = p;
      if (c === HASH) {
        name = p + '# TYPE '.length;
        // All keywords have four letters: if one starts behind the first blank and a name behind the next one, it is here.
        if (text.charCodeAt(p + 1) !== SPACE || isBlank(text.charCodeAt(p + 2)) || METRIC_NAME[text.charCodeAt(name)] !== 1) return p;
      } else if (METRIC_NAME[c] !== 1) return p;
      if (filter.passes(text, name)) return p;
    }
    return p;
  }

  private readComment(start: number): void {
    const { text } = this;
    const p = this.blanks(start + 1);
    const word = text.slice(p, p + 4);
    if ((word === 'TYPE' || word === 'HELP' || (word === 'UNIT' && this.eof >= 0)) && isBlank(text.charCodeAt(p + 4))) {
      const state = this.readDeclaredName(this.blanks(p + 4));
      const from = this.pos;
      if (state.wanted && from !== this.end && !isBlank(text.charCodeAt(from))) throw this.expected(from, 'a blank after the metric name');
      if (word === 'TYPE') this.readType(state, this.blanks(from));
      else if (state.wanted) this.readText(state, word, from);
    } else if (start < this.eof && text.slice(start, this.end) === '# EOF') {
      throw this.error(this.next, 'expected nothing after # EOF');
    }
  }

  private readType(state: FamilyState, p: number): void {
    const { text } = this;
    const { family } = state;
    let end = this.end;
    while (end > p && isBlank(text.charCodeAt(end - 1))) end--;
    const type = text.slice(p, end);
    const known = type === 'gauge' || type === 'counter' || TYPES.includes(type);
    if (state.wanted) {
      if (!known) throw this.expected(p, `a type (${TYPES.join(', ')})`);
      if (state.typed) throw this.error(p, `expected one TYPE line for ${family.name}, this is the second`);
      if (family.values.length > 0) throw this.error(p, `expected the TYPE line of ${family.name} before its first sample`);
    }
    if (known) family.type = type;
    state.typed = true;
  }

  private readText(state: FamilyState, word: 'HELP' | 'UNIT', from: number): void {
    const { family } = state;
    // Exactly one blank is the format's, as Prometheus reads it: a help text may begin with one of its own.
    if (word === 'UNIT') family.unit = this.text.slice(from + 1, this.end);
    else {
      if (state.helped) throw this.error(from, `expected one HELP line for ${family.name}, this is the second`);
      family.description = this.readRest(from + 1, this.eof >= 0);
      state.helped = true;
    }
  }

  /** Whether the last name is the whole name at `p`. */
  private atLastName(p: number): boolean {
    const name = this.lastName;
    const end = p + name.length;
    return name !== '' && METRIC_NAME[this.text.charCodeAt(end)] !== 1 && this.text.slice(p, end) === name;
  }

  /** The family whose name is at `p`, new if it was not met before. */
  private readDeclaredName(p: number): FamilyState {
    const last = this.lastState;
    if (last !== undefined && last.family.name === this.lastName && this.atLastName(p)) {
      this.pos = p + this.lastName.length;
      return last;
    }
    const inQuotes = this.text.charCodeAt(p) === QUOTE;
    const name = inQuotes ? this.readQuotedName(p, 'a metric name') : this.readName(p, METRIC_NAME, 'a metric name');
    this.lastName = inQuotes ? '' : name;
    this.lastState = this.families.named(name);
    return this.lastState;
  }

  private readSample(start: number, inBraces: boolean): void {
    const { text } = this;
    let p = start + this.lastName.length;
    let name = this.lastName;
    let state = this.lastState;
    if (inBraces) {
      p = this.blanks(start + 1);
      const what = 'a metric name, before the braces or in quotes as the first thing in them';
      if (text.charCodeAt(p) !== QUOTE) throw this.expected(p, what);
      name = this.readQuotedName(p, what);
      state = this.families.ofSample(name);
      p = this.pos;
    } else if (!this.atLastName(start)) {
      this.lastName = name = this.readName(start, METRIC_NAME, 'a metric name');
      this.lastState = state = this.families.ofSample(name);
      p = this.pos;
    }
    if (state === undefined || !state.wanted) return;

    const behindName = p;
    p = this.blanks(p);
    const c = text.charCodeAt(p);
    let labels: Label[] = [];
    if (inBraces) {
      if (c !== COMMA && c !== CLOSE) throw this.expected(p, "',' or '}' after the metric name");
      labels = this.readLabels(c === COMMA ? p + 1 : p);
      p = this.blanks(this.pos);
    } else if (c === OPEN) {
      labels = this.readLabels(p + 1);
      p = this.blanks(this.pos);
    } else if (p === behindName) throw this.expected(p, "'{' or a blank after the metric name");

    const value = this.readNumber(p, true);
    const sample: ExposedSample = name === state.family.name ? { labels, value } : { name, labels, value };
    p = this.blanks(this.pos);
    if (p !== this.end) this.readExtras(p, sample);
    // An array of one to begin with: a push to an empty one makes room for seventeen.
    if (state.family.values.length === 0) state.family.values = [sample];
    else state.family.values.push(sample);
  }

  /** Timestamp and exemplar, up to the end of the line. */
  private readExtras(from: number, sample: ExposedSample): void {
    const { text } = this;
    let p = from;
    if (text.charCodeAt(p) !== HASH) {
      sample.timestamp = this.readNumber(p, false);
      if (this.eof < 0 && !/^[+-]?\d+$/.test(sample.timestamp)) {
        throw this.expected(p, 'a timestamp in whole milliseconds (in seconds only in OpenMetrics, which ends with # EOF)');
      }
      p = this.blanks(this.pos);
    }
    if (text.charCodeAt(p) === HASH) {
      if (this.eof < 0)
        throw this.expected(p, 'the end of the line (exemplars are only in OpenMetrics, which ends with # EOF: is the page cut off?)');
      p = this.blanks(p + 1);
      if (text.charCodeAt(p) !== OPEN) throw this.expected(p, "the '{' of an exemplar");
      const labels = this.readLabels(p + 1);
      const exemplar: Exemplar = { labels, value: this.readNumber(this.blanks(this.pos), true) };
      p = this.blanks(this.pos);
      if (p !== this.end) exemplar.timestamp = this.readNumber(p, false);
      p = this.blanks(this.pos);
      sample.exemplar = exemplar;
    }
    if (p !== this.end) throw this.expected(p, 'the end of the line');
  }

  /** Labels up to and including the closing brace. */
  private readLabels(from: number): Label[] {
    const { text, labelNames } = this;
    let labels: Label[] = [];
    let p = this.blanks(from);
    while (text.charCodeAt(p) !== CLOSE) {
      const at = labels.length;
      let name = at < labelNames.length ? labelNames[at] : undefined;
      if (name !== undefined && text.charCodeAt(p + name.length) === EQUALS && text.slice(p, p + name.length) === name) p += name.length;
      else {
        if (text.charCodeAt(p) === QUOTE) name = this.readQuotedName(p, 'a label name');
        else labelNames[at] = name = this.readName(p, LABEL_NAME, "a label name or '}'");
        p = this.blanks(this.pos);
        if (text.charCodeAt(p) !== EQUALS) throw this.expected(p, "'=' after the label name");
      }
      p = this.blanks(p + 1);
      if (text.charCodeAt(p) !== QUOTE) throw this.expected(p, "'\"' before the label value");
      const label = { name, value: this.readQuoted(p) };
      if (at === 0) labels = [label];
      else labels.push(label);
      p = this.blanks(this.pos);
      if (text.charCodeAt(p) === COMMA) p = this.blanks(p + 1);
      else if (text.charCodeAt(p) !== CLOSE) throw this.expected(p, "',' or '}' after the label value");
    }
    this.pos = p + 1;
    if (labels.length > 1 && hasTwins(labels)) throw this.error(from, 'expected each label name once');
    return labels;
  }
}
