/** What an uplink is: it brings entries of the outbox to the receiving side and tells which of them are durable there. */
import type { Headers } from '../common/bus.ts';

/**
 * Something to send. Records have a sequence number above 0 and carry it in their headers; notices (gaps, ledgers) have a number
 * below 0 that means something only to the outbox.
 */
export interface Entry {
  seq: number;
  topic: string;
  key: string;
  headers: Headers;
  /** JSON text, exactly as it goes out. */
  body: string;
}

/** What became of a batch. Entries in neither list stay in the outbox and are sent again. */
export interface Delivery {
  /** Durable on the receiving side. */
  acked: number[];
  /** Never going to be taken: kept locally as dead letters with the reason. */
  rejected: Array<{ seq: number; reason: string }>;
}

export interface Uplink {
  /** Resolves when the receiving side has confirmed; rejects when that has to be tried again (the message says why). */
  send(batch: Entry[], signal: AbortSignal): Promise<Delivery>;
  /** Whether the receiving side was reached last time. */
  readonly connected: boolean;
  close(): Promise<void>;
}

/** Why a connection cannot work, with what to do: a wrong password, an unknown authority, nothing listening. */
export class UplinkError extends Error {
  readonly reason: 'unreachable' | 'refused' | 'credentials' | 'certificate' | 'timeout' | 'closed';
  constructor(reason: UplinkError['reason'], message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'UplinkError';
    this.reason = reason;
  }
}
