import { connect as connectSocket, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import { describe, expect, it, onTestFinished } from 'vitest';
import { batchLine, encodeBatch } from '../common/batch.ts';
import { HEADER, type Message } from '../common/bus.ts';
import type { EmbeddedBus } from '../common/bus-embedded.ts';
import { entries, entry, forever, messagesOn, seqsOn, startRig } from '../test/mqtt-rig.ts';
import { tempDir } from '../test/tempdir.ts';
import { until } from '../test/until.ts';

const OWN = 'ndt/1/a1/records';
const DEAD = 'ndt.dead-letters';

/** mqtt.js as any program might use it. */
async function client(port: number, options: IClientOptions = {}): Promise<MqttClient> {
  const made = mqtt.connect({ host: '127.0.0.1', port, protocol: 'mqtt', clientId: 'a1', reconnectPeriod: 0, ...options });
  onTestFinished(() => void made.end(true));
  await new Promise((resolve, reject) => {
    made.once('connect', resolve);
    made.on('error', reject);
  });
  return made;
}

/** `once` would reject at the error that comes before. */
const closeOf = (one: Socket | MqttClient) => new Promise<void>((resolve) => void one.once('close', () => resolve()));

const deadLetters = (bus: EmbeddedBus) =>
  messagesOn(bus, DEAD).map(({ key, headers, value }) => ({ key, ...headers, value: value.toString() }));
const reason = (text: string) => expect.stringContaining(text) as string;

describe('the embedded broker', () => {
  it('takes a batch in, record by record, with headers, key and text as they were', async () => {
    const rig = await startRig(tempDir());
    const uplink = rig.uplink('a1');
    const batch = [...entries('a1', 1, 3), { ...entry('a1', 4, 'r2') }];
    expect(await uplink.send(batch, forever)).toEqual({ acked: [1, 2, 3, 4], rejected: [] });
    expect(uplink.connected).toBe(true);
    const got = [...messagesOn(rig.bus, 'TP_r1'), ...messagesOn(rig.bus, 'TP_r2')];
    expect(got.map(({ topic, key, headers, value }) => ({ topic, key, headers, body: value.toString() }))).toEqual(
      batch.map(({ seq: _seq, ...rest }) => rest),
    );
    expect(rig.metric('ndt_ingress_records_total{via="broker"}')).toBe(4);
    expect(rig.metric('ndt_ingress_batches_total{via="broker"}')).toBe(1);
    expect(rig.metric('ndt_ingress_connections')).toBe(1);
    expect(rig.metric('ndt_ingress_duration_seconds_count{via="broker"}')).toBe(1);
  });

  it('acknowledges only when the batch is durable on the bus', async () => {
    const gate = Promise.withResolvers<void>();
    const asked: Message[][] = [];
    const rig = await startRig(tempDir(), {}, (bus) => ({
      ingest: async (messages) => {
        asked.push(messages);
        await gate.promise;
        return await bus.ingest(messages);
      },
    }));
    let acked = false;
    const sending = rig
      .uplink('a1')
      .send(entries('a1', 1, 2), forever)
      .then((delivery) => {
        acked = true;
        // At the moment of the acknowledgement the records are there.
        return { delivery, there: seqsOn(rig.bus, 'TP_r1') };
      });
    await until(() => asked.length > 0, 'the batch to reach the bus');
    // A ping goes the same way and comes back: the acknowledgement would have come before it.
    const other = await client(rig.port, { clientId: 'a2' });
    await new Promise((resolve) => other.publish('ndt/1/a2/records', '', { qos: 1 }, resolve));
    expect(acked).toBe(false);
    gate.resolve();
    expect(await sending).toEqual({ delivery: { acked: [1, 2], rejected: [] }, there: [1, 2] });
  });

  it('does not acknowledge what the bus could not take; sent again, it is there once', async () => {
    let failures = 2;
    const rig = await startRig(tempDir(), {}, (bus) => ({
      ingest: (messages) => {
        failures -= 1;
        return failures >= 0 ? Promise.reject(new Error('disk full')) : bus.ingest(messages);
      },
    }));
    const uplink = rig.uplink('a1');
    for (let i = 0; i < 2; i += 1) await expect(uplink.send(entries('a1', 1, 2), forever)).rejects.toMatchObject({ reason: 'closed' });
    expect(uplink.connected).toBe(false);
    expect(await uplink.send(entries('a1', 1, 2), forever)).toMatchObject({ acked: [1, 2] });
    expect(seqsOn(rig.bus, 'TP_r1')).toEqual([1, 2]);
    expect(rig.metric('ndt_ingress_failures_total{via="broker"}')).toBe(2);
    expect(rig.lines.filter((line) => line.includes('disk full'))).toHaveLength(1);
  });

  it('knows duplicates by agent and number, and acknowledges them', async () => {
    const rig = await startRig(tempDir());
    const [one, two] = [rig.uplink('a1'), rig.uplink('a2')];
    await one.send(entries('a1', 1, 5), forever);
    await two.send(entries('a2', 4, 6), forever);
    expect(await one.send(entries('a1', 4, 8), forever)).toMatchObject({ acked: [4, 5, 6, 7, 8] });
    expect(seqsOn(rig.bus, 'TP_r1')).toEqual([1, 2, 3, 4, 5, 4, 5, 6, 6, 7, 8]);
    expect(rig.metric('ndt_ingress_duplicates_total{via="broker"}')).toBe(2);
    expect(rig.metric('ndt_ingress_records_total{via="broker"}')).toBe(11);
  });

  it('takes notices in, each time', async () => {
    const rig = await startRig(tempDir());
    const notice = { seq: -1, topic: 'ndt.notices', key: 'a1', headers: { [HEADER.agent]: 'a1' }, body: '{"type":"gap","agent":"a1"}' };
    expect(await rig.uplink('a1').send([notice, entry('a1', 1)], forever)).toMatchObject({ acked: [-1, 1] });
    expect(messagesOn(rig.bus, 'ndt.notices').map(({ value }) => value.toString())).toEqual([notice.body]);
  });

  it('ends an older connection of the same agent, and says so', async () => {
    const rig = await startRig(tempDir());
    const older = await client(rig.port);
    const closed = closeOf(older);
    await client(rig.port);
    await closed;
    expect(rig.lines.join()).toMatch(/agent "a1" connected from 127.0.0.1 while it was connected.*two agents have the same id/);
    expect(rig.metric('ndt_ingress_connections')).toBe(1);
  });

  it('says which port is taken, and how to take another', async () => {
    const rig = await startRig(tempDir());
    await expect(startRig(tempDir(), { port: rig.port })).rejects.toMatchObject({
      code: 'CANNOT_CREATE',
      message: `port ${rig.port} on 127.0.0.1 is in use: stop the program that has it, or set aggregator.mqtt.port (NDT_AGGREGATOR_MQTT_PORT) to another`,
    });
  });
});

describe('bad data is acknowledged and kept with the reason', () => {
  const publish = async (port: number, payload: Buffer | string) => {
    const a1 = await client(port);
    await a1.publishAsync(OWN, payload, { qos: 1 });
    expect(a1.connected).toBe(true);
  };
  const line = (more: object) => batchLine({ ...entry('a1', 1), ...more });

  it('a batch that cannot be decompressed', async () => {
    const rig = await startRig(tempDir());
    const payload = gzipSync('hello'.repeat(100)).subarray(0, 20);
    await publish(rig.port, payload);
    expect(deadLetters(rig.bus)).toEqual([
      {
        key: 'a1',
        [HEADER.agent]: 'a1',
        [HEADER.reason]: reason('cannot be decompressed'),
        [HEADER.origin]: OWN,
        value: payload.toString(),
      },
    ]);
    expect(rig.metric('ndt_ingress_dead_letters_total{via="broker",reason="unreadable"}')).toBe(1);
    expect(rig.lines.join()).toMatch(/agent "a1": the batch cannot be decompressed/);
  });

  it('a broken line among good ones', async () => {
    const rig = await startRig(tempDir());
    await publish(rig.port, [batchLine(entry('a1', 1)), '{"topic":"TP_r1","key', batchLine(entry('a1', 2))].join('\n'));
    expect(seqsOn(rig.bus, 'TP_r1')).toEqual([1, 2]);
    expect(deadLetters(rig.bus)).toMatchObject([
      { [HEADER.reason]: reason('line 2: the line is not JSON'), value: '{"topic":"TP_r1","key' },
    ]);
  });

  it.each([
    ['of another agent', { headers: { [HEADER.agent]: 'a2', [HEADER.seq]: '7' } }, 'the line is of agent "a2", but agent "a1" sent it'],
    ['of no agent', { headers: { [HEADER.seq]: '7' } }, 'the line is of agent none, but agent "a1" sent it'],
    ['without a number', { headers: { [HEADER.agent]: 'a1' } }, 'expected a whole number from 1 in ndt-seq, got none'],
    ['with number 0', { headers: { [HEADER.agent]: 'a1', [HEADER.seq]: '0' } }, 'got "0"'],
    ['with a number that is none', { headers: { [HEADER.agent]: 'a1', [HEADER.seq]: '1e3' } }, 'got "1e3"'],
    [
      'with a number too large to be exact',
      { headers: { [HEADER.agent]: 'a1', [HEADER.seq]: '9007199254740993' } },
      'got "9007199254740993"',
    ],
    [
      'a notice about another agent',
      { topic: 'ndt.notices', headers: { [HEADER.agent]: 'a1' }, body: '{"agent":"a2"}' },
      'about agent "a2"',
    ],
    [
      'a notice with a number',
      { topic: 'ndt.notices', headers: { [HEADER.agent]: 'a1', [HEADER.seq]: '1' }, body: '{"agent":"a1"}' },
      'a notice has no ndt-seq',
    ],
  ])('a record %s, whose number stays free', async (_name, more, why) => {
    const rig = await startRig(tempDir());
    await publish(rig.port, line(more));
    const [letter, ...others] = deadLetters(rig.bus);
    expect(others).toEqual([]);
    expect(letter).toMatchObject({ [HEADER.agent]: 'a1', [HEADER.reason]: reason(why) });
    expect(letter).not.toHaveProperty(HEADER.seq);
    expect(await rig.uplink('a1').send(entries('a1', 1, 10), forever)).toMatchObject({ acked: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] });
    expect(seqsOn(rig.bus, 'TP_r1')).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(rig.bus.log.seen.agents().map(({ agent }) => agent)).toEqual(['a1']);
  });

  it.each(['ML_r1', 'ndt.dead-letters', 'other', 'TP_', 'TP_r 1', `TP_${'x'.repeat(300)}`])(
    'a record for topic %s, once however often it comes',
    async (topic) => {
      const rig = await startRig(tempDir());
      await publish(rig.port, line({ topic }));
      await publish(rig.port, line({ topic }));
      expect(deadLetters(rig.bus)).toEqual([
        {
          key: 'r1',
          [HEADER.agent]: 'a1',
          [HEADER.boot]: 'b1',
          [HEADER.seq]: '1',
          [HEADER.reason]: reason('agents may not write to topic'),
          [HEADER.origin]: topic,
          value: entry('a1', 1).body,
        },
      ]);
      expect(rig.bus.log.topics().map(({ name }) => name)).toEqual([DEAD]);
    },
  );

  it('but raw records, and raw topics that the configuration gives a router, are welcome', async () => {
    const rig = await startRig(tempDir());
    await publish(rig.port, encodeBatch([{ ...entry('a1', 1), topic: 'TD_r1' }], 'zstd'));
    expect(seqsOn(rig.bus, 'TD_r1')).toEqual([1]);
    expect(deadLetters(rig.bus)).toEqual([]);
  });
});

describe('who breaks the rules is refused, which is logged and counted', () => {
  const closes = async (a1: MqttClient) => {
    if (a1.connected) await closeOf(a1);
  };

  it.each([
    ['another agent’s topic', 'topic', (a1: MqttClient) => a1.publish('ndt/1/a2/records', 'x', { qos: 1 })],
    ['a topic below its own', 'topic', (a1: MqttClient) => a1.publish(`${OWN}/more`, 'x', { qos: 0 })],
    ['the broker’s own topics', 'topic', (a1: MqttClient) => a1.publish('$SYS/x/heartbeat', 'x', { qos: 1 })],
    [
      'a retained message',
      'retain',
      (a1: MqttClient) => a1.publish(OWN, encodeBatch(entries('a1', 1, 1), 'gzip'), { qos: 1, retain: true }),
    ],
    ['QoS 2', 'qos', (a1: MqttClient) => a1.publish(OWN, encodeBatch(entries('a1', 1, 1), 'gzip'), { qos: 2 })],
  ])('publishing to %s', async (_name, kind, publish) => {
    const rig = await startRig(tempDir());
    const a1 = await client(rig.port);
    publish(a1);
    await closes(a1);
    expect(rig.metric(`ndt_ingress_refused_total{reason="${kind}"}`)).toBe(1);
    expect(rig.lines.filter((text) => text.includes('agent "a1" published'))).toHaveLength(1);
    expect(rig.bus.log.topics()).toEqual([]);
    const again = await client(rig.port);
    publish(again);
    await closes(again);
    expect(rig.metric(`ndt_ingress_refused_total{reason="${kind}"}`)).toBe(2);
    expect(rig.lines.filter((text) => text.includes('agent "a1" published'))).toHaveLength(1);
  });

  it.each(['ndt/1/+/records', OWN, '#', '$share/g/ndt/1/+/records', '$SYS/#'])('subscribing to %s', async (filter) => {
    const rig = await startRig(tempDir());
    const a1 = await client(rig.port);
    await expect(a1.subscribeAsync(filter, { qos: 1 })).rejects.toMatchObject({ packet: { granted: [128] } });
    const got: string[] = [];
    a1.on('message', (topic) => got.push(topic));
    await rig.uplink('a2').send(entries('a2', 1, 1), forever);
    await a1.publishAsync(OWN, encodeBatch(entries('a1', 1, 1), 'none'), { qos: 1 });
    expect(got).toEqual([]);
    expect(rig.metric('ndt_ingress_refused_total{reason="subscribe"}')).toBe(1);
  });

  it.each([
    ['for another topic', { topic: 'ndt/1/a2/records', payload: Buffer.from('x'), qos: 1 as const, retain: false }],
    ['that is to be retained', { topic: OWN, payload: Buffer.from('x'), qos: 1 as const, retain: true }],
  ])('a will %s', async (_name, will) => {
    const rig = await startRig(tempDir());
    await expect(client(rig.port, { will })).rejects.toMatchObject({ code: 2 });
    expect(rig.bus.log.topics()).toEqual([]);
  });

  it('but a will for its own topic is a batch like another', async () => {
    const rig = await startRig(tempDir());
    const a1 = await client(rig.port, { will: { topic: OWN, payload: encodeBatch(entries('a1', 1, 1), 'gzip'), qos: 1, retain: false } });
    a1.stream.destroy();
    await until(() => seqsOn(rig.bus, 'TP_r1').length === 1, 'the will to be taken in');
  });

  it.each(['', 'a/1', '+', 'a 1', '-a', 'a'.repeat(200)])('the client id "%s"', async (clientId) => {
    const rig = await startRig(tempDir());
    await expect(client(rig.port, { clientId })).rejects.toMatchObject({ code: 2 });
    expect(rig.metric('ndt_ingress_connections') ?? 0).toBe(0);
  });

  it('MQTT 5', async () => {
    const rig = await startRig(tempDir());
    const five = mqtt.connect({ host: '127.0.0.1', port: rig.port, clientId: 'a1', protocolVersion: 5, reconnectPeriod: 0 });
    onTestFinished(() => void five.end(true));
    five.on('error', () => {});
    five.on('connect', () => expect.unreachable());
    await closeOf(five);
  });

  it('a packet larger than allowed, before it is kept', async () => {
    const rig = await startRig(tempDir(), { max_packet_bytes: 100_000 });
    const a1 = await client(rig.port);
    await a1.publishAsync(OWN, 'x'.repeat(90_000), { qos: 1 });
    a1.publish(OWN, 'x'.repeat(110_000), { qos: 1 });
    await closes(a1);
    expect(rig.metric('ndt_ingress_refused_total{reason="packet_too_large"}')).toBe(1);
    expect(rig.lines.join()).toMatch(
      /agent "a1" at 127.0.0.1 sent a packet of more than 100000 bytes \(aggregator.mqtt.max_packet_bytes\)/,
    );
    expect(deadLetters(rig.bus)).toHaveLength(1);
  });

  it('a CONNECT without end, after 64 KiB', async () => {
    const rig = await startRig(tempDir());
    const socket = connectSocket(rig.port, '127.0.0.1');
    socket.on('error', () => {});
    // A CONNECT that announces 200 MB: the protocol's name, flags for a password, a client id, and then the password.
    socket.write(Buffer.from([0x10, 0x80, 0x84, 0xaf, 0x5f, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 0xc2, 0, 60, 0, 2, 0x61, 0x31]));
    let sent = 0;
    const chunk = Buffer.alloc(16_384, 0x61);
    const closed = closeOf(socket);
    const pump = () => {
      while (!socket.destroyed && socket.write(chunk)) sent += chunk.length;
    };
    socket.on('drain', pump);
    pump();
    await closed;
    expect(rig.metric('ndt_ingress_refused_total{reason="too_much_before_login"}')).toBe(1);
    expect(rig.lines.join()).toMatch(/the client at 127.0.0.1 sent more than 65536 bytes before it had logged in/);
    // What the kernel's buffers take does not count as taken in, but it is no 200 MB either.
    expect(sent).toBeLessThan(50_000_000);
  });

  it('many small packets before CONNECT has been answered, and bytes that are no MQTT', async () => {
    const rig = await startRig(tempDir());
    for (const bytes of [
      Buffer.alloc(70_000, Buffer.from([0xc0, 0])),
      Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
      Buffer.alloc(10, 0xff),
    ]) {
      const socket = connectSocket(rig.port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write(bytes);
      await closeOf(socket);
    }
    await rig.uplink('a1').send(entries('a1', 1, 1), forever);
    expect(seqsOn(rig.bus, 'TP_r1')).toEqual([1]);
  });
});

it('acknowledges what is on its way when it ends, and takes nothing more', async () => {
  const dir = tempDir();
  const gate = Promise.withResolvers<void>();
  let asked = 0;
  const rig = await startRig(dir, {}, (bus) => ({
    ingest: async (messages) => {
      asked += 1;
      await gate.promise;
      return await bus.ingest(messages);
    },
  }));
  const uplink = rig.uplink('a1');
  const sending = uplink.send(entries('a1', 1, 3), forever);
  await until(() => asked === 1, 'the batch to arrive');
  const closing = rig.broker.close();
  gate.resolve();
  expect(await sending).toMatchObject({ acked: [1, 2, 3] });
  await closing;
  await until(() => !uplink.connected, 'the uplink to see it');
  await expect(uplink.send(entries('a1', 4, 5), forever)).rejects.toMatchObject({ reason: 'unreachable' });
});
