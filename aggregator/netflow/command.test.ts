import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { netflowCommand, runNetflow } from './command.ts';

const FLOW = '{"SrcAddr":"10.0.0.1","DstAddr":"10.0.0.2","SrcPort":5,"BytesIn":5,"TimeFlowStart":1646564400,"TimeFlowEnd":1646564410}\n';
const BACK = '{"SrcAddr":"10.0.0.2","DstAddr":"10.0.0.1","DstPort":5,"BytesIn":7,"TimeFlowStart":1646564401,"TimeFlowEnd":1646564411}\n';

async function run(text: string, values: { [option: string]: string | boolean } = {}) {
  for (const name of Object.keys(values)) expect(netflowCommand.options).toHaveProperty([name]);
  const output = new PassThrough({ highWaterMark: 64 });
  const reports: string[] = [];
  const chunks: string[] = [];
  output.on('data', (chunk: Buffer) => chunks.push(chunk.toString()));
  async function* input(): AsyncGenerator<Buffer> {
    yield Buffer.from(text);
  }
  const code = await runNetflow({ values, positionals: [] }, { input: input(), output, report: (message) => reports.push(message) });
  output.end();
  for await (const _ of output);
  return { code, reports, lines: chunks.join('').split('\n').slice(0, -1) };
}

it('filters, and says what was bad and what was left out', async () => {
  const { code, reports, lines } = await run(`${FLOW}{"SrcAddr":"10.0.0.1","DstAddr":"10.0.0.2","SrcPort":70000}\nnonsense\n`);
  expect(code).toBe(1);
  expect(lines).toHaveLength(2);
  expect(reports).toEqual([expect.stringMatching(/^line 3: bad JSON: /), 'values left out, by leaf: src-port 1']);
});

it('is content when all is well', async () => {
  expect(await run(FLOW)).toMatchObject({ code: 0, reports: [], lines: [expect.stringContaining('"bytes-in":5,')] });
  expect(await run('')).toEqual({ code: 0, reports: [], lines: [] });
});

it.each<[{ [option: string]: string | boolean }, string, number]>([
  [{ rfc7951: true }, '"bytes-in":"5"', 2],
  [{ format: 'csv' }, 'flow-id', 3],
  [{ 'switched-unit': 'ms' }, '"first-switched":1646564400000', 2],
  [{ bidirectional: true }, '"reverse":{', 1],
  [{ bidirectional: true, 'pair-timeout': '500ms' }, '"flow-data-record"', 2],
  [{ aggregate: '5m', lateness: '10s' }, '"window-end":1646564700000', 2],
  [{ aggregate: '300', bidirectional: true }, '"reverse":{', 1],
  [{ input: 'ndjson' }, '"bytes-in":5', 2],
])('with %j writes %s', async (values, text, count) => {
  const { code, lines } = await run(FLOW + BACK, values);
  expect([code, lines.length]).toEqual([0, count]);
  expect(lines[0]).toContain(text);
});

it('prints its counters when asked', async () => {
  const { reports } = await run(FLOW, { counters: true });
  expect(JSON.parse(reports[0] ?? '')).toMatchObject({ in: 1, out: 1, bad: 0, leftOut: {} });
});

it.each<[{ [option: string]: string | boolean }, string]>([
  [{ format: 'xml' }, '--format xml: expected ndjson, csv'],
  [{ input: 'bin' }, '--input bin: expected auto, ndjson, protobuf'],
  [{ 'switched-unit': 'us' }, '--switched-unit us: expected input, s, ms'],
  [{ aggregate: 'soon' }, '--aggregate soon: expected a duration such as 20s, 5m or 1h'],
  [{ aggregate: '0' }, '--aggregate 0: a window has to have a length'],
  [{ lateness: '5s' }, '--lateness is of use only with --aggregate'],
  [{ 'pair-timeout': '5s' }, '--pair-timeout is of use only with --bidirectional'],
])('refuses %j', async (values, message) => {
  await expect(run(FLOW, values)).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining(message) });
});
