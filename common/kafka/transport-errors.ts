/** Why a broker cannot be reached or used, in words that say what to do. */
import { codeOf, messageOf, NdtError } from '../errors.ts';
import { KafkaError, TransportError } from './errors.ts';
import type { ClientSettings } from './settings.ts';

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

const SIGN_IN = new Set(['UNSUPPORTED_SASL_MECHANISM', 'ILLEGAL_SASL_STATE', 'SASL_AUTHENTICATION_FAILED']);

/**
 * Makes anything that a socket, TLS, the signing in or a broken answer reports into a TransportError.
 * @param step `connect`, `greet`, `authenticate`, or the request that was under way
 */
export function transportErrorOf(
  error: unknown,
  address: string,
  step: string,
  settings: ClientSettings | undefined,
): TransportError | NdtError {
  if (error instanceof TransportError || error instanceof NdtError) return error;
  const name = error instanceof Error ? error.name : '';
  const code = codeOf(error) ?? '';
  const make = (reason: TransportError['reason'], message: string) => new TransportError(reason, address, message, error);
  const broker = `the broker ${address}`;
  if (name === 'KafkaJSSASLAuthenticationError' || (error instanceof KafkaError && SIGN_IN.has(error.type))) {
    if (error instanceof KafkaError && error.type === 'UNSUPPORTED_SASL_MECHANISM') {
      return make(
        'credentials',
        `${broker} does not offer the mechanism of kafka.sasl.mechanism: set it to one that it offers (${messageOf(error)})`,
      );
    }
    const who = settings?.user === undefined ? '' : ` of the user "${settings.user}"`;
    return make(
      'credentials',
      `${broker} refused user name or password${who}: set kafka.sasl.username and kafka.sasl.password_file to what it knows`,
    );
  }
  if (UNTRUSTED.has(code)) {
    return make(
      'certificate',
      `the certificate of ${broker} is not signed by an authority that is trusted here (${code}): set kafka.tls.ca_file to the authority’s PEM file`,
    );
  }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    const when = code === 'CERT_HAS_EXPIRED' ? 'has expired' : 'is not valid yet';
    return make(
      'certificate',
      `the certificate of ${broker}, or of its authority, ${when}: renew it there, and check this machine’s clock (${new Date().toISOString()})`,
    );
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return make(
      'certificate',
      `the certificate of ${broker} is for another name: put a name that it holds into kafka.brokers and the broker’s advertised.listeners, or into kafka.tls.server_name`,
    );
  }
  if (code.startsWith('ERR_SSL_') || code === 'EPROTO') return make('certificate', tlsMessage(code, broker, settings, error));
  if (code === 'ECONNREFUSED')
    return make('unreachable', `nothing listens at ${address}: start the broker there, or set kafka.brokers to where it is`);
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return make(
      'unreachable',
      `the name in ${address} has no address here: check kafka.brokers, the broker’s advertised.listeners and this machine’s name service`,
    );
  }
  const timedOut = code === 'ETIMEDOUT' || /timed out/i.test(messageOf(error));
  if (step === 'connect') {
    if (timedOut)
      return make(
        'timeout',
        `${broker} does not take the connection in time (kafka.timeout): check that the host is up and that no firewall is in between`,
      );
    if (code === 'ECONNRESET' || code === 'EPIPE')
      return make('refused', `${broker} closed the connection before it was made: ${tlsHint(settings)}`);
    return make('unreachable', `${broker} cannot be reached (${messageOf(error)})`);
  }
  if (timedOut) {
    const hint = step === 'greet' ? `: check that it is a Kafka broker, and ${tlsHint(settings)}` : '; it is asked again';
    return make('timeout', `${broker} did not answer in time${step === 'greet' ? '' : ` (${step})`}${hint}`);
  }
  if (step === 'greet' || step === 'authenticate') {
    const hint =
      settings?.user === undefined && step === 'greet'
        ? `${tlsHint(settings)}; if it wants a user name, set kafka.sasl`
        : tlsHint(settings);
    return make('refused', `${broker} closed the connection before it answered: ${hint}`);
  }
  return make('closed', `the connection to ${broker} was lost (${step}: ${messageOf(error)}); what it has not confirmed is sent again`);
}

/** First byte of a TLS alert (RFC 8446, 5.1): what a TLS server answers to anything that is not TLS. */
const TLS_ALERT = 0x15;

/** What was answered cannot be an answer of Kafka. */
export function notKafka(answer: Buffer, address: string, settings: ClientSettings): TransportError {
  const message =
    answer[0] === TLS_ALERT && !settings.encrypted
      ? `the broker ${address} wants TLS on this port: set kafka.tls`
      : `what answers at ${address} is no Kafka broker: set kafka.brokers to the host and port of one`;
  return new TransportError('refused', address, message);
}

function tlsHint(settings: ClientSettings | undefined): string {
  if (settings?.encrypted !== true) return 'if it expects TLS, set kafka.tls';
  if (settings.certified)
    return 'if its port does not speak TLS, leave out kafka.tls; it may not accept the certificate in kafka.tls.cert_file, its log says why';
  return 'if its port does not speak TLS, leave out kafka.tls; if it asks for a client certificate, set kafka.tls.cert_file and kafka.tls.key_file';
}

function tlsMessage(code: string, broker: string, settings: ClientSettings | undefined, cause: unknown): string {
  if (/ALERT/.test(code) && /CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|ACCESS_DENIED/.test(code)) {
    return settings?.certified === true
      ? `${broker} does not accept the certificate in kafka.tls.cert_file: have it signed by an authority that the broker trusts, and check that it has not expired`
      : `${broker} asks for a client certificate: set kafka.tls.cert_file and kafka.tls.key_file`;
  }
  if (/WRONG_VERSION_NUMBER|PACKET_LENGTH|BAD_RECORD_TYPE|HTTP_REQUEST|UNKNOWN_PROTOCOL/.test(code)) {
    return `${broker} does not speak TLS on this port: leave out kafka.tls, or put the port that does into kafka.brokers`;
  }
  return `no TLS connection with ${broker} comes about (${messageOf(cause)})`;
}
