import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { entries, forever, loadSettings, seqsOn, startRig } from '../test/mqtt-rig.ts';
import { type Certificates, makeCertificates, type Pair } from '../test/real/certificates.ts';
import { tempDir } from '../test/tempdir.ts';
import { until } from '../test/until.ts';

let dir: string;
let certificates: Certificates;
let a1: Pair;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ndt-certificates-'));
  certificates = makeCertificates(dir);
  a1 = certificates.client('a1');
});
afterAll(() => rmSync(dir, { recursive: true }));

const pair = ({ cert, key }: Pair) => ({ cert_file: cert, key_file: key });
/** A regular expression by itself matches anything here. */
const matching = (pattern: RegExp) => expect.stringMatching(pattern) as string;
const batch = entries('a1', 1, 3);
const acked = { acked: [1, 2, 3], rejected: [] };

describe('passwords', () => {
  const users = { a1: { password: 'right' }, a2: { password: 'other' } };

  it('let an agent in, in place or from a file', async () => {
    const here = tempDir();
    writeFileSync(join(here, 'secret'), 'right\n');
    const rig = await startRig(here, { users: { a1: { password_file: 'secret' } } });
    expect(await rig.uplink('a1', { password: 'right' }).send(batch, forever)).toEqual(acked);
    expect(await rig.uplink('a1', { password_file: 'secret' }).send(batch, forever)).toEqual(acked);
  });

  it.each([
    ['wrong', 'a1', { password: 'wrong' }, 'its password is wrong'],
    ['missing', 'a1', {}, 'its password is wrong'],
    ['of an agent that is not known', 'a3', { password: 'right' }, 'aggregator.mqtt.users does not have it'],
    ['of an agent called like a part of every object', 'constructor', { password: 'right' }, 'aggregator.mqtt.users does not have it'],
    ['of another agent', 'a1', { username: 'a2', password: 'other' }, 'its user name is "a2", and must be its client id'],
  ])('do not where they are %s', async (_name, agent, mqtt, why) => {
    const rig = await startRig(tempDir(), { users });
    const uplink = rig.uplink(agent, mqtt);
    for (let i = 0; i < 2; i += 1) {
      await expect(uplink.send(entries(agent, 1, 1), forever)).rejects.toMatchObject({
        name: 'UplinkError',
        reason: 'credentials',
        message: `the broker at mqtt://127.0.0.1:${rig.port} refused agent "${agent}": user name or password is wrong: set mqtt.password_file (and mqtt.username, where it is not "${agent}") to what the broker knows`,
      });
    }
    expect(rig.lines.filter((line) => line.includes(`client "${agent}" from 127.0.0.1 is refused: ${why}`))).toHaveLength(1);
    expect(rig.bus.log.topics()).toEqual([]);
    expect(rig.metrics.print()).toMatch(/ndt_ingress_refused_total\{reason="\w+"\} 2\n/);
  });

  it('are read anew at every login, on both sides', async () => {
    const here = tempDir();
    writeFileSync(join(here, 'broker-secret'), 'one');
    writeFileSync(join(here, 'agent-secret'), 'two');
    const rig = await startRig(here, { users: { a1: { password_file: 'broker-secret' } } });
    const uplink = rig.uplink('a1', { password_file: 'agent-secret' });
    await expect(uplink.send(batch, forever)).rejects.toMatchObject({ reason: 'credentials' });
    writeFileSync(join(here, 'agent-secret'), 'one');
    expect(await uplink.send(batch, forever)).toEqual(acked);
    writeFileSync(join(here, 'broker-secret'), 'two');
    await expect(rig.uplink('a1', { password: 'one' }).send(batch, forever)).rejects.toMatchObject({ reason: 'credentials' });
    rmSync(join(here, 'broker-secret'));
    await expect(rig.uplink('a1', { password: 'two' }).send(batch, forever)).rejects.toMatchObject({
      reason: 'refused',
      message: matching(/not available/),
    });
    expect(rig.lines.join()).toMatch(/aggregator.mqtt.users.a1.password_file: cannot read/);
  });

  it.each([
    [{ a1: {} }, 'aggregator.mqtt.users.a1: expected password or password_file'],
    [{ a1: { password: '' } }, 'aggregator.mqtt.users.a1: the password is empty'],
    [{ 'a/1': { password: 'x' } }, 'aggregator.mqtt.users.a/1: expected an agent’s id (letters, digits, dot, dash, underscore), got "a/1"'],
    [{ a1: { password_file: 'missing' } }, 'aggregator.mqtt.users.a1.password_file: cannot read'],
  ])('that cannot be used stop the start: %j', async (broken, message) => {
    await expect(startRig(tempDir(), { users: broken })).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining(message) as string,
    });
  });

  it('that are changed put out who is connected with the old one, and nobody else', async () => {
    const here = tempDir();
    const rig = await startRig(here, { users });
    const [one, two] = [rig.uplink('a1', { password: 'right' }), rig.uplink('a2', { password: 'other' })];
    await one.send(batch, forever);
    await two.send(entries('a2', 1, 1), forever);
    const changed = (next: object) => loadSettings(here, { aggregator: { mqtt: { port: 0, users: next } } });
    expect(() => rig.broker.reload(changed({ a1: {} }))).toThrow('expected password or password_file');
    await one.send(entries('a1', 4, 4), forever);
    rig.broker.reload(changed({ ...users, a1: { password: 'new' } }));
    await until(() => !one.connected, 'the old connection to end');
    expect(two.connected).toBe(true);
    await expect(one.send(batch, forever)).rejects.toMatchObject({ reason: 'credentials' });
    rig.broker.reload(changed({ a1: { password: 'new' } }));
    await until(() => !two.connected, 'the agent that was taken out to be put out');
    expect(await rig.uplink('a1', { password: 'new' }).send(batch, forever)).toEqual(acked);
  });
});

describe('client certificates', () => {
  const tls = (more: object = {}) => ({
    tls: { ...pair(certificates.server), ca_file: certificates.ca, require_client_certificate: true, ...more },
  });
  const agentTls = (client: Pair | undefined) => ({ tls: { ca_file: certificates.ca, ...(client === undefined ? {} : pair(client)) } });

  it('let an agent in by their common name', async () => {
    const rig = await startRig(tempDir(), tls());
    expect(rig.broker.url).toBe(`mqtts://127.0.0.1:${rig.port}`);
    expect(await rig.uplink('a1', agentTls(a1)).send(batch, forever)).toEqual(acked);
    expect(seqsOn(rig.bus, 'TP_r1')).toEqual([1, 2, 3]);
  });

  it('of another agent do not', async () => {
    const rig = await startRig(tempDir(), tls());
    await expect(rig.uplink('a2', agentTls(a1)).send(entries('a2', 1, 1), forever)).rejects.toMatchObject({
      reason: 'credentials',
      message: matching(/refused agent "a2": user name or password is wrong, or its certificate is for another name than "a2"/),
    });
    expect(rig.lines.join()).toMatch(/client "a2" from 127.0.0.1 is refused: its certificate is for "a1", and must be for its client id/);
    expect(rig.bus.log.topics()).toEqual([]);
  });

  it('are asked for', async () => {
    const rig = await startRig(tempDir(), tls());
    // Whether the alert or the end of the connection is seen first is chance; both say what to do.
    const error = await rig
      .uplink('a1', agentTls(undefined))
      .send(batch, forever)
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      name: 'UplinkError',
      message: matching(/asks for a client certificate.*set mqtt.tls.cert_file and mqtt.tls.key_file/),
    });
    await until(() => rig.lines.some((line) => /no TLS connection with .* comes about/.test(line)), 'the broker to log it');
    expect(rig.bus.log.topics()).toEqual([]);
  });

  it('of an authority that is not trusted are refused', async () => {
    const rig = await startRig(tempDir(), tls());
    const error = await rig
      .uplink('a1', agentTls(certificates.foreignClient('a1')))
      .send(batch, forever)
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: 'UplinkError', message: matching(/accept the certificate in mqtt.tls.cert_file/) });
    expect(rig.bus.log.topics()).toEqual([]);
  });

  it('and passwords, where both are configured, are both asked for', async () => {
    const rig = await startRig(tempDir(), { ...tls(), users: { a1: { password: 'right' } } });
    await expect(rig.uplink('a1', { ...agentTls(a1), password: 'wrong' }).send(batch, forever)).rejects.toMatchObject({
      reason: 'credentials',
    });
    expect(await rig.uplink('a1', { ...agentTls(a1), password: 'right' }).send(batch, forever)).toEqual(acked);
  });

  it('that are not required stand for the password, if they are good', async () => {
    const rig = await startRig(tempDir(), { ...tls({ require_client_certificate: false }), users: { a1: { password: 'right' } } });
    expect(await rig.uplink('a1', agentTls(a1)).send(batch, forever)).toEqual(acked);
    expect(await rig.uplink('a1', { ...agentTls(undefined), password: 'right' }).send(batch, forever)).toEqual(acked);
    for (const client of [undefined, certificates.foreignClient('a1')]) {
      await expect(rig.uplink('a1', agentTls(client)).send(batch, forever)).rejects.toMatchObject({ reason: 'credentials' });
    }
  });
});

it('users that are added put out who came with neither password nor certificate', async () => {
  const here = tempDir();
  const mqtt = { tls: { ...pair(certificates.server), ca_file: certificates.ca } };
  const rig = await startRig(here, mqtt);
  const one = rig.uplink('a1', { tls: { ca_file: certificates.ca } });
  await one.send(batch, forever);
  const reload = (users: object) => rig.broker.reload(loadSettings(here, { aggregator: { mqtt: { port: 0, ...mqtt, users } } }));
  reload({ a2: { password: 'right' } });
  await until(() => !one.connected, 'the connection to end');
  await expect(one.send(batch, forever)).rejects.toMatchObject({ reason: 'credentials' });

  const two = rig.uplink('a1', { tls: { ca_file: certificates.ca, ...pair(a1) } });
  await two.send(batch, forever);
  const other = rig.uplink('a2', { tls: { ca_file: certificates.ca }, password: 'right' });
  await other.send(entries('a2', 1, 1), forever);
  reload({ a2: { password: 'new' } });
  await until(() => !other.connected, 'the old password to end');
  expect(two.connected).toBe(true);
});

describe('the broker’s own certificate', () => {
  it('encrypts; passwords then go over it', async () => {
    const rig = await startRig(tempDir(), { tls: pair(certificates.server), users: { a1: { password: 'right' } } });
    const tls = { ca_file: certificates.ca };
    expect(await rig.uplink('a1', { tls, password: 'right' }).send(batch, forever)).toEqual(acked);
    // The refusal arrives, though the connection ends right behind it.
    for (let i = 0; i < 10; i += 1)
      await expect(rig.uplink('a1', { tls, password: 'wrong' }).send(batch, forever)).rejects.toMatchObject({ reason: 'credentials' });
  });

  it('is renewed by a reload', async () => {
    const here = tempDir();
    const files = { cert_file: join(here, 'server.crt'), key_file: join(here, 'server.key') };
    const use = ({ cert, key }: Pair) => {
      copyFileSync(cert, files.cert_file);
      copyFileSync(key, files.key_file);
    };
    use(certificates.otherServer);
    const rig = await startRig(here, { tls: files });
    const agent = { tls: { ca_file: certificates.ca } };
    await expect(rig.uplink('a1', agent).send(batch, forever)).rejects.toMatchObject({ reason: 'certificate' });
    const reload = () => rig.broker.reload(loadSettings(here, { aggregator: { mqtt: { port: 0, tls: files } } }));
    writeFileSync(files.key_file, readFileSync(certificates.server.key));
    expect(reload).toThrow(/is not the key of the certificate/);
    use(certificates.server);
    reload();
    expect(await rig.uplink('a1', agent).send(batch, forever)).toEqual(acked);
  });

  it.each([
    [
      'a file that is not there',
      () => ({ cert_file: 'no.crt', key_file: certificates.server.key }),
      /aggregator.mqtt.tls.cert_file: cannot read .*no.crt \(ENOENT\)/,
    ],
    [
      'a key in place of a certificate',
      () => ({ cert_file: certificates.server.key, key_file: certificates.server.key }),
      /tls.cert_file: .* holds no certificate/,
    ],
    [
      'a certificate in place of a key',
      () => ({ cert_file: certificates.server.cert, key_file: certificates.server.cert }),
      /tls.key_file: .* holds no usable private key/,
    ],
    [
      'a key of another certificate',
      () => ({ cert_file: certificates.server.cert, key_file: a1.key }),
      /tls.key_file: .* is not the key of the certificate in .*server.crt/,
    ],
    [
      'an authority that is none',
      () => ({ ...pair(certificates.server), ca_file: certificates.server.key }),
      /tls.ca_file: .* holds no certificate/,
    ],
  ])('cannot be %s', async (_name, tls, message) => {
    await expect(startRig(tempDir(), { tls: tls() })).rejects.toMatchObject({ code: 'CONFIG', message: matching(message) });
  });
});
