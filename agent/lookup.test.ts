import type { LookupOptions } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { expect, test } from 'vitest';
import { lookupOnce } from './lookup.ts';

type Answer = Parameters<LookupFunction>[2];

/** A name server that answers when the test says so. */
function resolver() {
  const asked: Array<{ host: string; options: LookupOptions; answer: Answer }> = [];
  const lookup = lookupOnce((host, options, answer) => void asked.push({ host, options, answer }));
  const answers: unknown[][] = [];
  const ask = (host: string, options: LookupOptions = { all: true, hints: 32 }) => {
    lookup(host, options, (...answer) => answers.push(answer));
  };
  return { asked, answers, ask };
}

const BOTH = [
  { address: '::1', family: 6 },
  { address: '127.0.0.1', family: 4 },
];

test('who wants what is being looked up waits for that, and all get the answer', () => {
  const { asked, answers, ask } = resolver();
  for (let i = 0; i < 100; i += 1) ask('r1');
  expect(asked).toMatchObject([{ host: 'r1', options: { all: true, hints: 32 } }]);
  asked[0]?.answer(null, BOTH);
  expect(answers).toEqual(Array.from({ length: 100 }, () => [null, BOTH]));
});

test('other names and other options are asked for by themselves', () => {
  const { asked, answers, ask } = resolver();
  ask('r1');
  ask('r2');
  ask('r1', { family: 4 });
  ask('r1', { family: 6 });
  expect(asked.map(({ host, options }) => [host, options])).toEqual([
    ['r1', { all: true, hints: 32 }],
    ['r2', { all: true, hints: 32 }],
    ['r1', { family: 4 }],
    ['r1', { family: 6 }],
  ]);
  asked[2]?.answer(null, '192.0.2.1', 4);
  expect(answers).toEqual([[null, '192.0.2.1', 4]]);
});

test('an answer is of its moment: who asks after it asks anew, also from within it', () => {
  const { asked, answers, ask } = resolver();
  const unknown = Object.assign(new Error('getaddrinfo ENOTFOUND r1'), { code: 'ENOTFOUND' });
  ask('r1');
  asked[0]?.answer(unknown, '');
  expect(answers).toEqual([[unknown, '']]);
  ask('r1');
  expect(asked).toHaveLength(2);

  const again = lookupOnce((host, options, answer) => void asked.push({ host, options, answer }));
  again('r3', {}, () => again('r3', {}, () => {}));
  asked[2]?.answer(null, '192.0.2.3', 4);
  expect(asked).toHaveLength(4);
});

test('one that cannot be asked for at all leaves nobody waiting', () => {
  let broken = true;
  let asked = 0;
  const lookup = lookupOnce(() => {
    asked += 1;
    if (broken) throw new TypeError('bad option');
  });
  expect(() => lookup('r1', {}, () => {})).toThrow('bad option');
  broken = false;
  lookup('r1', {}, () => {});
  expect(asked).toBe(2);
});

test.each([{ all: true }, { family: 4 }, {}])('the system answers for localhost with %j', async (options) => {
  const lookup = lookupOnce();
  const of = () => new Promise<unknown[]>((resolve) => lookup('localhost', options, (...answer) => resolve(answer)));
  const [[error, address, family], other] = await Promise.all([of(), of()]);
  expect(error).toBeNull();
  if ('all' in options)
    expect(address).toContainEqual({ address: expect.stringMatching(/^(127\.0\.0\.1|::1)$/), family: expect.any(Number) });
  else expect([address, family]).toEqual([expect.stringMatching(/^(127\.0\.0\.1|::1)$/), expect.any(Number)]);
  expect(other).toEqual([error, address, ...(family === undefined ? [] : [family])]);
});
