import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { HEADER, type Message } from '../common/bus.ts';
import { SeqSets } from '../common/dedupe.ts';
import { NdtError } from '../common/errors.ts';
import { openDb } from '../common/sqlite.ts';
import { tempDir } from '../test/tempdir.ts';
import { KafkaIngestor } from './ingress-kafka.ts';

const record = (seq: number, size = 2, agent = 'a1'): Message => ({
  topic: 'TP_r1',
  key: 'r1',
  headers: { [HEADER.agent]: agent, [HEADER.seq]: String(seq) },
  value: Buffer.alloc(size, 'x'),
});

/** A bus that confirms when told to, fails when told to, and takes nothing above 100 bytes on TP_r1. */
function rig() {
  const file = join(tempDir(), 'ingress.db');
  const written: Message[] = [];
  let gate: Promise<void> = Promise.resolve();
  const bus = {
    append: async (messages: Message[]) => {
      await gate;
      if (messages.some(({ topic, value }) => topic === 'TP_r1' && value.length > 100))
        throw new NdtError('DATA', 'TP_r1 refuses a record');
      written.push(...messages);
    },
  };
  const open = () => {
    const db = openDb(file, 'normal');
    onTestFinished(() => void (db.open && db.close()));
    return { ingestor: new KafkaIngestor(bus, new SeqSets(db), 'ndt.dead-letters'), close: () => db.close() };
  };
  const seqs = () => written.map(({ headers }) => Number(headers[HEADER.seq]));
  return { open, written, seqs, hold: (until: Promise<void>) => (gate = until) };
}

it('writes a record once, however often its batch comes, also after a restart', async () => {
  const { open, seqs } = rig();
  const first = open();
  expect(await first.ingestor.ingest([record(1), record(2), record(2)])).toHaveLength(2);
  expect(await first.ingestor.ingest([record(2), record(3)])).toHaveLength(1);
  first.close();
  const second = open();
  expect(await second.ingestor.ingest([record(1), record(3), record(4), record(1, 2, 'a2')])).toHaveLength(2);
  expect(seqs()).toEqual([1, 2, 3, 4, 1]);
});

it('writes a batch once that is sent again while its first try is under way', async () => {
  const { open, seqs, hold } = rig();
  const { ingestor } = open();
  const { promise, resolve } = Promise.withResolvers<void>();
  hold(promise);
  const both = [ingestor.ingest([record(1), record(2)]), ingestor.ingest([record(1), record(2)])];
  resolve();
  expect((await Promise.all(both)).map((fresh) => fresh.length)).toEqual([2, 0]);
  expect(seqs()).toEqual([1, 2]);
});

it('takes again what could not be written', async () => {
  const { open, seqs, hold } = rig();
  const { ingestor } = open();
  hold(Promise.reject(new Error('the bus is closed')));
  await expect(ingestor.ingest([record(1)])).rejects.toThrow('closed');
  hold(Promise.resolve());
  expect(await ingestor.ingest([record(1)])).toHaveLength(1);
  expect(seqs()).toEqual([1]);
});

it('makes a dead letter of what the topic refuses, and the rest goes through', async () => {
  const { open, written } = rig();
  const { ingestor } = open();
  await ingestor.ingest([record(1), record(2, 200), record(3)]);
  expect(written.map(({ topic, headers }) => [topic, headers[HEADER.seq], headers[HEADER.reason] ?? ''])).toEqual([
    ['TP_r1', '1', ''],
    ['TP_r1', '3', ''],
    ['ndt.dead-letters', '2', 'TP_r1 refuses a record'],
  ]);
  expect(await ingestor.ingest([record(2, 200)])).toEqual([]);
});
