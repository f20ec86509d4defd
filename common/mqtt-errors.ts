/** Why a broker cannot be used, in words that say what to do. */
import { codeOf, messageOf } from './errors.ts';

export type MqttReason = 'unreachable' | 'refused' | 'credentials' | 'certificate' | 'timeout' | 'closed';

export class MqttError extends Error {
  readonly reason: MqttReason;
  constructor(reason: MqttReason, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'MqttError';
    this.reason = reason;
  }
}

/** What is known of a connection when it fails. */
export interface MqttAttempt {
  /** Where to, for messages: `mqtts://core:8883`. */
  url: string;
  host: string;
  /** The configuration's section: `mqtt`. */
  option: string;
  /** Who connects: `agent "r1"`. */
  who: string;
  clientId: string;
  encrypted: boolean;
  /** Whether we present a certificate. */
  certified: boolean;
  timeoutMs: number;
  /** How far it has come. */
  stage: 'network' | 'handshake' | 'connack' | 'open';
}

/** Makes anything that a socket, TLS or mqtt.js reports into an MqttError. */
export function explain(error: unknown, attempt: MqttAttempt): MqttError {
  if (error instanceof MqttError) return error;
  const refusal = error instanceof Error && 'code' in error && typeof error.code === 'number' ? error.code : undefined;
  if (refusal !== undefined && attempt.stage === 'connack') return explainRefusal(refusal, attempt, error);
  const code = codeOf(error) ?? '';
  const { url, host, option, stage } = attempt;
  if (UNTRUSTED.has(code)) {
    const message = `the certificate of ${url} is not signed by an authority that is trusted here (${code}): set ${option}.tls.ca_file to the authority’s PEM file`;
    return new MqttError('certificate', message, { cause: error });
  }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    const when = code === 'CERT_HAS_EXPIRED' ? 'has expired' : 'is not valid yet';
    const message = `the certificate of ${url}, or of its authority, ${when}: renew it there, and check this machine’s clock (${new Date().toISOString()})`;
    return new MqttError('certificate', message, { cause: error });
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const message = `the certificate of ${url} is for another name: put a name that it holds into ${option}.url or ${option}.tls.server_name`;
    return new MqttError('certificate', message, { cause: error });
  }
  if (code.startsWith('ERR_SSL_') || code === 'EPROTO') return explainTls(code, attempt, error);
  if (code === 'ECONNREFUSED') {
    return new MqttError(
      'unreachable',
      `nothing listens at ${url}: start the broker there (the aggregator has one), or set ${option}.url to where it is`,
      {
        cause: error,
      },
    );
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return new MqttError('unreachable', `the name ${host} has no address here: check ${option}.url and this machine’s name service`, {
      cause: error,
    });
  }
  if (error instanceof Error && error.message === 'Keepalive timeout') {
    return new MqttError('timeout', `${url} has stopped answering`, { cause: error });
  }
  if (stage !== 'network' && CLOSED.has(code)) return explainClose(attempt, error);
  return new MqttError(stage === 'network' ? 'unreachable' : 'closed', `the connection to ${url} failed`, { cause: error });
}

const UNTRUSTED = new Set([
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'INVALID_CA',
]);
const CLOSED = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED', 'ERR_STREAM_PREMATURE_CLOSE']);

/** The other side hung up. */
export function explainClose({ url, option, stage, encrypted, certified }: MqttAttempt, cause?: unknown): MqttError {
  const options = cause === undefined ? {} : { cause };
  if (stage === 'open') {
    return new MqttError(
      'closed',
      `${url} closed the connection; what it has not acknowledged is sent again (its log says why, if it meant to)`,
      options,
    );
  }
  const certificate = certified
    ? `it may not accept the certificate in ${option}.tls.cert_file, its log says why`
    : `if it asks for a client certificate, set ${option}.tls.cert_file and ${option}.tls.key_file`;
  const hint =
    stage === 'handshake'
      ? `its port may not speak TLS (then write mqtt:// in ${option}.url and leave out ${option}.tls); otherwise ${certificate}`
      : encrypted
        ? certificate
        : `if it expects TLS, write mqtts:// in ${option}.url`;
  return new MqttError('refused', `${url} closed the connection before it answered: ${hint}`, options);
}

/** The other side did not answer in time. */
export function explainTimeout({ url, option, stage, encrypted, timeoutMs }: MqttAttempt): MqttError {
  const within = `within ${timeoutMs / 1000} s (${option}.timeout)`;
  const what = {
    network: `${url} does not take the connection ${within}: check that the host is up and that no firewall is in between`,
    handshake: `${url} takes the connection but does not go into TLS ${within}: check that its port speaks TLS`,
    connack: `${url} takes the connection but does not answer ${within}: check that it is an MQTT broker${encrypted ? '' : `, and one without TLS (otherwise write mqtts:// in ${option}.url)`}`,
    open: `${url} did not acknowledge ${within}: the link or the receiving side is too slow, or dead; it is sent again, in smaller pieces`,
  };
  return new MqttError('timeout', what[stage]);
}

/** Return codes of CONNACK, MQTT 3.1.1 section 3.2.2.3. */
function explainRefusal(returnCode: number, { url, option, who, clientId, certified }: MqttAttempt, cause: unknown): MqttError {
  const refused = `the broker at ${url} refused ${who}`;
  if (returnCode === 1) return new MqttError('refused', `${refused}: it does not speak MQTT 3.1.1`, { cause });
  if (returnCode === 2) return new MqttError('refused', `${refused}: it does not accept the client id "${clientId}"`, { cause });
  if (returnCode === 3) return new MqttError('refused', `${refused}: it is not available at the moment`, { cause });
  const certificate = certified ? `, or its certificate is for another name than "${clientId}"` : '';
  const message = `${refused}: user name or password is wrong${certificate}: set ${option}.password_file (and ${option}.username, where it is not "${clientId}") to what the broker knows`;
  return new MqttError('credentials', message, { cause });
}

function explainTls(code: string, { url, option, certified }: MqttAttempt, cause: unknown): MqttError {
  if (/ALERT/.test(code) && /CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|ACCESS_DENIED/.test(code)) {
    const message = certified
      ? `the broker at ${url} does not accept the certificate in ${option}.tls.cert_file: have it signed by an authority that the broker trusts, and check that it has not expired`
      : `the broker at ${url} asks for a client certificate: set ${option}.tls.cert_file and ${option}.tls.key_file`;
    return new MqttError('certificate', message, { cause });
  }
  if (/WRONG_VERSION_NUMBER|PACKET_LENGTH|BAD_RECORD_TYPE|HTTP_REQUEST|UNKNOWN_PROTOCOL/.test(code)) {
    return new MqttError(
      'certificate',
      `${url} does not speak TLS: write mqtt:// in ${option}.url and leave out ${option}.tls, or give the port that does`,
      { cause },
    );
  }
  return new MqttError('certificate', `no TLS connection with ${url} comes about (${messageOf(cause)})`);
}
