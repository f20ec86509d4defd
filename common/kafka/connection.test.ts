import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { configWith } from '../../test/kafka-bus.ts';
import { BrokerConnection } from './connection.ts';
import { HEARTBEAT } from './requests.ts';
import { kafkaOptions } from './settings.ts';
import { Writer } from './wire.ts';

const IN_GROUP = { group: 'g', generation: 1, memberId: 'm' };

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

function open(port: number): Promise<BrokerConnection> {
  const { client } = kafkaOptions(configWith(`127.0.0.1:${port}`, { timeout: 0.5 }), 'test');
  return BrokerConnection.open({ host: '127.0.0.1', port }, 'main', client, new AbortController().signal);
}

/** What a broker answers to ApiVersions that knows Heartbeat 3 and no more. */
const abilities = () =>
  new Writer().int16(0).uvarint(2).int16(HEARTBEAT.key).int16(0).int16(HEARTBEAT.version).tags().int32(0).tags().bytes;
/** A heartbeat's answer. */
const beat = (throttleMs = 0) => new Writer().int32(throttleMs).int16(0).bytes;

/** A broker that greets, and then does with each request what the test wants. */
async function broker(
  then: (socket: Socket, correlationId: number) => void,
  write = (socket: Socket, bytes: Buffer) => void socket.write(bytes),
) {
  const server = createServer((socket) => {
    onTestFinished(() => void socket.destroy());
    socket.on('error', () => {});
    let requests: Buffer = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      requests = Buffer.concat([requests, chunk]);
      while (requests.length >= 4 && requests.length >= 4 + requests.readInt32BE(0)) {
        const request = requests.subarray(0, 4 + requests.readInt32BE(0));
        requests = requests.subarray(request.length);
        const correlationId = request.readInt32BE(8);
        if (request.readInt16BE(4) === 18) write(socket, frame(correlationId, abilities()));
        else then(socket, correlationId);
      }
    });
  });
  return await listen(server);
}

function frame(correlationId: number, answer: Buffer): Buffer {
  return new Writer()
    .int32(answer.length + 4)
    .int32(correlationId)
    .raw(answer).bytes;
}

describe('what is said of', () => {
  it('a port that is no broker’s', async () => {
    const port = await listen(createHttpServer((_, response) => response.end()));
    await expect(open(port)).rejects.toMatchObject({
      reason: 'refused',
      message: `what answers at 127.0.0.1:${port} is no Kafka broker: set kafka.brokers to the host and port of one`,
    });
  });

  it('a port that wants TLS', async () => {
    const port = await listen(createServer((socket) => void socket.end(Buffer.from('15030300020228', 'hex'))));
    await expect(open(port)).rejects.toMatchObject({
      reason: 'refused',
      message: `the broker 127.0.0.1:${port} wants TLS on this port: set kafka.tls`,
    });
  });

  it('a broker that does not answer', async () => {
    const connection = await open(await broker(() => {}));
    await expect(connection.request(HEARTBEAT, IN_GROUP)).rejects.toMatchObject({
      reason: 'timeout',
      message: expect.stringMatching(/did not answer in time \(Heartbeat\); it is asked again$/),
    });
  });

  it('an answer to something else', async () => {
    const connection = await open(await broker((socket, id) => void socket.write(frame(id + 1, beat()))));
    await expect(connection.request(HEARTBEAT, IN_GROUP)).rejects.toMatchObject({ reason: 'closed' });
    expect(await connection.ended).toMatchObject({ reason: 'closed' });
  });

  it('an answer that is cut off, and the connection is used no more', async () => {
    const connection = await open(await broker((socket, id) => void socket.end(frame(id, beat()).subarray(0, 9))));
    const lost = {
      reason: 'closed',
      message: expect.stringMatching(/was lost \(Heartbeat: it was closed\); what it has not confirmed is sent/),
    };
    await expect(connection.request(HEARTBEAT, IN_GROUP)).rejects.toMatchObject(lost);
    await expect(connection.request(HEARTBEAT, IN_GROUP)).rejects.toMatchObject(lost);
  });
});

it('reads answers that come byte by byte, and several at once', async () => {
  const waiting: number[] = [];
  const bytewise = async (socket: Socket, bytes: Buffer) => {
    for (const byte of bytes) {
      socket.write(Buffer.from([byte]));
      await sleep(1);
    }
  };
  const port = await broker(
    (socket, id) => {
      waiting.push(id);
      if (waiting.length === 3) socket.write(Buffer.concat(waiting.map((each) => frame(each, beat()))));
    },
    (socket, bytes) => void bytewise(socket, bytes),
  );
  const connection = await open(port);
  const answers = [1, 2, 3].map(() => connection.request(HEARTBEAT, IN_GROUP));
  expect(await Promise.all(answers)).toEqual([{ errorCode: 0 }, { errorCode: 0 }, { errorCode: 0 }]);
});

it('is quiet for as long as the broker asks for', async () => {
  const connection = await open(await broker((socket, id) => void socket.write(frame(id, beat(300)))));
  await connection.request(HEARTBEAT, IN_GROUP);
  const began = performance.now();
  await connection.request(HEARTBEAT, IN_GROUP);
  expect(performance.now() - began).toBeGreaterThan(290);
});

it('ends when it is destroyed, however long the broker has asked it to be quiet', async () => {
  const connection = await open(await broker((socket, id) => void socket.write(frame(id, beat(60_000)))));
  await connection.request(HEARTBEAT, IN_GROUP);
  const waiting = connection.request(HEARTBEAT, IN_GROUP);
  connection.destroy(new Error('the bus is closed'));
  await expect(waiting).rejects.toThrow('the bus is closed');
}, 5000);
