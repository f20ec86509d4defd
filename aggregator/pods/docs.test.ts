import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { Metrics } from '../../common/metrics.ts';
import { DEFAULT_METRICS } from './default-metrics.ts';
import { SEED_VARIABLES } from './environment.ts';
import { podMeasures } from './measures.ts';
import { DROP_REASONS } from './messages.ts';
import { FAILURE_REASONS } from './prometheus-error.ts';

const textOf = (file: string) => readFileSync(new URL(file, import.meta.url), 'utf8');
const PAGE = textOf('../../docs/pods.md');

/** The rows of the table that begins with a heading: their cells, without the marks of code around the first. */
function rows(heading: string): string[][] {
  const from = PAGE.indexOf(`| ${heading} |`);
  expect(from, heading).toBeGreaterThan(0);
  const lines = PAGE.slice(from).split('\n\n')[0]!.trimEnd().split('\n').slice(2);
  return lines.map((line) => line.slice(2, -2).split(' | ')).map(([first = '', ...rest]) => [first.replaceAll('`', ''), ...rest]);
}
const firstOf = (heading: string) => rows(heading).map(([first]) => first);

it('has every metric of its own with its type, and no other', () => {
  const metrics = new Metrics();
  podMeasures(metrics);
  const own = [...metrics.print().matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]);
  expect(own.length).toBeGreaterThan(5);
  expect(rows('metric | type | meaning').map(([name, type]) => [name?.replace(/\{.*/, ''), type])).toEqual(own);
});

it('has every metric that is asked for, as the list has it', () => {
  const kind = ({ type, query, dropped }: (typeof DEFAULT_METRICS)[number]) =>
    dropped !== undefined ? 'worked out' : (query ?? (type === 'counter' ? 'rate' : 'average'));
  expect(rows('metric | type | unit')).toEqual(DEFAULT_METRICS.map((metric) => [metric.name, metric.type, metric.unit, kind(metric)]));
});

it('has the seed’s variables', () => {
  expect(rows('variable').map(([name, option]) => [name, option?.replaceAll('`', '')])).toEqual(Object.entries(SEED_VARIABLES));
});

it('has every reason and every fault', () => {
  expect(firstOf('reason of a failure')).toEqual([...FAILURE_REASONS, 'publish']);
  expect(firstOf('reason of a value left out')).toEqual(Object.keys(DROP_REASONS));
  const raised = ['./round.ts', './publisher.ts'].flatMap((file) => [...textOf(file).matchAll(/faults\s*\.raise\(\s*'([^']+)'/g)]);
  const named = new Set(raised.map(([, name]) => name));
  expect(named.size).toBeGreaterThan(5);
  expect(new Set(firstOf('what'))).toEqual(new Set([...named, 'Prometheus', 'publishing', 'the name of a metric', 'values left out (…)']));
});
