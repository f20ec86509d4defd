import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { Aedes, type PublishPacket } from 'aedes';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { decodeBatch } from '../../common/batch.ts';
import { entries, entry, forever, openUplink, seqsOn, startRig } from '../../test/mqtt-rig.ts';
import { type Certificates, makeCertificates, type Pair } from '../../test/real/certificates.ts';
import { startProxy } from '../../test/real/proxy.ts';
import { tempDir } from '../../test/tempdir.ts';
import { until } from '../../test/until.ts';
import type { Entry, Uplink } from '../uplink.ts';

const matching = (pattern: RegExp) => expect.stringMatching(pattern) as string;

/** Listens on a free loopback port until the test ends. */
async function listening(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  });
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

/** A broker that notes what comes and acknowledges it when `acknowledge` says so. */
async function recorder(acknowledge: (packet: PublishPacket) => Promise<void> = async () => {}, tls?: TlsOptions) {
  const packets: PublishPacket[] = [];
  const aedes = await Aedes.createBroker({
    authorizePublish: (_client, packet, done) => {
      packets.push(packet);
      acknowledge(packet).then(
        () => done(),
        (error: Error) => done(error),
      );
    },
  });
  onTestFinished(() => aedes.close());
  const accept = (socket: Socket) => void aedes.handle(socket);
  const port = await listening(tls === undefined ? createServer(accept) : createTlsServer(tls, accept));
  return { port, packets, aedes };
}

const payloadOf = ({ payload }: PublishPacket) => (Buffer.isBuffer(payload) ? payload : Buffer.from(payload));
const linesOf = (packet: PublishPacket) => decodeBatch(payloadOf(packet), { maxBytes: 10_000_000, maxLines: 10_000 });
const seqsOf = (packet: PublishPacket) => linesOf(packet).map((line) => (line.ok ? Number(line.message.headers['ndt-seq']) : Number.NaN));

async function failure(uplink: Uplink, batch: Entry[] = entries('a1', 1, 1)) {
  const error: unknown = await uplink.send(batch, forever).then(
    () => expect.unreachable('it was sent'),
    (thrown: unknown) => thrown,
  );
  expect(error).toMatchObject({ name: 'UplinkError' });
  expect(uplink.connected).toBe(false);
  return error;
}

describe('what is sent', () => {
  it('goes to the agent’s topic with QoS 1, in packets below 256 KiB, in order', async () => {
    const { port, packets } = await recorder();
    const batch = entries('a1', 1, 2500).map((one) => ({ ...one, body: one.body.replace('"n"', `"pad":"${'x'.repeat(300)}","n"`) }));
    const uplink = openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${port}`, compression: 'none' });
    const { acked } = await uplink.send(batch, forever);
    expect(acked).toEqual(batch.map(({ seq }) => seq));
    expect(packets.flatMap(seqsOf)).toEqual(acked);
    expect(packets.every(({ topic, qos, retain }) => topic === 'ndt/1/a1/records' && qos === 1 && !retain)).toBe(true);
    const sizes = packets.map((packet) => payloadOf(packet).length);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(256 * 1024);
    expect(sizes.slice(0, -1).every((size) => size > 255 * 1024)).toBe(true);
  });

  it.each([
    ['gzip', [0x1f, 0x8b]],
    ['zstd', [0x28, 0xb5]],
    ['none', [0x7b, 0x22]],
  ])('is compressed with %s', async (compression, magic) => {
    const { port, packets } = await recorder();
    await openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${port}`, compression }).send(entries('a1', 1, 9), forever);
    expect(packets).toHaveLength(1);
    expect([...payloadOf(packets[0]!).subarray(0, 2)]).toEqual(magic);
    expect(packets.flatMap(seqsOf)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('has at most 8 packets unacknowledged', async () => {
    let open = 0;
    let most = 0;
    const { port, packets } = await recorder(async () => {
      open += 1;
      most = Math.max(most, open);
      // As long as there may be one more on its way.
      await until(() => open === 0 || packets.length >= 8, 'eight packets');
      await new Promise((resolve) => setTimeout(resolve, 20));
      open -= 1;
    });
    const batch = entries('a1', 1, 20).map((one) => ({ ...one, body: `{"pad":"${'x'.repeat(200_000)}"}` }));
    expect((await openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${port}` }).send(batch, forever)).acked).toHaveLength(20);
    expect(most).toBe(8);
  });

  it('uses one connection for many batches, and none for nothing', async () => {
    const { port, aedes } = await recorder();
    let clients = 0;
    aedes.on('client', () => {
      clients += 1;
    });
    const uplink = openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${port}` });
    expect(await uplink.send([], forever)).toEqual({ acked: [], rejected: [] });
    expect(clients).toBe(0);
    for (let seq = 1; seq <= 5; seq += 1) await uplink.send([entry('a1', seq)], forever);
    expect(clients).toBe(1);
  });

  it('is refused for good where the broker could never take it, and nothing else with it', async () => {
    const { port, packets } = await recorder();
    const noise = Array.from({ length: 700_000 }, (_, i) => String.fromCharCode(33 + ((i * 7919 + (i >> 3) * 104_729) % 90)))
      .join('')
      .replaceAll(/["\\]/g, '-');
    const huge = { ...entry('a1', 2), body: `{"pad":"${noise}"}` };
    const uplink = openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${port}`, compression: 'none' });
    expect((await uplink.send([entry('a1', 1), huge, entry('a1', 3)], forever)).acked).toEqual([1, 2, 3]);
    const bombs = { ...entry('a1', 5), body: `{"pad":"${'x'.repeat(40_000_000)}"}` };
    expect(await uplink.send([entry('a1', 4), bombs, entry('a1', 6)], forever)).toEqual({
      acked: [4, 6],
      rejected: [{ seq: 5, reason: 'too_large' }],
    });
    expect(packets.flatMap(seqsOf)).toEqual([1, 2, 3, 4, 6]);
  });

  it('is a bare record each with format plain; notices are nobody else’s business', async () => {
    const { port, packets } = await recorder();
    const notice = { seq: -1, topic: 'ndt.notices', key: 'a1', headers: {}, body: '{}' };
    const batch = [notice, ...entries('a1', 1, 100), ...entries('a1', 101, 110, 'r2')];
    const uplink = openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${port}`, format: 'plain' });
    const { acked } = await uplink.send(batch, forever);
    expect(acked.toSorted((a, b) => a - b)).toEqual([-1, ...Array.from({ length: 110 }, (_, i) => i + 1)]);
    expect(packets.map(({ topic, payload, qos }) => ({ topic, qos, body: payload.toString() }))).toEqual(
      batch.slice(1).map(({ key, body }) => ({ topic: `ndt/${key}/processed`, qos: 1, body })),
    );
  });

  it('says raw where raw records are shipped plainly, and what is an inventory', async () => {
    const { port, packets } = await recorder();
    const uplink = openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${port}`, format: 'plain' }, { ship: 'raw' });
    await uplink.send([entry('a1', 1), { ...entry('a1', 2), topic: 'ndt.inventory' }], forever);
    expect(packets.map(({ topic }) => topic)).toEqual(['ndt/r1/raw', 'ndt/r1/inventory']);
  });
});

describe('a connection that is lost', () => {
  it('while a batch is in flight: what was not acknowledged is not, and the next batch gets a new connection', async () => {
    const dir = tempDir();
    const gate = Promise.withResolvers<void>();
    let asked = 0;
    const rig = await startRig(dir, {}, (bus) => ({
      ingest: async (messages) => {
        asked += 1;
        if (asked === 1) await gate.promise;
        return await bus.ingest(messages);
      },
    }));
    const proxy = await startProxy(rig.port);
    onTestFinished(() => proxy.stop());
    const uplink = rig.uplink('a1', {}, proxy.port);
    const first = failure(uplink, entries('a1', 1, 3));
    await until(() => asked === 1, 'the batch to arrive');
    proxy.cutAll();
    expect(await first).toMatchObject({ reason: 'closed', message: matching(/closed the connection/) });
    gate.resolve();
    expect(await uplink.send(entries('a1', 1, 3), forever)).toEqual({ acked: [1, 2, 3], rejected: [] });
    expect(uplink.connected).toBe(true);
    expect(rig.metric('ndt_ingress_duplicates_total{via="broker"}')).toBe(3);
    expect(proxy.taken).toBe(2);
  });

  it('counts what was acknowledged before, and brings the rest onto the bus in order', async () => {
    let first = true;
    let failing = true;
    const rig = await startRig(tempDir(), {}, (bus) => ({
      ingest: async (messages) => {
        const written = await bus.ingest(messages.filter(() => first || !failing));
        if (!first && failing) {
          failing = false;
          // The acknowledgement of the first is on its way.
          await until(() => rig.metric('ndt_ingress_records_total{via="broker"}') === 1, 'the first packet');
          throw new Error('disk full');
        }
        first = false;
        return written;
      },
    }));
    const uplink = rig.uplink('a1');
    const batch = entries('a1', 1, 4).map((one) => ({ ...one, body: `{"pad":"${'x'.repeat(200_000)}"}` }));
    const { acked } = await uplink.send(batch, forever);
    expect(acked).toEqual([1]);
    expect(uplink.connected).toBe(false);
    expect(await uplink.send(batch.slice(1), forever)).toEqual({ acked: [2, 3, 4], rejected: [] });
    expect(seqsOn(rig.bus, 'TP_r1')).toEqual([1, 2, 3, 4]);
  });

  it('in silence: found out after the time-out, then tried in smaller pieces until they come through', async () => {
    const { port, packets } = await recorder();
    const proxy = await startProxy(port);
    onTestFinished(() => proxy.stop());
    const uplink = openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${proxy.port}`, timeout: 0.5 });
    const batch = entries('a1', 1, 1000);
    await uplink.send(batch, forever);
    expect(packets).toHaveLength(1);
    proxy.pause();
    expect(await failure(uplink, batch)).toMatchObject({
      reason: 'timeout',
      message: matching(/did not acknowledge within 0.5 s \(mqtt.timeout\)/),
    });
    proxy.resume();
    packets.length = 0;
    expect((await uplink.send(batch, forever)).acked).toHaveLength(1000);
    expect(packets.length).toBeGreaterThanOrEqual(3);
    await uplink.send(batch, forever);
    packets.length = 0;
    await uplink.send(batch, forever);
    expect(packets).toHaveLength(1);
  });

  it('while nothing is sent is only noticed, and no unhandled error', async () => {
    const rig = await startRig(tempDir());
    const proxy = await startProxy(rig.port);
    onTestFinished(() => proxy.stop());
    const uplink = rig.uplink('a1', {}, proxy.port);
    await uplink.send([entry('a1', 1)], forever);
    proxy.cutAll();
    await until(() => !uplink.connected, 'the uplink to notice');
    expect(await uplink.send([entry('a1', 2)], forever)).toMatchObject({ acked: [2] });
  });
});

describe('stopping', () => {
  it('while connecting, while waiting for an acknowledgement, and before', async () => {
    const silent = await listening(createServer());
    const { port, packets } = await recorder(() => new Promise(() => {}));
    for (const to of [silent, port]) {
      const uplink = openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${to}`, timeout: 60 });
      const stop = new AbortController();
      const sending = uplink.send([entry('a1', 1)], stop.signal);
      if (to === port) await until(() => packets.length > 0, 'the packet to arrive');
      stop.abort();
      await expect(sending).rejects.toMatchObject({ name: 'UplinkError', reason: 'closed' });
      await expect(uplink.send([entry('a1', 1)], AbortSignal.abort())).rejects.toMatchObject({ reason: 'closed' });
    }
  });

  it('takes leave of the broker, and sends nothing afterwards', async () => {
    const { port, aedes } = await recorder();
    let leave: boolean | undefined;
    aedes.on('clientDisconnect', (client) => {
      leave = '_disconnected' in client && client._disconnected === true;
    });
    const uplink = openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${port}` });
    await uplink.send([entry('a1', 1)], forever);
    await uplink.close();
    expect(uplink.connected).toBe(false);
    await until(() => leave !== undefined, 'the broker to see it go');
    expect(leave).toBe(true);
    await expect(uplink.send([entry('a1', 2)], forever)).rejects.toMatchObject({ reason: 'closed' });
  });

  it('does not wait for a broker that does not answer', async () => {
    const uplink = openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${await listening(createServer())}`, timeout: 60 });
    const sending = uplink.send([entry('a1', 1)], forever);
    sending.catch(() => {});
    await uplink.close();
    await expect(sending).rejects.toMatchObject({ reason: 'closed' });
  });
});

describe('what is wrong is said, with what to do', () => {
  let dir: string;
  let certificates: Certificates;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'ndt-certificates-'));
    certificates = makeCertificates(dir);
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  const trusting = () => ({ tls: { ca_file: certificates.ca } });
  const secured = async (pair: Pair, more: TlsOptions = {}) =>
    (await recorder(undefined, { cert: readFileSync(pair.cert), key: readFileSync(pair.key), ...more })).port;

  it('nothing listens', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    for (const host of ['127.0.0.1', 'localhost']) {
      expect(await failure(openUplink(tempDir(), 'a1', { url: `mqtt://${host}:${port}` }))).toMatchObject({
        reason: 'unreachable',
        message: `nothing listens at mqtt://${host}:${port}: start the broker there (the aggregator has one), or set mqtt.url to where it is`,
      });
    }
  });

  it('the name has no address', async () => {
    expect(await failure(openUplink(tempDir(), 'a1', { url: 'mqtt://no-such-host.invalid' }))).toMatchObject({
      reason: 'unreachable',
      message: matching(/^the name no-such-host.invalid has no address here: check mqtt.url/),
    });
  });

  it.each(['mqtt://', 'mqtt://:1883'])('"%s" is no address', async (url) => {
    expect(await failure(openUplink(tempDir(), 'a1', { url }))).toMatchObject({
      message: `mqtt.url: "${url}" is no address: expected mqtt://HOST:PORT or mqtts://HOST:PORT`,
    });
  });

  it('a broker takes the connection and never answers', async () => {
    const port = await listening(createServer());
    expect(await failure(openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${port}`, timeout: 0.2 }))).toMatchObject({
      reason: 'timeout',
      message: matching(
        /takes the connection but does not answer within 0.2 s \(mqtt.timeout\): check that it is an MQTT broker, and one without TLS/,
      ),
    });
    expect(await failure(openUplink(tempDir(), 'a1', { url: `mqtts://127.0.0.1:${port}`, timeout: 0.2 }))).toMatchObject({
      reason: 'timeout',
      message: matching(/does not go into TLS within 0.2 s/),
    });
  });

  it('the other end closes at once, or talks something else', async () => {
    const closing = await listening(createServer((socket) => socket.end()));
    expect(await failure(openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${closing}` }))).toMatchObject({
      reason: 'refused',
      message: matching(/closed the connection before it answered: if it expects TLS, write mqtts:\/\/ in mqtt.url/),
    });
    for (const answer of ['HTTP/1.1 400 Bad Request\r\n\r\n', '\xff\xff\xff\xff\xff\xff']) {
      const port = await listening(createServer((socket) => void socket.end(Buffer.from(answer, 'latin1'))));
      await failure(openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${port}`, timeout: 1 }));
    }
  });

  it('TLS to a port without it, and the other way round', async () => {
    const plain = (await recorder()).port;
    expect(await failure(openUplink(tempDir(), 'a1', { url: `mqtts://127.0.0.1:${plain}`, timeout: 1 }))).toMatchObject({
      message: matching(/its port may not speak TLS \(then write mqtt:/),
    });
    const chatty = await listening(createServer((socket) => void socket.write('220 welcome\r\n')));
    expect(await failure(openUplink(tempDir(), 'a1', { url: `mqtts://127.0.0.1:${chatty}` }))).toMatchObject({
      reason: 'certificate',
      message: matching(/does not speak TLS: write mqtt:\/\/ in mqtt.url/),
    });
    expect(await failure(openUplink(tempDir(), 'a1', { url: `mqtt://127.0.0.1:${await secured(certificates.server)}` }))).toMatchObject({
      reason: 'refused',
      message: matching(/if it expects TLS, write mqtts/),
    });
  });

  it('the broker’s authority is not known', async () => {
    const port = await secured(certificates.server);
    for (const tls of [{ ca_file: certificates.wrongCa }, {}]) {
      expect(await failure(openUplink(tempDir(), 'a1', { url: `mqtts://127.0.0.1:${port}`, tls }))).toMatchObject({
        reason: 'certificate',
        message: matching(/is not signed by an authority that is trusted here \(\w+\): set mqtt.tls.ca_file to the authority’s PEM file/),
      });
    }
  });

  it('the broker’s certificate has expired', async () => {
    expect(
      await failure(openUplink(tempDir(), 'a1', { url: `mqtts://localhost:${await secured(certificates.expiredServer)}`, ...trusting() })),
    ).toMatchObject({
      reason: 'certificate',
      message: matching(/has expired: renew it there, and check this machine’s clock \(\d{4}-/),
    });
  });

  it('the broker’s certificate is for another name, unless that is the one expected', async () => {
    const url = `mqtts://127.0.0.1:${await secured(certificates.otherServer)}`;
    expect(await failure(openUplink(tempDir(), 'a1', { url, ...trusting() }))).toMatchObject({
      reason: 'certificate',
      message: matching(/is for another name: put a name that it holds into mqtt.url or mqtt.tls.server_name/),
    });
    const named = { tls: { ...trusting().tls, server_name: 'elsewhere.example' } };
    expect(await openUplink(tempDir(), 'a1', { url, ...named }).send([entry('a1', 1)], forever)).toMatchObject({ acked: [1] });
  });

  it.each(['localhost', '127.0.0.1'])('nothing, where the certificate is for %s', async (host) => {
    const port = await secured(certificates.server);
    // A section `tls` is enough; the address need not say mqtts.
    expect(
      await openUplink(tempDir(), 'a1', { url: `mqtt://${host}:${port}`, ...trusting() }).send([entry('a1', 1)], forever),
    ).toMatchObject({ acked: [1] });
  });

  it('the files are not there, or not what they should be', async () => {
    const url = `mqtts://localhost:${await secured(certificates.server)}`;
    const of = async (tls: object) => failure(openUplink(tempDir(), 'a1', { url, tls }));
    expect(await of({ ca_file: 'no.crt' })).toMatchObject({
      reason: 'certificate',
      message: matching(/^mqtt.tls.ca_file: cannot read .*no.crt \(ENOENT\)/),
    });
    expect(await of({ ca_file: certificates.server.key })).toMatchObject({
      message: matching(/^mqtt.tls.ca_file: .* holds no certificate/),
    });
    expect(await of({ cert_file: certificates.server.cert })).toMatchObject({
      message: 'mqtt.tls.cert_file stands alone: set mqtt.tls.key_file beside it',
    });
    const missing = openUplink(tempDir(), 'a1', { url, ...trusting(), password_file: 'no-secret' });
    expect(await failure(missing)).toMatchObject({ reason: 'credentials', message: matching(/^mqtt.password_file: cannot read/) });
  });
});

it('loads mqtt.js only when it connects', () => {
  const script = `
    await import(${JSON.stringify(new URL('./mqtt.ts', import.meta.url).href)});
    const { createRequire } = await import('node:module');
    console.log(Object.keys(createRequire(import.meta.url).cache).filter((file) => file.includes('/mqtt/')).length);`;
  expect(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }).trim()).toBe('0');
});
