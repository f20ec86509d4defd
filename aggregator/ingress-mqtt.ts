/**
 * The embedded broker: MQTT 3.1.1 for agents only. They publish their batches to their own topic; nobody subscribes to anything.
 *
 * aedes acknowledges a publish when `authorizePublish` calls back, and stores nothing durably itself, so this is where the batch goes onto
 * the bus: the PUBACK leaves only when the batch is durable. An error given to that callback ends the connection, and the agent sends
 * again; that is right for a bus that cannot write, and for whoever breaks the rules, but not for bad data, which becomes dead letters.
 */
import type { EventEmitter } from 'node:events';
import { type Server, Socket } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import { Aedes, type AedesOptions, type Client } from 'aedes';
import { batchTopic } from '../common/batch.ts';
import type { Loaded } from '../common/config.ts';
import { messageOf } from '../common/errors.ts';
import { listen, urlOf } from '../common/http.ts';
import { Fault } from '../common/logger.ts';
import { Complaints, type IngressOptions, ingressMetrics, type Lane, Receiver } from './ingress.ts';
import { Authenticator, type ReturnCode } from './mqtt-auth.ts';
import { ConnectionGuard, explainViolation, LOGIN_LIMITS } from './mqtt-guard.ts';
import { brokerPem, createListener } from './mqtt-listener.ts';

export interface Broker {
  /** Where agents connect to: `mqtt://127.0.0.1:1883`. */
  readonly url: string;
  /**
   * Goes over to new users, certificates and topics; whoever would no longer be let in is put out.
   * @throws NdtError CONFIG, the old settings staying in force
   */
  reload(loaded: Loaded): void;
  /** Ends it; what is on its way to the bus is acknowledged first. */
  close(): Promise<void>;
}

/** Connections in all, and those among them that have not logged in. */
const MAX_CONNECTIONS = 10_000;
const MAX_STRANGERS = 1000;
const TAKEN_OVER_MS = 60_000;

/** @throws NdtError CONFIG or CANNOT_CREATE saying what is wrong with users, certificates or the port */
export async function startIngress(options: IngressOptions): Promise<Broker> {
  const { host, port } = options.loaded.config.aggregator.mqtt;
  const broker = new EmbeddedBroker(options);
  const server = await broker.open();
  try {
    await listen(server, { host, port }, 'aggregator.mqtt');
  } catch (error) {
    await broker.close();
    throw error;
  }
  server.on('error', (error) => options.log.error(`ingress: ${messageOf(error)}`));
  return broker;
}

interface Session {
  client: Client;
  from: string;
  proof: string;
  /** On the monotonic clock [ms]. */
  since: number;
}

class EmbeddedBroker implements Broker {
  private readonly options: IngressOptions;
  private readonly receiver: Receiver;
  private readonly counted;
  private readonly complaints: Complaints;
  private readonly fault: Fault;
  private readonly guards = new WeakMap<object, ConnectionGuard>();
  /** What is wrong with a CONNECT, found before the client is asked who it is. */
  private readonly objections = new WeakMap<Client, string>();
  private readonly lanes = new WeakMap<Client, Lane>();
  private readonly sessions = new Map<string, Session>();
  private readonly sockets = new Set<Socket>();
  private readonly secure: boolean;
  private authenticator: Authenticator;
  private server: Server | undefined;
  private aedes: Aedes | undefined;
  private strangers = 0;
  private closing = false;

  constructor(options: IngressOptions) {
    this.options = options;
    this.receiver = new Receiver(options, 'broker');
    this.counted = ingressMetrics(options.metrics);
    this.complaints = new Complaints(options.log);
    this.fault = new Fault(options.log, 'ingress');
    this.authenticator = new Authenticator(options.loaded);
    this.secure = options.loaded.config.aggregator.mqtt.tls !== undefined;
  }

  get url(): string {
    return this.server === undefined ? '' : urlOf(this.server, this.secure ? 'mqtts' : 'mqtt');
  }

  async open(): Promise<Server> {
    const { loaded, log } = this.options;
    const server = createListener(loaded, (socket) => this.accept(socket));
    server.maxConnections = MAX_CONNECTIONS;
    server.on('connection', (socket: Socket) => {
      this.sockets.add(socket);
      socket.once('close', () => this.sockets.delete(socket));
    });
    server.on('drop', () => this.refuse('too_many', 'all', `there are ${MAX_CONNECTIONS} connections already`));
    server.on('tlsClientError', (error: Error, socket: Socket) => {
      if (!this.closing)
        this.refuse('tls', addressOf(socket), `no TLS connection with ${addressOf(socket)} comes about (${messageOf(error)})`);
    });
    this.aedes = await Aedes.createBroker(this.rules());
    const events: EventEmitter = this.aedes;
    events.on('error', (error: unknown) => log.error(`ingress: ${messageOf(error)}`));
    this.server = server;
    return server;
  }

  reload(loaded: Loaded): void {
    const authenticator = new Authenticator(loaded);
    const pem = brokerPem(loaded);
    this.receiver.configure(loaded);
    this.authenticator = authenticator;
    if (this.server instanceof TlsServer) this.server.setSecureContext(pem);
    for (const { client, proof } of [...this.sessions.values()]) {
      if (authenticator.holds(client.id, proof)) continue;
      this.refuse('no_longer', client.id, `agent "${client.id}" is put out: the new configuration would not let it in`);
      client.close();
    }
  }

  async close(): Promise<void> {
    this.closing = true;
    const { server, aedes } = this;
    const closed = new Promise<void>((resolve) => {
      if (server?.listening === true) server.close(() => resolve());
      else resolve();
    });
    await this.receiver.idle();
    // The acknowledgements of what has just become durable go out before the connections end.
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise<void>((resolve) => (aedes === undefined ? resolve() : aedes.close(() => resolve())));
    for (const socket of this.sockets) socket.destroy();
    await closed;
    this.counted.connections.set(0);
  }

  private accept(socket: Socket): void {
    const from = addressOf(socket);
    if (this.closing || this.aedes === undefined) {
      socket.destroy();
      return;
    }
    if (this.strangers >= MAX_STRANGERS) {
      socket.destroy();
      this.refuse('too_many', 'strangers', `there are ${MAX_STRANGERS} connections that have not logged in`);
      return;
    }
    this.strangers += 1;
    const client = this.aedes.handle(socket);
    const limits = { maxPacketBytes: this.options.loaded.config.aggregator.mqtt.max_packet_bytes, ...LOGIN_LIMITS };
    const guard = new ConnectionGuard(socket, limits, (violation) =>
      this.refuse(violation, client.id ?? from, explainViolation(violation, client.id, from, limits.maxPacketBytes)),
    );
    this.guards.set(socket, guard);
    socket.once('close', () => this.forget(socket));
  }

  /** The connection is no stranger’s any more: it is an agent’s, or gone. */
  private forget(socket: object): void {
    if (this.guards.delete(socket)) this.strangers -= 1;
  }

  private rules(): AedesOptions {
    return {
      maxClientsIdLength: 128,
      preConnect: (client, packet, done) => {
        const { will, clientId } = packet;
        if (clientId === '') this.objections.set(client, 'it gives no client id');
        else if (will !== undefined && (will.retain === true || will.topic !== batchTopic(clientId))) {
          this.objections.set(client, `its will is not for ${batchTopic(clientId)}, or is to be retained`);
        }
        done(null, true);
      },
      authenticate: (client, username, password, done) => {
        const socket = client.conn;
        const from = addressOf(socket);
        const objection = this.objections.get(client);
        const verdict =
          objection !== undefined || !(socket instanceof Socket)
            ? { ok: false as const, returnCode: 2 as const, kind: 'connect', why: objection ?? 'it is no socket' }
            : this.authenticator.check(client.id, username, password, socket);
        if (!verdict.ok) {
          this.refuse(
            verdict.kind,
            `${client.id} ${from}`,
            `client ${JSON.stringify(client.id.slice(0, 80))} from ${from} is refused: ${verdict.why}`,
          );
          return done(refusal(verdict.returnCode, verdict.why), false);
        }
        this.guards.get(socket)?.authenticated();
        this.forget(socket);
        this.admit({ client, from, proof: verdict.proof, since: performance.now() });
        done(null, true);
      },
      authorizePublish: (client, packet, done) => {
        if (client === null || this.closing) return done(new Error('nothing is taken in now'));
        const own = batchTopic(client.id);
        const wrong = packet.retain ? 'retain' : packet.qos > 1 ? 'qos' : packet.topic === own ? undefined : 'topic';
        if (wrong !== undefined) {
          const what = {
            retain: 'a retained message',
            qos: 'a message with QoS 2',
            topic: `a message to ${JSON.stringify(packet.topic.slice(0, 80))}`,
          }[wrong];
          this.refuse(
            wrong,
            client.id,
            `agent "${client.id}" published ${what}; agents publish with QoS 1 to ${own}, unretained. The connection is ended`,
          );
          return done(new Error(wrong));
        }
        this.take(client, packet.payload)
          .then(done)
          .catch((error: unknown) => this.options.log.error(`ingress: ${messageOf(error)}`));
      },
      authorizeSubscribe: (client, { topic }, done) => {
        this.refuse(
          'subscribe',
          client.id,
          `agent "${client.id}" asked for ${JSON.stringify(topic.slice(0, 80))}: nobody subscribes here, the API has the data`,
        );
        done(null, null);
      },
      authorizeForward: () => null,
    };
  }

  /** @returns why it has to be sent again, or undefined when it is durable */
  private async take(client: Client, payload: Buffer | string): Promise<Error | undefined> {
    try {
      let lane = this.lanes.get(client);
      if (lane === undefined) {
        lane = this.receiver.lane();
        this.lanes.set(client, lane);
      }
      await this.receiver.receive(lane, client.id, Buffer.isBuffer(payload) ? payload : Buffer.from(payload));
      this.fault.clear();
      return undefined;
    } catch (error) {
      this.fault.raise(`a batch could not be written and the agent has to send it again: ${messageOf(error)}`);
      return error instanceof Error ? error : new Error(String(error));
    }
  }

  private admit(session: Session): void {
    const { id } = session.client;
    const before = this.sessions.get(id);
    // An agent whose link broke comes again; two that take turns do so all the time.
    if (before !== undefined && !before.client.closed && performance.now() - before.since < TAKEN_OVER_MS) {
      const message = `agent "${id}" connected from ${session.from} while it was connected from ${before.from}; that connection is ended. If this goes on, two agents have the same id: give each its own agent.id`;
      this.complaints.raise('taken_over', id, message);
    }
    this.sessions.set(id, session);
    this.counted.connections.set(this.sessions.size);
    session.client.conn.once('close', () => {
      if (this.sessions.get(id) === session) this.sessions.delete(id);
      this.counted.connections.set(this.sessions.size);
    });
    this.options.log.debug({ agent: id, from: session.from }, `agent "${id}" connected`);
  }

  private refuse(kind: string, whom: string, message: string): void {
    this.counted.refused.inc({ reason: kind });
    this.complaints.raise(kind, whom, message);
  }
}

function refusal(returnCode: ReturnCode, why: string): Error & { returnCode: ReturnCode } {
  return Object.assign(new Error(why), { returnCode });
}

function addressOf(socket: object): string {
  return socket instanceof Socket ? (socket.remoteAddress ?? 'unknown') : 'unknown';
}
