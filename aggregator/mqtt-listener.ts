/** The embedded broker's listening socket, plain or TLS. */
import { createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { createSecureContext, createServer as createTlsServer } from 'node:tls';
import type { Loaded } from '../common/config.ts';
import { messageOf, NdtError } from '../common/errors.ts';
import { type PemFiles, readPemFiles } from '../common/tls.ts';
import { LOGIN_LIMITS } from './mqtt-guard.ts';

/** @throws NdtError CONFIG where the certificates cannot be used */
export function createListener(loaded: Loaded, accept: (socket: Socket) => void): Server {
  const { tls } = loaded.config.aggregator.mqtt;
  const tcp = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 };
  if (tls === undefined) return createTcpServer(tcp, accept);
  return createTlsServer(
    {
      ...tcp,
      ...brokerPem(loaded),
      requestCert: tls.ca_file !== undefined,
      rejectUnauthorized: tls.require_client_certificate,
      handshakeTimeout: LOGIN_LIMITS.loginMs,
    },
    accept,
  );
}

/** The broker's certificate, and whose certificates it trusts. @throws NdtError CONFIG also where OpenSSL does not take the files */
export function brokerPem(loaded: Loaded): PemFiles {
  const { tls } = loaded.config.aggregator.mqtt;
  if (tls === undefined) return {};
  const pem = readPemFiles(loaded, tls, 'aggregator.mqtt.tls');
  try {
    createSecureContext(pem);
  } catch (error) {
    throw new NdtError('CONFIG', `aggregator.mqtt.tls: these certificates cannot be used (${messageOf(error)})`, { cause: error });
  }
  return pem;
}
