/** What the configuration says about reaching Kafka. Files are read at each connection, so that a renewed one needs no restart. */
import type { ConnectionOptions } from 'node:tls';
import { type Loaded, secretOf } from '../config.ts';
import { NdtError } from '../errors.ts';
import { readPemFiles } from '../tls.ts';
import type { Codec } from './codecs.ts';
import type { Endpoint } from './connection.ts';

export interface Sasl {
  /** `SCRAM-SHA-512` */
  mechanism: string;
  username: string;
  password: string;
}

export interface ClientSettings {
  brokers: Endpoint[];
  clientId: string;
  connectTimeoutMs: number;
  requestTimeoutMs: number;
  /** @throws NdtError CONFIG where a file cannot be used */
  tls(): ConnectionOptions | undefined;
  /** @throws NdtError CONFIG where the file cannot be read */
  sasl(): Sasl | undefined;
  /** For messages. */
  encrypted: boolean;
  certified: boolean;
  user: string | undefined;
}

export interface KafkaOptions {
  client: ClientSettings;
  topics: { create: boolean; partitions: number; replication: number; retentionMs: number };
  compression: Codec;
  lingerMs: number;
  batchBytes: number;
  transactionTimeoutMs: number;
  sessionTimeoutMs: number;
}

/**
 * @param clientId where the configuration names none
 * @throws NdtError CONFIG where a file cannot be used, or the password is missing
 */
export function kafkaOptions(loaded: Pick<Loaded, 'config' | 'dir'>, clientId: string): KafkaOptions {
  const { kafka } = loaded.config;
  if (kafka.sasl !== undefined && kafka.sasl.password === undefined && kafka.sasl.password_file === undefined) {
    throw new NdtError('CONFIG', 'kafka.sasl has no password: set kafka.sasl.password_file beside kafka.sasl.username');
  }
  const options: KafkaOptions = {
    client: {
      brokers: kafka.brokers.map(endpointOf),
      clientId: kafka.client_id ?? clientId,
      connectTimeoutMs: kafka.timeout * 1000,
      requestTimeoutMs: kafka.timeout * 1000,
      tls: () => {
        if (kafka.tls === undefined) return undefined;
        const pem = readPemFiles(loaded, kafka.tls, 'kafka.tls');
        return { ...pem, ...(kafka.tls.server_name === undefined ? {} : { servername: kafka.tls.server_name }) };
      },
      sasl: () => {
        if (kafka.sasl === undefined) return undefined;
        const { mechanism, username, password, password_file } = kafka.sasl;
        return {
          mechanism: mechanism.toUpperCase(),
          username,
          password: secretOf(loaded, password, password_file, 'kafka.sasl.password_file') ?? '',
        };
      },
      encrypted: kafka.tls !== undefined,
      certified: kafka.tls?.cert_file !== undefined,
      user: kafka.sasl?.username,
    },
    topics: {
      create: kafka.topics.create,
      partitions: kafka.topics.partitions,
      replication: kafka.topics.replication,
      retentionMs: kafka.topics.retention_ms,
    },
    compression: kafka.compression,
    lingerMs: kafka.linger_ms,
    batchBytes: kafka.batch_bytes,
    transactionTimeoutMs: kafka.transaction_timeout * 1000,
    sessionTimeoutMs: kafka.session_timeout * 1000,
  };
  // Wrong files are told at the start, rather than at every attempt.
  options.client.tls();
  options.client.sasl();
  return options;
}

/** `host:port`, `[::1]:9092` */
export function endpointOf(text: string): Endpoint {
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) };
}
