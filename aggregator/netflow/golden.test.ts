/**
 * Golden cases: test/fixtures/netflow/<case>/input.json (or input.bin) against expected.json, the records as they are written, with
 * left-out.json (the counts) where something is left out, or against expected-error.txt.
 *
 * The v1-stock and v2 cases are what real GoFlow2 1.3.6 and 2.2.1 wrote for one NetFlow v9 packet. UPDATE_GOLDEN=1 writes the files anew.
 */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { compactJson, prettyJson } from '../../test/json-text.ts';
import { newCounters } from './counters.ts';
import { normaliseMessage } from './pipeline.ts';

const CASES = fileURLToPath(new URL('../../test/fixtures/netflow', import.meta.url));
const update = process.env.UPDATE_GOLDEN !== undefined;

describe.each(readdirSync(CASES))('%s', (name) => {
  const file = (base: string) => join(CASES, name, base);
  const read = (base: string) => (existsSync(file(base)) ? readFileSync(file(base), 'utf8') : undefined);
  const input = readFileSync(existsSync(file('input.bin')) ? file('input.bin') : file('input.json'));

  it('gives what is expected', () => {
    const counters = newCounters();
    const result = normaliseMessage(input, { counters });
    const records = 'error' in result ? undefined : result.output.map(String).join('\n');
    const error = 'error' in result ? result.error : undefined;
    const leftOut = Object.keys(counters.leftOut).length === 0 ? undefined : counters.leftOut;
    if (update) {
      write(file('expected.json'), records?.split('\n').map(prettyJson).join('\n'));
      write(file('expected-error.txt'), error);
      write(file('left-out.json'), leftOut && JSON.stringify(leftOut, null, 2));
    }
    expect(error).toBe(read('expected-error.txt')?.trimEnd());
    // As text: parsing would round what must not be rounded.
    expect(records).toBe(
      read('expected.json')
        ?.split(/^(?=\{)/m)
        .map(compactJson)
        .join('\n'),
    );
    expect(leftOut).toEqual(JSON.parse(read('left-out.json') ?? 'null') ?? undefined);
  });
});

function write(path: string, text: string | undefined): void {
  if (text === undefined) rmSync(path, { force: true });
  else writeFileSync(path, `${text}\n`);
}

it('gives the seed’s output for the seed’s flow, field by field; only flow-id is of our own making', () => {
  const flow = readFileSync(join(CASES, 'seed-example/input.json'));
  const result = normaliseMessage(flow);
  if ('error' in result) throw new Error(result.error);
  const ours = JSON.parse(String(result.output[0]));
  const seeds = JSON.parse(readFileSync(join(CASES, 'seed-example/seed-output.json'), 'utf8'));
  const { 'flow-id': ourId, ...ourRecord } = ours['netflow-v9:netflow']['export-packet']['flow-data-record'][0];
  const { 'flow-id': seedId, ...seedRecord } = seeds['netflow-v9:netflow']['export-packet']['flow-data-record'][0];
  expect(seedId).toBe(1958795234);
  expect(ourId).toBe(292646266);
  expect(ourRecord).toEqual(seedRecord);
  ours['netflow-v9:netflow']['export-packet']['flow-data-record'] = [];
  seeds['netflow-v9:netflow']['export-packet']['flow-data-record'] = [];
  expect(ours).toEqual(seeds);
});

it('gives the same records for version 2’s JSON and its protobuf', () => {
  const records = (name: string) =>
    (readFileSync(join(CASES, name, 'expected.json'), 'utf8').match(/^\{[\s\S]*?^\}/gm) ?? []).map((text) =>
      // The two were recorded one after the other.
      compactJson(text).replace(/"time-received":\d+/, '"time-received":0'),
    );
  const fromJson = ['udp', '64bit', 'icmp', 'gre', 'ipv6', 'mpls'].flatMap((name) => records(`v2-stock-${name}`));
  expect(fromJson).toHaveLength(6);
  expect(records('v2-protobuf')).toEqual(fromJson);
});
