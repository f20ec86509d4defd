import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createKafkaUplink } from '../../agent/uplinks/kafka.ts';
import { busOn, configWith, testLog } from '../../test/kafka-bus.ts';
import { canStartKafka, NEEDS_OWN_KAFKA } from '../../test/real/kafka.ts';
import { type SecuredKafka, SIGN_IN_MS, startSecuredKafka } from '../../test/real/kafka-secured.ts';
import { until } from '../../test/until.ts';
import type { Message } from '../bus.ts';
import { topicsOf } from '../topics.ts';
import { Cluster } from './cluster.ts';
import { METADATA } from './requests.ts';
import { kafkaOptions } from './settings.ts';

const record = (topic: string): Message => ({ topic, key: 'k', headers: {}, value: Buffer.from('{}') });

describe.skipIf(!canStartKafka)(`Kafka with TLS, passwords and rights${NEEDS_OWN_KAFKA}`, () => {
  const dir = mkdtempSync(join(tmpdir(), 'ndt-secured-'));
  let secured: SecuredKafka;
  const faults: string[] = [];

  const bus = (address: string, kafka: object) => {
    faults.length = 0;
    const made = busOn(address, { kafka: { timeout: 5, ...kafka }, onFault: (message) => faults.push(message) });
    onTestFinished(() => made.close());
    return made;
  };
  const password = (user: string, mechanism: string, file = `${user}-secret`) => ({ mechanism, username: user, password: file });
  const trusted = () => ({ ca_file: secured.certificates.ca });
  /** Through a stage and back: topics, a group and transactions are all used. */
  const roundTrip = async (address: string, kafka: object, prefix: string) => {
    const made = bus(address, kafka);
    const stop = new AbortController();
    const got: string[] = [];
    const running = [
      made.consume(
        `${prefix}-copy`,
        topicsOf(`${prefix}-in`),
        { handle: (batch) => ({ append: batch.map((m) => ({ ...m, topic: `${prefix}-out` })) }) },
        stop.signal,
      ),
      made.consume(
        `${prefix}-read`,
        topicsOf(`${prefix}-out`),
        { handle: (batch) => void got.push(...batch.map(({ topic }) => topic)) },
        stop.signal,
      ),
    ];
    await made.append([record(`${prefix}-in`)]);
    await until(() => got.length === 1, `the copy; faults: ${faults.join(' | ')}`);
    stop.abort();
    await Promise.all(running);
  };
  const firstFault = async (kafka: object, address = secured.withPassword, topic = 'any') => {
    const made = bus(address, kafka);
    made.append([record(topic)]).catch(() => {});
    return await until(() => faults[0], 'a fault');
  };

  beforeAll(async () => {
    secured = await startSecuredKafka(dir);
    for (const user of ['alice', 'carol', 'CN=edge']) await secured.allow(user, user.replace('CN=', ''));
    for (const user of ['alice', 'carol', 'CN=edge']) await secured.allow(user, 'ndt');
  }, 60_000);
  afterAll(async () => {
    await secured.kafka.stop();
    rmSync(dir, { recursive: true });
  });

  it.each([
    ['alice', 'scram-sha-512'],
    ['alice', 'scram-sha-256'],
    ['carol', 'plain'],
  ])('lets %s in by %s over TLS', async (user, mechanism) => {
    await roundTrip(secured.withPassword, { tls: trusted(), sasl: password(user, mechanism) }, `${user}-${mechanism}`);
  });

  it('lets a client certificate in', async () => {
    const { cert, key } = secured.certificates.client('edge');
    await roundTrip(secured.withCertificate, { tls: { ...trusted(), cert_file: cert, key_file: key } }, 'edge');
  });

  it('signs in again on the same connection before the broker ends it, also while much is asked', async () => {
    const loaded = configWith(secured.withPassword, { tls: trusted(), sasl: password('alice', 'scram-sha-256') });
    const cluster = new Cluster(kafkaOptions(loaded, 'test').client, testLog);
    onTestFinished(() => cluster.close());
    const end = performance.now() + 2 * SIGN_IN_MS;
    let asked = 0;
    const ask = async () => {
      // A connection that is cut off fails what was asked on it.
      for (; performance.now() < end; asked += 1) await cluster.ask('any', 'main', METADATA, { topics: ['alice'] });
    };
    await cluster.ask('any', 'main', METADATA, { topics: ['alice'] });
    await Promise.all([ask(), ask(), ask()]);
    expect(asked).toBeGreaterThan(100);
  });

  it('says that the password is wrong', async () => {
    for (const mechanism of ['scram-sha-512', 'plain']) {
      expect(await firstFault({ tls: trusted(), sasl: password('alice', mechanism, 'guess') })).toMatch(
        /^the broker localhost:\d+ refused user name or password of the user "alice": set kafka\.sasl\.username and kafka\.sasl\.password_file to what it knows$/,
      );
    }
  });

  it('says that the authority is unknown, or the certificate is for another name', async () => {
    const sasl = password('alice', 'scram-sha-512');
    expect(await firstFault({ tls: { ca_file: secured.certificates.wrongCa }, sasl })).toMatch(
      /^the certificate of the broker localhost:\d+ is not signed by an authority that is trusted here \([A-Z_]+\): set kafka\.tls\.ca_file/,
    );
    expect(await firstFault({ tls: { ...trusted(), server_name: 'core.example' }, sasl })).toMatch(
      /is for another name: put a name that it holds into kafka\.brokers/,
    );
  });

  it('says that TLS, or its absence, is what the port wants', async () => {
    expect(await firstFault({ sasl: password('alice', 'scram-sha-512') })).toMatch(
      /^the broker localhost:\d+ wants TLS on this port: set kafka\.tls$/,
    );
    expect(await firstFault({ tls: trusted() }, secured.internal)).toMatch(/does not speak TLS|leave out kafka\.tls/);
  });

  it('says that a client certificate is wanted, or not accepted', async () => {
    expect(await firstFault({ tls: trusted() }, secured.withCertificate)).toMatch(
      /asks for a client certificate: set kafka\.tls\.cert_file and kafka\.tls\.key_file/,
    );
    const { cert, key } = secured.certificates.foreignClient('edge');
    expect(await firstFault({ tls: { ...trusted(), cert_file: cert, key_file: key } }, secured.withCertificate)).toMatch(
      /does not accept the certificate in kafka\.tls\.cert_file/,
    );
  });

  it('says which right is missing, and how to give it', async () => {
    const bob = { tls: trusted(), sasl: password('bob', 'scram-sha-512') };
    expect(await firstFault(bob, secured.withPassword, 'alice-plain-in')).toMatch(
      /^the user "bob" may not use the topic alice-plain-in: kafka-acls\.sh --add --allow-principal User:bob --operation Read --operation Write --operation Describe --topic alice-plain-in$/,
    );
    await secured.allow('bob', 'bob');
    const made = bus(secured.withPassword, bob);
    const stop = new AbortController();
    const running = made.consume('bob', topicsOf('bob-in'), { handle: () => undefined }, stop.signal);
    expect(await until(() => faults[0], 'a fault')).toMatch(
      /the user "bob" may not use the consumer group ndt\.bob: kafka-acls\.sh .* --operation Read --group ndt\.bob$/,
    );
    stop.abort();
    await running;
  });

  it('an inventory that may not be written is named and put aside, and the records go on', async () => {
    for (const prefix of ['TP_', 'ndt.notices', 'ndt-agent']) await secured.allow('bob', prefix);
    const bob = { tls: trusted(), sasl: password('bob', 'scram-sha-512') };
    const loaded = configWith(secured.withPassword, { timeout: 5, ...bob });
    const uplink = createKafkaUplink({ loaded, agentId: 'bob' });
    onTestFinished(() => uplink.close());
    const entry = (seq: number, topic: string) => ({ seq, topic, key: 'r1', headers: {}, body: '{}' });
    const send = (seqs: number[], topics: string[]) =>
      uplink.send(
        seqs.map((seq, i) => entry(seq, topics[i] ?? '')),
        new AbortController().signal,
      );
    const topics = ['TP_r1', 'ndt.inventory', 'TP_r1'];
    expect(await send([1, 2, 3], topics)).toEqual({
      acked: [1, 3],
      rejected: [{ seq: 2, reason: expect.stringMatching(/^the user "bob" may not use the topic ndt\.inventory: kafka-acls\.sh --add/) }],
    });
    // Known of, and still not to be written to.
    await bus(secured.internal, {}).append([record('ndt.inventory')]);
    await secured.allow('bob', 'ndt.inventory', 'DESCRIBE');
    expect(await send([4, 5, 6], topics)).toMatchObject({ acked: [4, 6], rejected: [{ seq: 5 }] });
    expect(await send([7], ['ndt.inventory'])).toMatchObject({ acked: [], rejected: [{ seq: 7 }] });
    await secured.allow('bob', 'ndt.inventory');
    expect(await send([8, 9], ['TP_r1', 'ndt.inventory'])).toEqual({ acked: [8, 9], rejected: [] });
  });

  it('reads a mended password file at the next attempt', async () => {
    const file = join(dir, 'password');
    writeFileSync(file, 'old\n');
    const made = bus(secured.withPassword, {
      tls: trusted(),
      sasl: { mechanism: 'scram-sha-512', username: 'alice', password_file: file },
    });
    const appended = made.append([record('alice-file')]);
    await until(() => faults.length > 0, 'a fault');
    writeFileSync(file, 'alice-secret\n');
    await appended;
  });

  it('says that the broker does not accept an expired certificate, and reads the renewed one at the next attempt', async () => {
    const [cert, key] = [join(dir, 'own.crt'), join(dir, 'own.key')];
    const put = (pair: { cert: string; key: string }) => {
      copyFileSync(pair.key, key);
      copyFileSync(pair.cert, cert);
    };
    put(secured.certificates.expiredClient('edge'));
    const made = bus(secured.withCertificate, { tls: { ...trusted(), cert_file: cert, key_file: key } });
    const appended = made.append([record('edge-renewed')]);
    expect(await until(() => faults[0], 'a fault')).toMatch(/does not accept the certificate in kafka\.tls\.cert_file/);
    put(secured.certificates.client('edge'));
    await appended;
  });
});
