import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../common/config.ts';
import { writeConfig } from '../../test/buffer.ts';
import { canStartKafka, NEEDS_OWN_KAFKA } from '../../test/real/kafka.ts';
import { type SecuredKafka, startSecuredKafka } from '../../test/real/kafka-secured.ts';
import { tempDir } from '../../test/tempdir.ts';
import { until } from '../../test/until.ts';
import { checkKafka } from './kafka.ts';

describe.skipIf(!canStartKafka)(`Kafka${NEEDS_OWN_KAFKA}`, () => {
  const dir = mkdtempSync(join(tmpdir(), 'ndt-doctor-'));
  let secured: SecuredKafka;
  const check = (kafka: object) => {
    const config = writeConfig(tempDir(), {
      kafka: { timeout: 5, ...kafka },
      agent: { uplink: 'kafka' },
      routers: [{ r1: {} }, { r2: {} }],
    });
    return checkKafka(loadConfig(config, {}));
  };
  const as = (user: string, password = `${user}-secret`) => ({
    brokers: [secured.withPassword],
    tls: { ca_file: secured.certificates.ca },
    sasl: { username: user, password },
  });

  beforeAll(async () => {
    secured = await startSecuredKafka(dir);
  }, 60_000);
  afterAll(async () => {
    await secured.kafka.stop();
    rmSync(dir, { recursive: true });
  });

  it('nothing there, a wrong password, and an authority that is not trusted', async () => {
    expect(await check({ brokers: ['127.0.0.1:9'] })).toEqual([
      { check: 'uplink', health: 'fail', text: expect.stringContaining('nothing listens at 127.0.0.1:9') },
    ]);
    expect(await check(as('alice', 'wrong'))).toEqual([
      { check: 'uplink', health: 'fail', text: expect.stringContaining('refused user name or password of the user "alice"') },
    ]);
    expect(await check({ ...as('alice'), tls: {} })).toEqual([
      { check: 'uplink', health: 'fail', text: expect.stringContaining('set kafka.tls.ca_file') },
    ]);
  });

  it('topics that will be made, and topics that nobody makes; it makes none itself', async () => {
    const open = { brokers: [secured.internal] };
    for (let round = 0; round < 2; round += 1) {
      expect(await check(open)).toEqual([
        { check: 'uplink', health: 'ok', text: expect.stringContaining('4 topics will be made: TP_r1, TP_r2, ndt.inventory, ndt.notices') },
      ]);
    }
    expect(await check({ ...open, topics: { create: false } })).toEqual([
      {
        check: 'uplink',
        health: 'fail',
        text: expect.stringContaining('missing: TP_r1, TP_r2, ndt.inventory, ndt.notices'),
        remedy: expect.stringContaining('kafka-topics.sh --create'),
      },
    ]);
  });

  it('rights, each by its name, as they are given one after the other', async () => {
    const texts = async () => (await check(as('alice'))).map(({ health, text }) => `${health}: ${text.split(':')[0]}`);
    const denied = ['TP_r1', 'TP_r2', 'ndt.inventory', 'ndt.notices'].map(
      (topic) => `fail: the user "alice" may not use the topic ${topic}`,
    );
    expect(await texts()).toEqual([...denied, 'fail: the user "alice" may not use the transactional id ndt-agent-edge']);
    await secured.allow('alice', 'TP_');
    await until(async () => (await texts()).length === 3, 'the right to be known');
    expect(await texts()).toEqual([...denied.slice(2), 'fail: the user "alice" may not use the transactional id ndt-agent-edge']);
    await secured.allow('alice', 'ndt');
    await until(async () => (await texts()).length === 1, 'the right to be known');
    expect((await check(as('alice')))[0]).toMatchObject({ health: 'ok', text: expect.stringContaining('"alice" may write to 4 topics') });
  });
});
