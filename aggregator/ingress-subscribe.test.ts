import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import mqtt, { type IClientOptions } from 'mqtt';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { batchLine } from '../common/batch.ts';
import { HEADER } from '../common/bus.ts';
import { EmbeddedBus } from '../common/bus-embedded.ts';
import { Metrics } from '../common/metrics.ts';
import { entries, entry, forever, loadSettings, messagesOn, openUplink, seqsOn, startRig, testLog } from '../test/mqtt-rig.ts';
import { type Certificates, makeCertificates } from '../test/real/certificates.ts';
import { hasMosquitto, type Mosquitto, startMosquitto, writePasswords } from '../test/real/mosquitto.ts';
import { tempDir } from '../test/tempdir.ts';
import { until } from '../test/until.ts';
import type { Ingestor } from './ingress.ts';
import { startSubscriber } from './ingress-subscribe.ts';

const matching = (pattern: RegExp) => expect.stringMatching(pattern) as string;

async function mosquitto(lines: readonly string[] = ['allow_anonymous true']): Promise<Mosquitto> {
  const broker = await startMosquitto(lines);
  onTestFinished(() => broker.remove());
  return broker;
}

/** A bus and a subscriber on it. */
async function startReader(dir: string, subscribe: object, through: (bus: EmbeddedBus) => Ingestor = (bus) => bus) {
  const bus = new EmbeddedBus({ file: join(dir, 'bus.db') });
  const metrics = new Metrics();
  const { log, lines } = await testLog();
  const loaded = loadSettings(dir, { aggregator: { mqtt: { enabled: false, subscribe } } }, 'aggregator.json');
  const subscriber = await startSubscriber({ loaded, bus: through(bus), metrics, log });
  let open = true;
  const close = async () => {
    if (!open) return;
    open = false;
    await subscriber.close();
    await bus.close();
  };
  onTestFinished(close);
  return { bus, subscriber, metrics, lines, close };
}

async function client(port: number, options: IClientOptions = {}) {
  const made = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0, ...options });
  onTestFinished(() => void made.end(true));
  return made;
}

describe.skipIf(!hasMosquitto)('with a real Mosquitto (needs Debian’s mosquitto)', () => {
  let dir: string;
  let certificates: Certificates;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'ndt-certificates-'));
    certificates = makeCertificates(dir);
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  it('agents’ batches come over it onto the bus: passwords, access list, TLS', async () => {
    const here = tempDir();
    const [passwords, access] = [join(here, 'passwords'), join(here, 'access')];
    writePasswords(passwords, { a1: 'one', aggregator: 'two' });
    writeFileSync(access, 'user aggregator\ntopic read ndt/1/+/records\npattern write ndt/1/%c/records\n', { mode: 0o600 });
    const { cert, key } = certificates.server;
    const { port } = await mosquitto([`password_file ${passwords}`, `acl_file ${access}`, `certfile ${cert}`, `keyfile ${key}`]);
    const url = `mqtts://localhost:${port}`;
    const tls = { ca_file: certificates.ca };
    writeFileSync(join(here, 'secret'), 'two\n');
    const { bus, subscriber, metrics } = await startReader(here, { url, tls, username: 'aggregator', password_file: 'secret' });
    await until(() => subscriber.connected, 'the subscription');
    const uplink = openUplink(here, 'a1', { url, tls, password: 'one' });
    const batch = entries('a1', 1, 700);
    expect((await uplink.send(batch, forever)).acked).toHaveLength(700);
    await until(() => seqsOn(bus, 'TP_r1').length === 700, 'the records on the bus');
    expect(
      messagesOn(bus, 'TP_r1').map(({ topic, key: router, headers, value }) => ({ topic, key: router, headers, body: value.toString() })),
    ).toEqual(batch.map(({ seq: _seq, ...rest }) => rest));
    await uplink.send(batch.slice(0, 10), forever);
    await until(() => metrics.print().includes('ndt_ingress_duplicates_total{via="subscription"} 10\n'), 'the duplicates');
    for (const wrong of [{ password: 'two' }, {}]) {
      await expect(openUplink(here, 'a1', { url, tls, ...wrong }).send(batch, forever)).rejects.toMatchObject({
        reason: 'credentials',
        message: matching(/refused agent "a1": user name or password is wrong: set mqtt.password_file/),
      });
    }
  });

  it('client certificates as well, and their absence is said', async () => {
    const here = tempDir();
    const { cert, key } = certificates.server;
    const lines = [
      `cafile ${certificates.ca}`,
      `certfile ${cert}`,
      `keyfile ${key}`,
      'require_certificate true',
      'use_identity_as_username true',
    ];
    const { port } = await mosquitto(lines);
    const url = `mqtts://127.0.0.1:${port}`;
    const a1 = certificates.client('a1');
    const tls = { ca_file: certificates.ca, cert_file: a1.cert, key_file: a1.key };
    expect(await openUplink(here, 'a1', { url, tls }).send(entries('a1', 1, 2), forever)).toMatchObject({ acked: [1, 2] });
    const without = openUplink(here, 'a1', { url, tls: { ca_file: certificates.ca } }).send(entries('a1', 1, 2), forever);
    await expect(without).rejects.toMatchObject({ message: matching(/asks for a client certificate/) });
  });

  it('plain records reach any subscriber', async () => {
    const { port } = await mosquitto();
    const reader = await client(port);
    const got: Array<{ topic: string; body: string }> = [];
    reader.on('message', (topic, payload) => got.push({ topic, body: payload.toString() }));
    await reader.subscribeAsync('ndt/+/processed', { qos: 1 });
    const batch = [...entries('a1', 1, 300), ...entries('a1', 301, 310, 'r2')];
    const { acked } = await openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${port}`, format: 'plain' }).send(batch, forever);
    expect(acked).toHaveLength(310);
    await until(() => got.length >= 310, 'the records');
    expect(got).toEqual(batch.map(({ key, body }) => ({ topic: `ndt/${key}/processed`, body })));
  });

  it('what comes while the aggregator is away waits at the broker', async () => {
    const here = tempDir();
    const { port } = await mosquitto();
    const url = `mqtt://127.0.0.1:${port}`;
    const first = await startReader(here, { url });
    await until(() => first.subscriber.connected, 'the subscription');
    const uplink = openUplink(here, 'a1', { url });
    await uplink.send(entries('a1', 1, 3), forever);
    await until(() => seqsOn(first.bus, 'TP_r1').length === 3, 'the first records');
    await first.close();
    for (let seq = 4; seq <= 60; seq += 1) await uplink.send([entry('a1', seq)], forever);
    const second = await startReader(here, { url });
    await until(() => seqsOn(second.bus, 'TP_r1').length === 60, 'the others');
    expect(seqsOn(second.bus, 'TP_r1')).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
    expect(second.metrics.print()).not.toMatch(/ndt_ingress_duplicates_total\{.*\} [1-9]/);
  });

  it('a batch is acknowledged to the broker only when it is durable; until then it comes again', async () => {
    const here = tempDir();
    const { port } = await mosquitto();
    const url = `mqtt://127.0.0.1:${port}`;
    let failures = 2;
    const reader = await startReader(here, { url }, (bus) => ({
      ingest: (messages) => {
        failures -= 1;
        return failures >= 0 ? Promise.reject(new Error('disk full')) : bus.ingest(messages);
      },
    }));
    await until(() => reader.subscriber.connected, 'the subscription');
    await openUplink(here, 'a1', { url }).send(entries('a1', 1, 3), forever);
    await until(() => seqsOn(reader.bus, 'TP_r1').length === 3, 'the records');
    expect(failures).toBeLessThan(0);
    await until(() => reader.lines.length >= 3, 'the log');
    expect(reader.lines).toEqual([
      `reading agents’ batches (ndt/1/+/records) from ${url}`,
      'subscription: a message could not be taken in, so the broker has to bring it again: disk full',
      matching(/^subscription: well again after \d+ s \(2 faults\)$/),
    ]);
  });

  it('a broker that goes and comes is found again', async () => {
    const here = tempDir();
    const broker = await mosquitto();
    const url = `mqtt://127.0.0.1:${broker.port}`;
    const reader = await startReader(here, { url });
    await until(() => reader.subscriber.connected, 'the subscription');
    await broker.stop();
    await until(() => !reader.subscriber.connected, 'the subscriber to notice');
    await broker.start();
    await until(() => reader.subscriber.connected, 'the subscription, again');
    const uplink = openUplink(here, 'a1', { url });
    await uplink.send(entries('a1', 1, 2), forever);
    await until(() => seqsOn(reader.bus, 'TP_r1').length === 2, 'the records');
    expect(reader.lines.join('\n')).toMatch(/subscription: well again after/);
  });

  it('bad data goes to the dead letters, and what is behind it comes through', async () => {
    const { port } = await mosquitto();
    const reader = await startReader(tempDir(), { url: `mqtt://127.0.0.1:${port}` });
    await until(() => reader.subscriber.connected, 'the subscription');
    const any = await client(port);
    await any.publishAsync('ndt/1/a1/records', Buffer.from([0x1f, 0x8b, 1, 2, 3]), { qos: 1 });
    await any.publishAsync('ndt/1/a 1/records', 'whoever', { qos: 1 });
    await any.publishAsync('ndt/1/a2/records', batchLine(entry('a1', 1)), { qos: 1 });
    await any.publishAsync('ndt/1/a1/records', '', { qos: 1, retain: true });
    await any.publishAsync('ndt/1/a1/records', batchLine(entry('a1', 1)), { qos: 0 });
    await until(() => seqsOn(reader.bus, 'TP_r1').length === 1, 'the good one');
    expect(
      messagesOn(reader.bus, 'ndt.dead-letters').map(({ headers, value }) => [
        headers[HEADER.reason],
        headers[HEADER.origin],
        value.toString(),
      ]),
    ).toEqual([
      [matching(/cannot be decompressed/), 'ndt/1/a1/records', Buffer.from([0x1f, 0x8b, 1, 2, 3]).toString()],
      ['the topic "ndt/1/a 1/records" names no agent', 'ndt/1/a 1/records', 'whoever'],
      ['the line is of agent "a1", but agent "a2" sent it', 'TP_r1', entry('a1', 1).body],
    ]);
  });
});

it('a broker that does not let us read is said', async () => {
  const rig = await startRig(tempDir());
  const reader = await startReader(tempDir(), { url: rig.broker.url });
  await until(() => reader.lines.length > 0, 'the complaint');
  expect(reader.lines[0]).toBe(
    `subscription: the broker at ${rig.broker.url} does not let the aggregator read ndt/1/+/records: allow it in the broker’s access list`,
  );
  expect(reader.subscriber.connected).toBe(false);
});

it('a broker that is not there is tried again, said once, and does not hinder the end', async () => {
  const reader = await startReader(tempDir(), { url: 'mqtt://127.0.0.1:1' });
  await until(() => reader.lines.length > 0, 'the complaint');
  expect(reader.subscriber.connected).toBe(false);
  await reader.close();
  expect(reader.lines).toEqual([
    'subscription: nothing listens at mqtt://127.0.0.1:1: start the broker there (the aggregator has one), or set aggregator.mqtt.subscribe.url to where it is: connect ECONNREFUSED 127.0.0.1:1',
  ]);
});
