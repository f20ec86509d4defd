/**
 * The parts of kafkajs 2.2.4 that ndt builds on, below its producer and consumer: connections, and the wire format of each request.
 * They carry no types of their own. The version is pinned, and docs/decisions/kafka-client.md says why these and not the ones above.
 */
declare module 'kafkajs/src/network/connection.js' {
  interface Protocol {
    request: object;
    response: { decode(raw: Buffer): Promise<unknown>; parse(data: unknown): unknown };
    requestTimeout?: number | null;
    logResponseError?: boolean;
  }
  export default class Connection {
    constructor(options: {
      host: string;
      port: number;
      clientId: string;
      logger: unknown;
      ssl?: object | null;
      sasl?: object | null;
      connectionTimeout: number;
      requestTimeout: number;
      enforceRequestTimeout: boolean;
      maxInFlightRequests?: number | null;
      socketFactory: (options: { host: string; port: number; ssl: unknown; onConnect: () => void }) => import('node:net').Socket;
    });
    requestQueue: { pending: unknown[]; throttledUntil: number; scheduleCheckPendingRequests(): void; destroy(): void };
    isConnected(): boolean;
    connect(): Promise<unknown>;
    disconnect(): Promise<unknown>;
    authenticate(): Promise<void>;
    setVersions(versions: unknown): void;
    setSupportAuthenticationProtocol(supported: boolean): void;
    rejectRequests(error: Error): void;
    send(protocol: Protocol): Promise<unknown>;
  }
}

declare module 'kafkajs/src/protocol/requests/index.js' {
  interface Definition {
    versions: string[];
    protocol(options: { version: number }): (args?: object) => import('kafkajs/src/network/connection.js').Protocol;
  }
  const parts: { requests: { [name: string]: Definition } };
  export default parts;
}

declare module 'kafkajs/src/protocol/requests/apiKeys.js' {
  const keys: { [name: string]: number };
  export default keys;
}

declare module 'kafkajs/src/protocol/decoder.js' {
  export default class Decoder {
    constructor(buffer: Buffer);
    readInt8(): number;
    readInt16(): number;
    readInt32(): number;
    readInt64(): { toString(): string };
    readString(): string | null;
    readBytes(length?: number): Buffer;
    readArray<T>(read: (decoder: Decoder) => T): T[];
    canReadBytes(length: number): boolean;
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

declare module 'kafkajs/src/protocol/recordBatch/crc32C/index.js' {
  export default function crc32C(bytes: Buffer): number;
}

declare module 'kafkajs/src/producer/partitioners/default/murmur2.js' {
  export default function murmur2(key: Buffer): number;
}
