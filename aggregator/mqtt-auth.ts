/** Who may connect to the embedded broker, and as whom: the client id is the agent's identity, so it must be proven. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { type Loaded, secretOf } from '../common/config.ts';
import { messageOf, NdtError } from '../common/errors.ts';
import { isAgentId } from './ingress.ts';

/** Return codes of CONNACK, MQTT 3.1.1 section 3.2.2.3. */
export type ReturnCode = 2 | 3 | 4 | 5;

/** `proof` stands for the password that was right, so that a later change of it can be seen; empty where none was asked for. */
export type Verdict = { ok: true; proof: string } | { ok: false; returnCode: ReturnCode; kind: string; why: string };

/** The proof of whoever came with a certificate instead of a password. */
const CERTIFICATE = 'certificate';

export class Authenticator {
  private readonly loaded: Loaded;

  /** @throws NdtError CONFIG where a user has no password, or its file cannot be read */
  constructor(loaded: Loaded) {
    this.loaded = loaded;
    const { users = {} } = loaded.config.aggregator.mqtt;
    for (const [id, { password, password_file }] of Object.entries(users)) {
      const at = `aggregator.mqtt.users.${id}`;
      if (!isAgentId(id))
        throw new NdtError('CONFIG', `${at}: expected an agent’s id (letters, digits, dot, dash, underscore), got ${JSON.stringify(id)}`);
      if (password === undefined && password_file === undefined) throw new NdtError('CONFIG', `${at}: expected password or password_file`);
      if (this.passwordOf(id) === '') throw new NdtError('CONFIG', `${at}: the password is empty`);
    }
  }

  /**
   * What is asked for: with `users` the password, with `require_client_certificate` the certificate, with both, both. A certificate that
   * is not required, but there and good, stands for the password. With neither (on loopback, or insecure) any agent id will do.
   */
  check(clientId: string, username: string | undefined, password: Buffer | undefined, socket: Socket): Verdict {
    const no = (returnCode: ReturnCode, kind: string, why: string): Verdict => ({ ok: false, returnCode, kind, why });
    if (!isAgentId(clientId)) return no(2, 'client_id', 'its client id is no agent’s id');
    const { users, tls } = this.loaded.config.aggregator.mqtt;
    const name = commonName(socket);
    if (tls?.require_client_certificate === true) {
      if (name !== clientId)
        return no(5, 'certificate', `its certificate is for ${JSON.stringify(name ?? 'nobody')}, and must be for its client id`);
    } else if (users !== undefined && name === clientId) return { ok: true, proof: CERTIFICATE };
    if (users === undefined) return { ok: true, proof: '' };
    if (username !== clientId)
      return no(4, 'username', `its user name is ${JSON.stringify(username ?? 'none')}, and must be its client id`);
    let expected: string | undefined;
    try {
      expected = this.passwordOf(clientId);
    } catch (error) {
      return no(3, 'password_file', messageOf(error));
    }
    // Unknown users take as long as known ones.
    const proof = digest(expected ?? '');
    const right = timingSafeEqual(digest(password ?? ''), proof);
    if (expected === undefined) return no(4, 'unknown', 'aggregator.mqtt.users does not have it');
    return right ? { ok: true, proof: proof.toString('hex') } : no(4, 'password', 'its password is wrong');
  }

  /** Whether someone who connected with this proof would still be let in. */
  holds(clientId: string, proof: string): boolean {
    const { users, tls } = this.loaded.config.aggregator.mqtt;
    if (users === undefined || (proof === CERTIFICATE && tls?.ca_file !== undefined && !tls.require_client_certificate)) return true;
    try {
      const expected = this.passwordOf(clientId);
      return expected !== undefined && digest(expected).toString('hex') === proof;
    } catch {
      return false;
    }
  }

  /** Files are read each time, so that a renewed password counts at once. */
  private passwordOf(id: string): string | undefined {
    const { users = {} } = this.loaded.config.aggregator.mqtt;
    const user = Object.hasOwn(users, id) ? users[id] : undefined;
    return user === undefined
      ? undefined
      : secretOf(this.loaded, user.password, user.password_file, `aggregator.mqtt.users.${id}.password_file`);
  }
}

function digest(text: string | Buffer): Buffer {
  return createHash('sha256').update(text).digest();
}

/** The common name of a client certificate that a trusted authority has signed. */
function commonName(socket: Socket): string | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  const name: unknown = socket.getPeerCertificate().subject?.CN;
  return typeof name === 'string' ? name : undefined;
}
