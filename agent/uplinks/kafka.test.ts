import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { configWith } from '../../test/kafka-bus.ts';
import { fakeCluster, produced, writtenIn } from '../../test/kafka-fake.ts';
import { hasKcat, NEEDS_KCAT, readTopic } from '../../test/kcat.ts';
import { freePort } from '../../test/ports.ts';
import { canStartKafka, type Kafka, NEEDS_OWN_KAFKA, startKafka } from '../../test/real/kafka.ts';
import { tempDir } from '../../test/tempdir.ts';
import type { Delivery, Entry, Uplink } from '../uplink.ts';
import { createKafkaUplink } from './kafka.ts';

const never = new AbortController().signal;
let names = 0;

/** Entries `from` to `to` of a router, as the outbox gives them. */
function entries(agent: string, from: number, to: number, options: { topic?: (seq: number) => string; pad?: number } = {}): Entry[] {
  return Array.from({ length: to - from + 1 }, (_, i) => {
    const seq = from + i;
    const topic = options.topic?.(seq) ?? `TP_${agent}`;
    return {
      seq,
      topic,
      key: topic.slice(3),
      headers: { 'ndt-agent': agent, 'ndt-boot': 'b1', 'ndt-seq': String(seq) },
      body: JSON.stringify({ seq, pad: 'x'.repeat(options.pad ?? 200) }),
    };
  });
}

/** Sends as the drain does: what was not confirmed goes again, whole. */
async function sendAll(uplink: Uplink, batch: Entry[], timeoutMs = 60_000): Promise<Delivery> {
  const total: Delivery = { acked: [], rejected: [] };
  const end = performance.now() + timeoutMs;
  for (let left = batch; left.length > 0; ) {
    const { acked, rejected } = await uplink.send(left, never).catch((error: unknown) => {
      if (performance.now() > end) throw error;
      return { acked: [], rejected: [] };
    });
    total.acked.push(...acked);
    total.rejected.push(...rejected);
    const done = new Set([...acked, ...rejected.map(({ seq }) => seq)]);
    left = left.filter(({ seq }) => !done.has(seq));
  }
  return total;
}

function uplinkTo(bootstrap: string, agentId: string, kafka: object = {}): Uplink {
  const uplink = createKafkaUplink({ loaded: configWith(bootstrap, kafka), agentId });
  onTestFinished(() => uplink.close());
  return uplink;
}

describe.skipIf(!canStartKafka || !hasKcat)(`the uplink to Kafka${NEEDS_OWN_KAFKA}${NEEDS_KCAT}`, () => {
  let kafka: Kafka;
  const seqsOf = async (topic: string) => (await readTopic(kafka.bootstrap, topic)).map(({ headers }) => Number(headers['ndt-seq']));
  const agent = () => {
    names += 1;
    return `agent${names}`;
  };

  beforeAll(async () => {
    kafka = await startKafka();
  }, 60_000);
  afterAll(() => kafka.stop());

  it('brings records to their topics in order, with key and headers, as others see them', async () => {
    const id = agent();
    const topic = (seq: number) => `TP_${id}${seq % 2}`;
    const uplink = uplinkTo(kafka.bootstrap, id);
    for (let from = 1; from <= 91; from += 30) await uplink.send(entries(id, from, from + 29, { topic }), never);
    expect(uplink.connected).toBe(true);
    for (const odd of [0, 1]) {
      const seen = await readTopic(kafka.bootstrap, `TP_${id}${odd}`);
      const wanted = entries(id, 1, 120, { topic }).filter(({ seq }) => seq % 2 === odd);
      expect(seen.map(({ key, headers, value }) => ({ key, headers, value }))).toEqual(
        wanted.map(({ key, headers, body }) => ({ key, headers, value: body })),
      );
    }
  });

  it('rejects a record that the topic does not take, with the reason, and the rest flows in order', async () => {
    const id = agent();
    const uplink = uplinkTo(kafka.bootstrap, id, { compression: 'none' });
    const batch = entries(id, 1, 20);
    for (const seq of [7, 15]) batch[seq - 1] = entries(id, seq, seq, { pad: 1_500_000 })[0]!;
    const { acked, rejected } = await uplink.send(batch, never);
    expect(rejected.map(({ seq }) => seq)).toEqual([7, 15]);
    expect(rejected[0]?.reason).toMatch(/too large for the topic TP_agent\d+: 15000\d\d bytes/);
    expect(acked).toHaveLength(18);
    expect(await seqsOf(`TP_${id}`)).toEqual(batch.map(({ seq }) => seq).filter((seq) => seq !== 7 && seq !== 15));
  });

  it('does not send again what an earlier process had committed and not come to know, whatever the order', async () => {
    const id = agent();
    const before = uplinkTo(kafka.bootstrap, id);
    await before.send(entries(id, 1000, 1009), never);
    await before.send(entries(id, 1, 5), never);
    await before.close();
    const after = uplinkTo(kafka.bootstrap, id);
    const { acked } = await after.send([...entries(id, 1, 8), ...entries(id, 1000, 1012)], never);
    expect(acked.sort((a, b) => a - b)).toEqual([...entries(id, 1, 8), ...entries(id, 1000, 1012)].map(({ seq }) => seq));
    expect((await seqsOf(`TP_${id}`)).sort((a, b) => a - b)).toEqual(acked);
  });

  it('starts with the broker down, says so in one line, and delivers when it is there', async () => {
    const port = await freePort();
    const uplink = uplinkTo(`127.0.0.1:${port}`, 'early', { timeout: 2 });
    const failure = await uplink.send(entries('early', 1, 3), never).catch((error: unknown) => error);
    expect(failure).toMatchObject({
      reason: 'unreachable',
      message: expect.stringMatching(/^nothing listens at 127\.0\.0\.1:\d+: start the broker there, or set kafka\.brokers/),
    });
    expect(uplink.connected).toBe(false);
    const late = await startKafka({ port });
    onTestFinished(() => late.stop());
    expect((await sendAll(uplink, entries('early', 1, 3))).acked).toEqual([1, 2, 3]);
  }, 60_000);

  it('delivers each record once and in order though the broker is killed while it sends', async () => {
    const id = agent();
    const uplink = uplinkTo(kafka.bootstrap, id, { timeout: 3 });
    const total = 3000;
    let at = 1;
    let killed = 0;
    const killing = (async () => {
      for (const half of [total * 0.3, total * 0.6]) {
        while (at < half) await new Promise((resolve) => setTimeout(resolve, 1));
        await kafka.kill9();
        killed += 1;
        await kafka.restart();
      }
    })();
    while (at <= total) {
      await sendAll(uplink, entries(id, at, at + 19));
      at += 20;
    }
    await killing;
    expect(killed).toBe(2);
    expect(await seqsOf(`TP_${id}`)).toEqual(entries(id, 1, total).map(({ seq }) => seq));
  }, 90_000);

  it('goes on when its topic is deleted and made again', async () => {
    const id = agent();
    const uplink = uplinkTo(kafka.bootstrap, id);
    await uplink.send(entries(id, 1, 5), never);
    await kafka.deleteTopic(`TP_${id}`);
    expect((await sendAll(uplink, entries(id, 6, 10))).acked).toEqual([6, 7, 8, 9, 10]);
    expect(await seqsOf(`TP_${id}`)).toEqual([6, 7, 8, 9, 10]);
  });

  it('ends at once when asked to, in the middle of an attempt', async () => {
    const uplink = uplinkTo(`127.0.0.1:${await freePort()}`, 'gone', { timeout: 10 });
    const stop = new AbortController();
    const sending = uplink.send(entries('gone', 1, 2), stop.signal).catch((error: unknown) => error);
    stop.abort();
    const started = performance.now();
    expect(await sending).toMatchObject({ reason: 'closed' });
    await uplink.close();
    expect(performance.now() - started).toBeLessThan(5000);
  });
});

describe('the uplink to brokers that do as they are told', () => {
  it('keeps inventories back, and does not reject them, where a file of ours cannot be read for a moment', async () => {
    const password = join(tempDir(), 'password');
    writeFileSync(password, 'secret');
    const { bootstrap, hangUp } = await fakeCluster({ anyTopic: true });
    const sasl = { mechanism: 'plain', username: 'u', password_file: password };
    const uplink = uplinkTo(bootstrap, 'a', { sasl });
    const topic = () => configWith(bootstrap).config.topics.inventory.replace('{router}', 'r1');
    expect(await uplink.send(entries('a', 1, 1), never)).toEqual({ acked: [1], rejected: [] });
    // A secret is being replaced while the broker closes a connection that was idle for its ten minutes.
    rmSync(password);
    await hangUp();
    await expect(uplink.send(entries('a', 2, 2, { topic }), never)).rejects.toThrow();
    writeFileSync(password, 'secret');
    expect(await sendAll(uplink, entries('a', 2, 2, { topic }))).toEqual({ acked: [2], rejected: [] });
  });

  it('makes batches as small as a topic takes them, and not single records', async () => {
    const counts: number[] = [];
    const { bootstrap } = await fakeCluster({
      anyTopic: true,
      answers: {
        Produce: ({ from }) => {
          const batches = writtenIn(from);
          const refused = batches.some(({ bytes }) => bytes.length > 20_000);
          if (!refused) counts.push(...batches.map(({ count }) => count));
          return produced(batches, () => (refused ? MESSAGE_TOO_LARGE : 0));
        },
      },
    });
    const uplink = uplinkTo(bootstrap, 'a', { compression: 'none' });
    expect((await uplink.send(entries('a', 1, 400), never)).acked).toHaveLength(400);
    expect(counts.length).toBeLessThan(40);
    counts.length = 0;
    expect((await uplink.send(entries('a', 401, 800), never)).acked).toHaveLength(400);
    expect(counts.length).toBeLessThan(40);
  });
});
const MESSAGE_TOO_LARGE = 10;
