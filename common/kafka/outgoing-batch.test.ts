import { expect, it } from 'vitest';
import type { Message } from '../bus.ts';
import { RecordRefused } from './errors.ts';
import { OutgoingBatch } from './outgoing-batch.ts';

const message = (topic: string, text: string): Message => ({ topic, key: 'k', headers: { a: 'b' }, value: Buffer.from(text) });
const letter = ({ key, headers, value }: Message, reason: string): Message => ({
  topic: 'dead',
  key,
  headers: { ...headers, reason },
  value: value.subarray(0, 3),
});
const refusal = (topic: string, index: number) => new RecordRefused('MESSAGE_TOO_LARGE', topic, 0, [index], 100);
const topics = (batch: OutgoingBatch) => batch.messages.map(({ topic }) => topic);

it('makes a dead letter of what is refused, then one without value and headers, and then goes on without it', () => {
  const batch = new OutgoingBatch({ append: [message('a', 'first'), message('b', 'second'), message('c', 'third')] }, 'state', letter);
  expect(batch.refused(refusal('b', 1))).toMatch(/^b refuses a record of 6 bytes \(MESSAGE_TOO_LARGE\); it goes to the dead letters/);
  expect(batch.messages[1]).toEqual({
    topic: 'dead',
    key: 'k',
    headers: { a: 'b', reason: 'MESSAGE_TOO_LARGE' },
    value: Buffer.from('sec'),
  });
  expect(batch.refused(refusal('dead', 1))).toMatch(/^dead refuses a dead letter .*without its value and headers/);
  expect(batch.messages[1]).toEqual({ topic: 'dead', key: 'k', headers: { reason: 'MESSAGE_TOO_LARGE' }, value: Buffer.alloc(0) });
  expect(topics(batch)).toEqual(['a', 'dead', 'c']);
  expect(batch.refused(refusal('dead', 1))).toMatch(/a record for b is dropped/);
  expect(topics(batch)).toEqual(['a', 'c']);
  // Places have moved.
  expect(batch.refused(refusal('c', 1))).toMatch(/^c refuses a record of 5 bytes/);
  expect(topics(batch)).toEqual(['a', 'dead']);
});

it('makes a dead letter at once of what no topic can be for', () => {
  const batch = new OutgoingBatch({ append: [message('fe80::1', 'x')] }, 'state', letter);
  expect(batch.messages).toMatchObject([{ topic: 'dead', headers: { reason: 'no topic of Kafka can be called "fe80::1"' } }]);
  expect(batch.refused(refusal('dead', 0))).toMatch(/without its value and headers/);
});

it('has nothing else to put in the place of a piece of state', () => {
  const batch = new OutgoingBatch({ append: [message('a', 'x')], state: new Map([['k', null]]) }, 'state', letter);
  expect(topics(batch)).toEqual(['a', 'state']);
  expect(batch.refused(refusal('state', 1))).toBeUndefined();
  expect(topics(batch)).toEqual(['a', 'state']);
});
