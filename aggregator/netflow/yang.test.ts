/**
 * What is written against netflow-v9.yang, by yanglint.
 *
 * yanglint reads JSON as RFC 7951 has it and refuses a 64-bit integer or a decimal that is a number. That is the mode `rfc7951`. In the
 * default mode exactly those leaves are put into quotes before they are checked, and nothing else; which leaves those are is
 * taken from the module, not from our table.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findProgram } from '../../scripts/programs.ts';
import { anyFlow } from '../../test/goflow2.ts';
import { compactJson } from '../../test/json-text.ts';
import { AGGREGATE_DEFAULTS } from './aggregate.ts';
import { BIDIRECTIONAL_DEFAULTS } from './bidirectional.ts';
import { LEAVES, PACKET_AT, RECORD_AT } from './leaves.ts';
import { type NetflowOptions, NetflowPipeline, normaliseMessage } from './pipeline.ts';

const MODULE = fileURLToPath(new URL('./netflow-v9.yang', import.meta.url));
const CASES = fileURLToPath(new URL('../../test/fixtures/netflow', import.meta.url));
const yanglint = findProgram('yanglint');
const FLOWS = 10_000;
/** yanglint keeps them all open. */
const FILES_AT_ONCE = 500;

interface YangLeaf {
  path: string;
  type: string;
}

/** The leaves of the module in its order, by yanglint's own reading: paths as in `LEAVES`. */
function yangLeaves(): YangLeaf[] {
  const { stdout } = spawnSync(yanglint ?? '', ['-f', 'tree', MODULE], { encoding: 'utf8' });
  const leaves: YangLeaf[] = [];
  const parents: string[] = [];
  for (const line of stdout.split('\n')) {
    const [, indent = '', name = '', type] = /^([ |]*)\+--ro ([\w-]+)[?*]?(?: \[.*\])?(?: +(\S+))?$/.exec(line) ?? [];
    if (name === '') continue;
    const depth = (indent.length - 2) / 3;
    parents[depth] = name;
    // netflow, export-packet and flow-data-record are above those that count.
    if (type !== undefined) leaves.push({ path: [...parents.slice(3, depth), name].join('/'), type });
  }
  return leaves;
}

function isWide({ type }: YangLeaf): boolean {
  return type === 'uint64' || type === 'rate';
}

/** What yanglint says of each document, each a file of its own; '' for all of them valid. */
function complaints(documents: readonly string[]): string {
  const dir = mkdtempSync(join(tmpdir(), 'ndt-yang-'));
  try {
    for (const [i, document] of documents.entries()) writeFileSync(join(dir, `${i}.json`), document);
    for (let from = 0; from < documents.length; from += FILES_AT_ONCE) {
      const names = documents.slice(from, from + FILES_AT_ONCE).map((_, i) => `${from + i}.json`);
      const { stdout, stderr, status } = spawnSync(yanglint ?? '', [MODULE, ...names], { cwd: dir, encoding: 'utf8' });
      if (status === 0 && stderr === '') continue;
      const bad = /"(\d+)\.json"/.exec(stderr)?.[1];
      return `exit ${status}: ${stdout}${stderr}${documents[Number(bad)] ?? ''}`;
    }
    return '';
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

describe.skipIf(yanglint === undefined)("netflow-v9.yang (needs Debian's libyang2-tools)", () => {
  const leaves = yanglint === undefined ? [] : yangLeaves();
  const wide = new RegExp(
    `"(${[...new Set(leaves.filter(isWide).map(({ path }) => path.split('/').at(-1)))].join('|')})":(-?[0-9.]+)`,
    'g',
  );
  const quoted = (document: string): string => document.replace(wide, '"$1":"$2"');

  it('is a valid module', () => {
    const { stdout, stderr, status } = spawnSync(yanglint ?? '', [MODULE], { encoding: 'utf8' });
    expect({ stdout, stderr, status }).toEqual({ stdout: '', stderr: '', status: 0 });
    expect(readFileSync(MODULE, 'utf8')).toContain('namespace "http://data-aggregator.com/ns/netflow";');
  });

  it('has the leaves of the table, in its order and with its encoding', () => {
    const encoding = (leaf: YangLeaf) =>
      isWide(leaf) ? 'wide' : /int|port-number|as-number|flow-label/.test(leaf.type) ? 'number' : 'text';
    expect(leaves.map((leaf) => [leaf.path, encoding(leaf)])).toEqual(LEAVES.map(({ path, encoding: ours }) => [path, ours]));
    expect([PACKET_AT, RECORD_AT]).toEqual([3, 8]);
  });

  it('has a description for every leaf and container, and a unit for every quantity', () => {
    const text = readFileSync(MODULE, 'utf8');
    const statements = [...text.matchAll(/^( *)(?:leaf|container|list|typedef|grouping|enum|bit) (\S+) \{$/gm)];
    expect(statements.length).toBeGreaterThan(150);
    for (const { index, 1: indent, 2: name } of statements) {
      const body = text.slice(index, text.indexOf(`\n${indent}}`, index)).split('\n');
      expect({ name, described: body.includes(`${indent}  description`) }).toEqual({ name, described: true });
    }
    for (const { path, type } of leaves) {
      // Unix times of the flow itself have no fixed unit: see the description.
      if (!isWide({ path, type }) || /switched|pal-rd/.test(path)) continue;
      expect(text).toMatch(new RegExp(`leaf ${path.split('/').at(-1)} \\{\\s+type ${type};\\s+units "`));
    }
  });

  it('takes the seed’s own output', () => {
    const seeds = compactJson(readFileSync(join(CASES, 'seed-example/seed-output.json'), 'utf8'));
    expect(complaints([quoted(seeds)])).toBe('');
  });

  it('refuses what is wrong (or this test proves nothing)', () => {
    const good = quoted(compactJson(readFileSync(join(CASES, 'seed-example/seed-output.json'), 'utf8')));
    const wrong: Array<[string, string]> = [
      ['"bytes-in":"228"', '"bytes-in":228'],
      ['"src-port":123', '"src-port":70000'],
      ['"protocol":"udp"', '"protocol":"gre"'],
      ['"tcp-flags":""', '"tcp-flags":"syn fan"'],
      ['"src-mask":0', '"src-mask":33'],
      ['"min-ttl":0', '"min-ttl":0,"no-such-leaf":1'],
      ['"next-hop":"0.0.0.0"', '"next-hop":"0.0.0.256"'],
    ];
    for (const [from, to] of wrong) {
      expect(good).toContain(from);
      expect(complaints([good, good.replace(from, to), good])).not.toBe('');
    }
  });

  it('takes every golden record, in both number modes', () => {
    const documents = readdirSync(CASES).flatMap((name) => {
      const input = readFileSync(
        existsSync(join(CASES, name, 'input.bin')) ? join(CASES, name, 'input.bin') : join(CASES, name, 'input.json'),
      );
      return bothModes([input], {});
    });
    expect(documents.length).toBeGreaterThanOrEqual(40);
    expect(complaints(documents)).toBe('');
  });

  it('takes a record for every value of every enumeration and every combination of TCP flags', () => {
    const documents = Array.from({ length: 257 }, (_, n) => {
      const fields = {
        SrcAddr: '10.0.0.1',
        DstAddr: '10.0.0.2',
        FlowDirection: n,
        Proto: n,
        ForwardingStatus: n,
        EngineType: n,
        MPLSTopLabelType: n,
        TCPFlags: n,
      };
      return bothModes([Buffer.from(JSON.stringify(fields))], {})[0] ?? '';
    });
    expect(documents.join('\n').match(/"forwarding-status"/g)).toHaveLength(24);
    expect(documents.join('\n').match(/"protocol"/g)).toHaveLength(11);
    expect(complaints(documents)).toBe('');
  });

  it(`takes ${FLOWS} generated flows in both number modes`, { timeout: 120_000 }, () => {
    const seed = Date.now();
    const records = bothModes(sample(FLOWS, seed), {});
    expect(records).toHaveLength(FLOWS);
    expect({ seed, complaints: complaints(records) }).toEqual({ seed, complaints: '' });
  });

  it('takes generated flows that were summed up and merged', { timeout: 120_000 }, () => {
    const seed = Date.now();
    // Every flow with one that goes back.
    const flows = sample(1000, seed).flatMap((flow) => [
      flow,
      Buffer.from(flow.toString().replace(ENDS, (_, end, what) => `"${BACK.get(end)}${what}"`)),
    ]);
    const bidirectional = BIDIRECTIONAL_DEFAULTS;
    for (const options of [{ bidirectional }, { aggregate: AGGREGATE_DEFAULTS }, { aggregate: AGGREGATE_DEFAULTS, bidirectional }]) {
      const records = bothModes(flows, options);
      expect(records.some((record) => record.includes('"reverse":{'))).toBe('bidirectional' in options);
      expect(records.some((record) => record.includes('-per-second"'))).toBe('aggregate' in options);
      expect({ seed, complaints: complaints(records) }).toEqual({ seed, complaints: '' });
    }
  });

  /** The records in RFC 7951's mode. Those of the default mode are the same texts once their wide numbers are quoted. */
  function bothModes(inputs: readonly Buffer[], options: NetflowOptions): string[] {
    const strict = recordsOf(inputs, { ...options, rfc7951: true });
    expect(recordsOf(inputs, options).map(quoted)).toEqual(strict);
    return strict;
  }
});

const ENDS = /"(Src|Dst|src|dst)(Addr|Port|_addr|_port)"/g;
const BACK = new Map([
  ['Src', 'Dst'],
  ['Dst', 'Src'],
  ['src', 'dst'],
  ['dst', 'src'],
]);

function sample(count: number, seed: number): Buffer[] {
  return fc.sample(anyFlow, { numRuns: count, seed }).map((flow) => Buffer.from(flow));
}

function recordsOf(inputs: readonly Buffer[], options: NetflowOptions): string[] {
  const pipeline = new NetflowPipeline(options);
  const records = inputs.flatMap((input) => {
    const result = pipeline.message(input);
    return 'error' in result ? [] : result.output.map(String);
  });
  return [...records, ...pipeline.flush().map((record) => pipeline.write(record))];
}

it('never gives text that is no JSON', () => {
  fc.assert(
    fc.property(anyFlow, (flow) => {
      const result = normaliseMessage(Buffer.from(flow));
      if ('error' in result) throw new Error(`${result.error}: ${flow}`);
      expect(Object.keys(JSON.parse(String(result.output[0])))).toEqual(['netflow-v9:netflow']);
    }),
    { numRuns: 500 },
  );
});
