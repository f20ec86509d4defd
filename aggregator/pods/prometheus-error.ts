/** What can go wrong between us and Prometheus: why, in a word for the counters, and in a sentence that says what to do. */
import { codeOf, messageOf } from '../../common/errors.ts';

export const FAILURE_REASONS = [
  'unreachable', // no connection, or it broke
  'timeout', // no complete answer in time
  'credentials', // ours cannot be read
  'refused', // 401, 403
  'busy', // 429, 5xx
  'query', // 400, 422: Prometheus does not take this query
  'too_large', // the answer, or what Prometheus would have to load for it
  'result_type', // not a matrix
  'not_prometheus', // another answer than an API's
] as const;

export type FailureReason = (typeof FAILURE_REASONS)[number];

/** Failures of one query alone: the next one may well be answered. */
const OF_THE_QUERY: ReadonlySet<FailureReason> = new Set(['query', 'too_large', 'result_type']);

export class PrometheusError extends Error {
  readonly reason: FailureReason;
  constructor(reason: FailureReason, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'PrometheusError';
    this.reason = reason;
  }
  /** Whether it is the query's fault rather than the server's. */
  get ofTheQuery(): boolean {
    return OF_THE_QUERY.has(this.reason);
  }
}

/** Text of the other side, fit for one line of a log. */
export function clean(text: string, max = 300): string {
  const line = text.replace(/[\s\p{C}]+/gu, ' ').trim();
  return line.length > max ? `${line.slice(0, max)}…` : line;
}

/** The error of an answer with another status than 200. */
export function whyStatus(base: string, status: number, location: string | undefined, body: string): PrometheusError {
  const said = saidIn(body);
  const answer = `${base} answers ${status}${said === undefined ? '' : ` ("${said}")`}`;
  if (status >= 300 && status < 400) {
    const to = location === undefined ? '' : ` and points to ${clean(location, 200)}`;
    return new PrometheusError(
      'not_prometheus',
      `${answer}${to}: redirects are not followed, set pods.prometheus.url to the right address`,
    );
  }
  if (status === 401)
    return new PrometheusError(
      'refused',
      `${answer}: set username and password_file, or token_file, in pods.prometheus, or mend what is there`,
    );
  if (status === 403) return new PrometheusError('refused', `${answer}: this login may not query; give it the right to, or use another`);
  if (status === 404)
    return new PrometheusError('not_prometheus', `${answer}: there is no Prometheus API there, is the path in pods.prometheus.url right?`);
  if (status === 429) return new PrometheusError('busy', `${answer}: it is asked too often, raise pods.interval`);
  if (status === 400 || status === 422) {
    // Both are cured by asking for less at once.
    if (said !== undefined && /too many samples|maximum resolution|response size|exceeds? the limit/i.test(said))
      return new PrometheusError(
        'too_large',
        `${answer}: it would be too much at once, narrow pods.selector or raise the limit of Prometheus`,
      );
    return new PrometheusError('query', `${answer}: mend the query in pods.queries or pods.metrics`);
  }
  if (status === 413) return new PrometheusError('too_large', `${answer}: narrow pods.selector or raise the limit there`);
  if (status >= 500) return new PrometheusError('busy', `${answer}: look into the log of Prometheus, or of what stands before it`);
  return new PrometheusError('not_prometheus', `${answer}: is it Prometheus, and pods.prometheus.url right?`);
}

/** What an error's body says: the API's `error`, or plain text. Pages of HTML say nothing that belongs into a log. */
function saidIn(body: string): string | undefined {
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value === 'object' && value !== null && 'error' in value && typeof value.error === 'string') return clean(value.error);
  } catch {
    // Not the API's JSON.
  }
  return body.trim() === '' || body.trimStart().startsWith('<') ? undefined : clean(body, 160);
}

const CERTIFICATE = /^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_\w+|CERT_\w+|INVALID_CA|INVALID_PURPOSE)$/;

const REMEDY: { [code: string]: string } = {
  ECONNREFUSED: 'is Prometheus running there?',
  ENOTFOUND: 'this host name is not known: is it right, and does DNS work?',
  EAI_AGAIN: 'DNS does not answer: look into the resolver, or give the address as a number',
  EHOSTUNREACH: 'is the host up, and is there a way to it?',
  ENETUNREACH: 'is this machine on the network?',
  ETIMEDOUT: 'is the host up, and no firewall in between?',
};

/** The error of a connection. */
export function whyBroken(base: string, error: unknown, answered: boolean): PrometheusError {
  const code = codeOf(error) ?? '';
  const broken = (reason: FailureReason, text: string) => new PrometheusError(reason, text, { cause: error });
  if (code.startsWith('HPE_'))
    return broken('not_prometheus', `what listens at ${base} does not speak HTTP (${code}): are host and port right?`);
  if (/^Z_|ZLIB|^ERR_TRAILING_JUNK/.test(code))
    return broken('not_prometheus', `the answer of ${base} is not the gzip it says it is (${code}): is a proxy in between?`);
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return broken(
      'unreachable',
      `the certificate of ${base} is for another name (${clean(messageOf(error), 200)}): use a name that is in it, or set pods.prometheus.tls.server_name`,
    );
  }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return broken('unreachable', `the certificate of ${base} is not valid now (${code}): renew it, or set the clock right`);
  if (CERTIFICATE.test(code)) {
    return broken(
      'unreachable',
      `the certificate of ${base} is signed by nobody we trust (${code}): name the PEM file of its authority in pods.prometheus.tls.ca_file`,
    );
  }
  if (code === 'EPROTO' || code.startsWith('ERR_SSL_') || code.startsWith('ERR_TLS_')) {
    return broken(
      'unreachable',
      `no TLS with ${base} (${clean(messageOf(error), 160)}): does it speak plain http://, or want a client certificate (pods.prometheus.tls.cert_file and key_file)?`,
    );
  }
  if (answered)
    return broken(
      'unreachable',
      `the connection to ${base} broke in the middle of an answer (${code || messageOf(error)}): look into its log`,
    );
  const remedy = REMEDY[code] ?? 'is it Prometheus, and http:// or https:// right?';
  return broken('unreachable', `cannot reach ${base} (${code || clean(messageOf(error))}): ${remedy}`);
}
