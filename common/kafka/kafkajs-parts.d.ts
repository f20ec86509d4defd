/**
 * The parts of kafkajs 2.2.4 that ndt builds on, below its producer and consumer: signing in, the reading of record batches, hashes. They
 * carry no types of their own. The version is pinned, and docs/decisions/kafka-client.md says why these and not the ones above.
 */
declare module 'kafkajs/src/broker/saslAuthenticator/plain.js' {
  interface Step {
    request: { encode(): Promise<Buffer> };
    response: { decode(raw: Buffer): Promise<unknown>; parse(data: unknown): unknown };
  }
  type Mechanism = (credentials: {
    username: string;
    password: string;
  }) => (options: {
    host: string;
    port: number;
    logger: { debug(): void; error(): void };
    saslAuthenticate: (step: Step) => Promise<unknown>;
  }) => { authenticate(): Promise<void> };
  const mechanism: Mechanism;
  export default mechanism;
}

declare module 'kafkajs/src/broker/saslAuthenticator/scram256.js' {
  export { default } from 'kafkajs/src/broker/saslAuthenticator/plain.js';
}

declare module 'kafkajs/src/broker/saslAuthenticator/scram512.js' {
  export { default } from 'kafkajs/src/broker/saslAuthenticator/plain.js';
}

/** For tests alone: what ndt writes is compared with it. */
declare module 'kafkajs/src/protocol/requests/index.js' {
  interface Definition {
    protocol(options: { version: number }): (args?: object) => { request: { apiKey: number; encode(): Promise<{ buffer: Buffer }> } };
  }
  const parts: { requests: { [name: string]: Definition } };
  export default parts;
}

declare module 'kafkajs/src/protocol/decoder.js' {
  export default class Decoder {
    constructor(buffer: Buffer);
  }
}

declare module 'kafkajs/src/protocol/recordBatch/v0/decoder.js' {
  interface DecodedRecord {
    offset: string;
    timestamp: string;
    key: Buffer | null;
    value: Buffer | null;
    headers: { [name: string]: Buffer | Buffer[] | null };
  }
  interface DecodedBatch {
    firstOffset: string;
    lastOffsetDelta: number;
    producerId: string;
    inTransaction: boolean;
    isControlBatch: boolean;
    records: DecodedRecord[];
  }
  export default function decodeRecordBatch(decoder: import('kafkajs/src/protocol/decoder.js').default): Promise<DecodedBatch>;
}

/** For tests alone: ndt's own is compared with it. */
declare module 'kafkajs/src/protocol/recordBatch/crc32C/index.js' {
  export default function crc32C(bytes: Buffer): number;
}

declare module 'kafkajs/src/producer/partitioners/default/murmur2.js' {
  export default function murmur2(key: Buffer): number;
}
