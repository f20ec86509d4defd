/** What can go wrong in getting a page, in words: what, where, and what to do. */
import { codeOf, messageOf } from '../common/errors.ts';
import { SourceError } from './source.ts';

export type Peer = 'exporter' | 'collector';

/** Where a fetch went. */
export interface Where {
  /** The router's name. */
  name: string;
  peer: Peer;
  url: URL;
}

/** The server answered with another status than 200. */
export class StatusError extends SourceError {
  readonly status: number;
  constructor(status: number, message: string) {
    super('status', message);
    this.status = status;
  }
}

/** An address for messages: without the password that may stand in it. */
export function urlText(url: URL): string {
  const shown = new URL(url);
  if (shown.password !== '') shown.password = '***';
  return clean(shown.href, 300);
}

/** `16 MiB`, `1 KiB`, `1500 bytes` */
export function sizeText(bytes: number): string {
  if (bytes % 1_048_576 === 0) return `${bytes / 1_048_576} MiB`;
  return bytes % 1024 === 0 ? `${bytes / 1024} KiB` : `${bytes} bytes`;
}

/** Text of the other side, fit for one line of a log. */
export function clean(text: string, max: number): string {
  const line = text.replace(/[\s\p{C}]+/gu, ' ').trim();
  return line.length > max ? `${line.slice(0, max)}…` : line;
}

export function whyStatus(
  { name, peer, url }: Where,
  status: number,
  statusText: string,
  location: string | undefined,
  body: string,
): string {
  const answer = `${name}: ${urlText(url)} answers ${status}${statusText === '' ? '' : ` ${clean(statusText, 60)}`}`;
  if (status >= 300 && status < 400 && location !== undefined) {
    const target = URL.canParse(location, url.href) ? urlText(new URL(location, url)) : clean(location, 300);
    return `${answer} and points to ${target}: redirects are not followed, so set that address if it is the right one`;
  }
  if (status === 401) return `${answer}: it wants a login, which can stand in the address (http://user:password@host:port/path)`;
  const said = body === '' || body.trimStart().startsWith('<') ? '' : ` ("${clean(body, 160)}")`;
  if (status === 404) {
    const where = peer === 'exporter' ? 'an exporter mostly answers at /metrics' : 'does the collector know this router under this name?';
    return `${answer}${said}: is the path right? ${where}`;
  }
  return `${answer}${said}: look into the ${peer}'s log`;
}

const UNREACHABLE: { [code: string]: (peer: Peer) => string } = {
  ECONNREFUSED: (peer) => `is the ${peer} running there?`,
  EHOSTUNREACH: () => 'is the router up, and is there a way to it?',
  ENETUNREACH: () => 'is this machine on the network, and is there a way to the router?',
  EHOSTDOWN: () => 'is the router up?',
  ETIMEDOUT: () => 'is the router up, and no firewall in between?',
  EACCES: () => 'does a firewall of this machine forbid it?',
  EPERM: () => 'does a firewall of this machine forbid it?',
  ENOTFOUND: () => 'this host name is not known: is it right, and does DNS work?',
  EAI_AGAIN: () => 'DNS does not answer: look into the resolver, or give the address as a number',
  EMFILE: () => 'this process has too many files open: raise its limit (ulimit -n)',
};

const CERTIFICATE =
  /^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_\w+|CERT_\w+|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE)$/;

/** The error of a connection, as an error of the source. */
export function whyBroken(
  { name, peer, url }: Where,
  error: unknown,
  { answered, bytes }: { answered: boolean; bytes: number },
): SourceError {
  const code = codeOf(error) ?? '';
  const to = urlText(url);
  const fault = (reason: SourceError['reason'], text: string) => new SourceError(reason, `${name}: ${text}`);

  if (code === 'NDT_ENCODING')
    return fault('unreadable', `${to} answers with ${clean(messageOf(error), 60)}, which was not asked for: is a proxy in between?`);
  if (/^Z_|^ERR_.*ZLIB|^ERR_TRAILING_JUNK/.test(code))
    return fault('unreadable', `the answer of ${to} is not the gzip it says it is (${code}): is a proxy in between?`);
  if (code.startsWith('HPE_')) return fault('not_metrics', `what listens at ${to} does not speak HTTP (${code}): are host and port right?`);
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return fault('unreachable', `the certificate of ${to} is for another name (${clean(messageOf(error), 200)}): use a name that is in it`);
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return fault('unreachable', `the certificate of ${to} is not valid now (${code}): renew it, or set the clock right`);
  if (CERTIFICATE.test(code)) {
    return fault(
      'unreachable',
      `the certificate of ${to} is signed by nobody this machine trusts (${code}): name the PEM file of its authority in NODE_EXTRA_CA_CERTS`,
    );
  }
  if (code === 'EPROTO' || code.startsWith('ERR_SSL_') || code.startsWith('ERR_TLS_')) {
    return fault(
      'unreachable',
      `no TLS with ${to} (${clean(code === 'EPROTO' ? messageOf(error) : code, 120)}): does it speak plain http:// there, or want a client certificate?`,
    );
  }
  const remedy = UNREACHABLE[code];
  if (remedy !== undefined && !answered) return fault('unreachable', `cannot reach ${to} (${code}): ${remedy(peer)}`);
  if (answered)
    return fault(
      'unreachable',
      `the connection to ${to} broke after ${bytes} bytes of the answer (${code || messageOf(error)}): look into the ${peer}'s log`,
    );
  return fault(
    'unreachable',
    `${to} closed the connection without an answer (${code || messageOf(error)}): is it the ${peer}, and http:// or https:// right?`,
  );
}
