import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { CSV_HEADER } from './csv.ts';
import { type BadFlow, type FilterOptions, netflowFilter } from './filter.ts';

const fixture = (path: string): Buffer => readFileSync(fileURLToPath(new URL(`../../test/fixtures/netflow/${path}`, import.meta.url)));
const FRAMES = fixture('v2-protobuf/input.bin');
const FLOW = '{"SrcAddr":"10.0.0.1","DstAddr":"10.0.0.2","BytesIn":5}';

async function filtered(chunks: ReadonlyArray<Buffer | string>, options: FilterOptions = {}) {
  async function* input(): AsyncGenerator<Buffer> {
    for (const chunk of chunks) yield Buffer.from(chunk);
  }
  let text = '';
  const bad: BadFlow[] = [];
  const report = await netflowFilter(
    input(),
    async (part) => {
      text += part;
    },
    { ...options, onBad: (one) => bad.push(one) },
  );
  return { text, lines: text.split('\n').slice(0, -1), bad, ...report };
}

it('filters NDJSON, and tells the line of what is bad', async () => {
  const { lines, bad, counters } = await filtered([`${FLOW}\n\n  \r\n${FLOW}\r\n{"SrcAddr":\nflow\n{"SrcAddr":"10.0.0.1"}\n${FLOW}`]);
  expect(lines).toHaveLength(3);
  expect(lines[0]).toContain('"bytes-in":5');
  expect(bad).toEqual([
    { number: 5, unit: 'line', reason: 'bad JSON: Unexpected end of JSON input' },
    { number: 6, unit: 'line', reason: expect.stringMatching(/^bad JSON: Unexpected token/) },
    { number: 7, unit: 'line', reason: 'no destination address (DstAddr)' },
  ]);
  expect(counters).toMatchObject({ in: 6, normalised: 3, bad: 3, out: 3 });
});

it('filters protobuf, found out by its first bytes', async () => {
  const { lines, bad, counters } = await filtered([FRAMES]);
  expect(lines).toHaveLength(6);
  expect(bad).toEqual([]);
  expect(counters.shapes).toEqual({ seed: 0, v1: 0, v2: 0, protobuf: 6 });
});

it('does not mind where its input is cut', async () => {
  const json = Buffer.concat([fixture('v2-stock-ipv6/input.json'), fixture('v1-stock-mpls/input.json'), Buffer.from(`garbage\n${FLOW}`)]);
  for (const whole of [json, FRAMES, FRAMES.subarray(0, 400)]) {
    const expected = await filtered([whole]);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(whole.length), { maxLength: 12 }), async (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), whole.length];
        const chunks = at.slice(1).map((end, i) => whole.subarray(at[i], end));
        expect(await filtered(chunks)).toEqual(expected);
      }),
      { numRuns: 60 },
    );
    expect(await filtered([...whole].map((byte) => Buffer.from([byte])))).toEqual(expected);
  }
});

it('reports a last message that is not there whole', async () => {
  const { lines, bad } = await filtered([FRAMES.subarray(0, 400)]);
  expect(lines).toHaveLength(2);
  expect(bad).toEqual([{ number: 3, unit: 'message', reason: 'the input ends inside of the message' }]);
});

it('skips a message that is bad inside of its frame', async () => {
  const bad = Buffer.from([14, 0x08, 3, ...Array(12).fill(0x07)]);
  const result = await filtered([Buffer.concat([bad, FRAMES])]);
  expect(result.lines).toHaveLength(6);
  expect(result.bad).toEqual([{ number: 1, unit: 'message', reason: 'bad protobuf: a field with the number 7' }]);
});

it('gives up where the framing is lost, and says so', async () => {
  await expect(filtered([Buffer.concat([FRAMES, Buffer.alloc(20, 0xff)])])).rejects.toMatchObject({
    code: 'DATA',
    message: 'message 7: its length makes no sense, so that no further one can be found',
  });
});

it('takes the input for what it is told', async () => {
  expect((await filtered([FRAMES], { input: 'ndjson' })).lines).toEqual([]);
  expect((await filtered([FRAMES], { input: 'protobuf' })).lines).toHaveLength(6);
});

it('refuses lines that are too long without keeping them', async () => {
  const long = `{"SrcAddr":"${'x'.repeat(5000)}"}`;
  const { lines, bad } = await filtered([`${FLOW}\n`, ...(long.match(/.{1,700}/g) ?? []), `\n${FLOW}\n${long}\n${FLOW}\n${long}`], {
    maxLineBytes: 1000,
  });
  expect(lines).toHaveLength(3);
  expect(bad.map(({ number, reason }) => [number, reason])).toEqual([2, 4, 6].map((number) => [number, 'longer than 1000 bytes']));
});

it('writes CSV', async () => {
  const { lines } = await filtered([`${FLOW}\n${FLOW}\n`], { format: 'csv' });
  expect(lines).toHaveLength(3);
  expect(lines[0]).toBe(CSV_HEADER);
  expect(lines[1]?.split(',')[CSV_HEADER.split(',').indexOf('bytes-in')]).toBe('5');
  expect((await filtered([''], { format: 'csv' })).lines).toEqual([CSV_HEADER]);
});

it('writes at its end what the stages hold', async () => {
  const timed = FLOW.replace('}', ',"TimeFlowEnd":1646564427}');
  const { lines, counters } = await filtered([`${timed}\n${timed}\n`], {
    aggregate: { windowS: 60, latenessS: 30, maxFlows: 10 },
    rfc7951: true,
  });
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain('"bytes-in":"10"');
  expect(counters).toMatchObject({ in: 2, normalised: 2, out: 1 });
});

it('does not wait for more input with what it has', async () => {
  let seen = '';
  async function* input(): AsyncGenerator<Buffer> {
    yield Buffer.from(`${FLOW}\n${FLOW.slice(0, 20)}`);
    expect(seen.split('\n')).toHaveLength(2);
    yield Buffer.from(`${FLOW.slice(20)}\n`);
    expect(seen.split('\n')).toHaveLength(3);
  }
  await netflowFilter(input(), async (text) => {
    seen += text;
  });
  expect(seen.split('\n')).toHaveLength(3);
});

it('is empty for empty input', async () => {
  expect(await filtered([])).toMatchObject({ text: '', bad: [] });
});

it('waits for the output, and hands on its failure', async () => {
  let writing = 0;
  let most = 0;
  let written = 0;
  async function* input(): AsyncGenerator<Buffer> {
    for (let i = 0; i < 40; i++) yield Buffer.from(`${FLOW}\n`.repeat(500));
  }
  await netflowFilter(input(), async (text) => {
    most = Math.max(most, ++writing);
    await new Promise((resolve) => setImmediate(resolve));
    writing--;
    written += text.split('\n').length - 1;
  });
  expect([most, written]).toEqual([1, 20_000]);
  await expect(netflowFilter(input(), () => Promise.reject(new Error('EPIPE')))).rejects.toThrow('EPIPE');
});
