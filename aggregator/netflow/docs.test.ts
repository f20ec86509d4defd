import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { AGGREGATE_DEFAULTS } from './aggregate.ts';
import { BIDIRECTIONAL_DEFAULTS } from './bidirectional.ts';
import { netflowCommand } from './command.ts';
import { LEAVES } from './leaves.ts';

const PAGE = readFileSync(new URL('../../docs/netflow.md', import.meta.url), 'utf8');
/** The rows of the record's table by leaf: the names of its fields. */
const FIELDS = new Map(
  [...PAGE.matchAll(/^\| (`[^|]*`[^|]*) \| [^|]* \| ([^|]*)\| ([^|]*)\|$/gm)].flatMap(([, leaves = '', camel = '', snake = '']) =>
    [...leaves.matchAll(/`([\w/-]+)`/g)].map(([, leaf = '']): [string, Set<string>] => [leaf, new Set(`${camel} ${snake}`.match(/\w+/g))]),
  ),
);

it('names every option of the command, and no other', () => {
  const named = [...PAGE.matchAll(/^\| `--([\w-]+)/gm)].map(([, name]) => name);
  expect(named).toEqual(Object.keys(netflowCommand.options ?? {}));
});

it('has every leaf and every name of its field', () => {
  for (const { path, camel, snake } of LEAVES) {
    if (/^(reverse|aggregate)\//.test(path)) {
      // These are told in words; what is said of `in` holds for `out`.
      expect(PAGE).toContain(path.slice(path.indexOf('/') + 1).replace('-out-', '-in-'));
    } else if (!/label-\d/.test(path)) {
      expect({ path, missing: [...camel, ...snake].filter((name) => !FIELDS.get(path)?.has(name)) }).toEqual({ path, missing: [] });
    }
  }
  expect([...FIELDS.keys()].filter((path) => path.startsWith('mpls/label-'))).toEqual(['mpls/label-1', 'mpls/label-2', 'mpls/label-10']);
});

it('has the defaults', () => {
  expect([AGGREGATE_DEFAULTS.latenessS, BIDIRECTIONAL_DEFAULTS.timeoutS]).toEqual([30, 30]);
  expect(PAGE.match(/30 s/g)).toHaveLength(2);
  expect(PAGE).toContain(AGGREGATE_DEFAULTS.maxFlows.toLocaleString('en'));
});
