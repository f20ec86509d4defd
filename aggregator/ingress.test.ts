import { describe, expect, it } from 'vitest';
import type { Message } from '../common/bus.ts';
import { testLog } from '../test/mqtt-rig.ts';
import { Complaints, isAgentId, Lane } from './ingress.ts';

const message = (text: string): Message => ({ topic: 't', key: null, headers: {}, value: Buffer.from(text) });

describe('the lane of a connection', () => {
  /** A write that ends when the test says so. */
  function gated() {
    const writes: Array<{ texts: string[]; end: PromiseWithResolvers<void> }> = [];
    const lane = new Lane((messages) => {
      const end = Promise.withResolvers<void>();
      writes.push({ texts: messages.map(({ value }) => value.toString()), end });
      return end.promise;
    });
    const outcomes: string[] = [];
    const write = async (name: string, ...texts: string[]) => {
      await lane.write(texts.map(message)).then(
        () => outcomes.push(`${name} written`),
        (error: Error) => outcomes.push(`${name}: ${error.message}`),
      );
    };
    return { writes, outcomes, write };
  }

  it('writes one thing at a time, and together what has come meanwhile', async () => {
    const { writes, outcomes, write } = gated();
    const all = [write('a', '1'), write('b', '2', '3'), write('c'), write('d', '4')];
    expect(writes.map(({ texts }) => texts)).toEqual([['1']]);
    expect(outcomes).toEqual([]);
    writes[0]?.end.resolve();
    await all[0];
    expect(outcomes).toEqual(['a written']);
    expect(writes.map(({ texts }) => texts)).toEqual([['1'], ['2', '3', '4']]);
    writes[1]?.end.resolve();
    await Promise.all(all);
    expect(outcomes).toEqual(['a written', 'b written', 'c written', 'd written']);
    const last = write('e', '5');
    writes[2]?.end.resolve();
    await last;
    expect(writes[2]?.texts).toEqual(['5']);
  });

  it('writes nothing behind what could not be written', async () => {
    const { writes, outcomes, write } = gated();
    const all = [write('a', '1'), write('b', '2')];
    writes[0]?.end.reject(new Error('disk full'));
    await Promise.all(all);
    await write('c', '3');
    expect(outcomes).toEqual(['a: disk full', 'b: disk full', 'c: disk full']);
    expect(writes).toHaveLength(1);
  });
});

describe('complaints', () => {
  it('are logged once for each kind and client', async () => {
    const { log, lines } = await testLog();
    const complaints = new Complaints(log);
    for (let i = 0; i < 3; i += 1) {
      complaints.raise('topic', 'a1', 'a1 wrote elsewhere');
      complaints.raise('topic', 'a2', 'a2 wrote elsewhere');
      complaints.raise('qos', 'a1', 'a1 used QoS 2');
    }
    expect(lines).toEqual(['ingress: a1 wrote elsewhere', 'ingress: a2 wrote elsewhere', 'ingress: a1 used QoS 2']);
  });

  it('do not fill the memory or the log, whatever names strangers take', async () => {
    const { log, lines } = await testLog();
    const complaints = new Complaints(log);
    for (let i = 0; i < 5000; i += 1) complaints.raise('password', `stranger ${i}`, 'wrong password');
    expect(lines.length).toBe(1001);
  });
});

it('knows an agent’s id', () => {
  expect(['a', 'r1', 'R-1.lab_2', '9', 'a'.repeat(128)].filter((id) => !isAgentId(id))).toEqual([]);
  expect(['', '-a', '.a', 'a/b', 'a+', '#', 'a b', 'ä', 'a\n', 'a'.repeat(129)].filter(isAgentId)).toEqual([]);
});
