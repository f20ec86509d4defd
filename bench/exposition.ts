/**
 * How fast an exporter's page is parsed: ours against code as one writes it in an afternoon (split into lines, a regular
 * expression for each) and against npm's parse-prometheus-text-format, on the same pages in the same run.
 */

import { deepStrictEqual } from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import parsePrometheusTextFormat from 'parse-prometheus-text-format';
import { parseExposition } from '../agent/exposition.ts';
import type { Label, MetricFamily, MetricValue } from '../common/record.ts';
import { type BenchTable, median, printTable, rounded } from './table.ts';

const PAGE = new URL('../test/fixtures/exposition/node-exporter/input.txt', import.meta.url);
const WANT = new Set(['node_network_receive_bytes_total', 'node_network_receive_packets_total']);
/** What one would ask for to watch a router's links: more names than are searched for one by one. */
const WANT_MANY = new Set(
  ['bytes', 'packets', 'errs', 'drop', 'fifo', 'compressed'].flatMap((what) =>
    ['receive', 'transmit'].map((way) => `node_network_${way}_${what}_total`),
  ),
);
const INTERFACES = 60;
const ROUNDS = 41;
/** Each round of a candidate takes about this long [ms], so that the clock's grain and a stray interruption do not matter. */
const ROUND_MS = 12;

const COMMENT = /^#\s+(HELP|TYPE)\s+(\S+)\s*(.*)$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+(-?\d+))?$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;

/** The reference: gives the same families for these pages (`run` checks it). `want` is applied as soon as the name is known. */
function parseByRegex(text: string, want?: ReadonlySet<string>): MetricFamily[] {
  const families = new Map<string, MetricFamily>();
  const familyOf = (name: string): MetricFamily => {
    let family = families.get(name);
    if (family === undefined) {
      family = { name, description: '', type: 'untyped', values: [] };
      families.set(name, family);
    }
    return family;
  };
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line === '') continue;
    if (line.startsWith('#')) {
      const [, keyword, name = '', rest = ''] = COMMENT.exec(line) ?? [];
      if (keyword === undefined || (want !== undefined && !want.has(name))) continue;
      if (keyword === 'TYPE') familyOf(name).type = rest;
      else familyOf(name).description = undoEscapes(rest);
      continue;
    }
    const match = SAMPLE.exec(line);
    if (match === null) throw new Error(`bad line: ${line}`);
    const [, name = '', inBraces = '', value = ''] = match;
    const base = name.replace(/_(bucket|sum|count)$/, '');
    const ofBase = base !== name && !families.has(name) && ['histogram', 'summary'].includes(families.get(base)?.type ?? '');
    const familyName = ofBase ? base : name;
    if (want !== undefined && !want.has(familyName)) continue;
    const labels: Label[] = [];
    for (const [, label = '', text = ''] of inBraces.matchAll(LABEL)) labels.push({ name: label, value: undoEscapes(text) });
    const sample: MetricValue = ofBase ? { name, labels, value } : { labels, value };
    familyOf(familyName).values.push(sample);
  }
  return [...families.values()];
}

function undoEscapes(text: string): string {
  return text.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
}

/** The page of a router with many interfaces (VLANs, tunnels): every line of an interface as often as there are. */
function manyInterfaces(page: string, count: number): string {
  return page
    .split('\n')
    .flatMap((line) =>
      line.startsWith('node_network_') && line.includes('device="eth0"')
        ? Array.from({ length: count }, (_, i) => line.replace('device="eth0"', `device="eth0.${100 + i}"`))
        : [line],
    )
    .join('\n');
}

interface Candidate {
  name: string;
  parse: (page: string) => unknown;
  /** How many times as fast as the first candidate it must be. */
  atLeast?: number;
}

/** Seconds for one parse, of each candidate in each round. They take turns, so that all meet the same weather. */
function measure(candidates: readonly Candidate[], page: string): number[][] {
  const time = (parse: Candidate['parse'], times: number): number => {
    const start = process.hrtime.bigint();
    for (let i = 0; i < times; i++) parse(page);
    return Number(process.hrtime.bigint() - start) / 1e9 / times;
  };
  // Warm up for as long as ten rounds, and learn how many parses make one.
  const times = candidates.map(({ parse }) => {
    let count = 1;
    for (const end = performance.now() + 10 * ROUND_MS; performance.now() < end; count++) parse(page);
    return Math.max(1, Math.round(count / 10));
  });
  const seconds = candidates.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, { parse }] of candidates.entries()) seconds[i]?.push(time(parse, times[i] ?? 1));
  }
  return seconds;
}

export async function run(): Promise<BenchTable> {
  const captured = readFileSync(PAGE, 'utf8');
  const pages = [
    { name: 'node_exporter, as captured', page: captured },
    { name: `node_exporter, ${INTERFACES} interfaces`, page: manyInterfaces(captured, INTERFACES) },
  ];
  const candidates: Candidate[] = [
    { name: 'split and regex, all families', parse: (text) => parseByRegex(text) },
    { name: 'ndt, all families', parse: (text) => parseExposition(text), atLeast: 3 },
    { name: 'ndt, 2 families', parse: (text) => parseExposition(text, WANT), atLeast: 20 },
    { name: `ndt, ${WANT_MANY.size} families`, parse: (text) => parseExposition(text, WANT_MANY) },
    { name: 'split and regex, 2 families', parse: (text) => parseByRegex(text, WANT) },
    { name: 'parse-prometheus-text-format, all families', parse: (text) => parsePrometheusTextFormat(text) },
  ];
  const table: BenchTable = { name: 'exposition: parsing a node_exporter page', rows: [], checks: [] };
  for (const { name, page } of pages) {
    for (const want of [undefined, WANT, WANT_MANY]) deepStrictEqual(parseByRegex(page, want), parseExposition(page, want));
    const rounds = measure(candidates, page);
    const reference = rounds[0] ?? [];
    for (const [i, candidate] of candidates.entries()) {
      const seconds = rounds[i] ?? [];
      const speed = median(seconds.map((s, round) => (reference[round] ?? Number.NaN) / s));
      table.rows.push({
        page: `${name} (${rounded(page.length / 1000)} kB)`,
        parser: candidate.name,
        'µs/page': rounded(median(seconds) * 1e6),
        'MB/s': rounded(page.length / 1e6 / median(seconds)),
        'x first': rounded(speed),
      });
      if (candidate.atLeast === undefined) continue;
      const what = `${name}: ${candidate.name}, times split and regex`;
      table.checks.push({ what, value: rounded(speed), target: `>= ${candidate.atLeast}`, ok: speed >= candidate.atLeast });
    }
  }
  return table;
}

if (import.meta.main) printTable(await run());
