/**
 * The connection to the aggregator: live figures over server-sent events, and everything else asked for every few seconds, which also
 * notices a connection that is dead without anyone having said so.
 */
import type { LatestBody } from '../api-schemas.ts';

export type ConnectionState = 'connecting' | 'live' | 'offline';

export interface ConnectionEvents {
  figures(latest: LatestBody): void;
  /** Connected, for the first time or again: what is shown may be old. */
  connected(): void;
  state(state: ConnectionState, since: Date): void;
}

/** A stream that was refused is asked for again after this. */
const RETRY_MS = 4000;
const ANSWER_MS = 8000;
/** The aggregator's clock counts when it differs by more than this from ours. */
const SKEW_MS = 3000;

/** What the aggregator answered instead of the data. */
export class AnswerError extends Error {
  readonly status: number;
  constructor(status: number, path: string) {
    super(`${path} answered ${status}`);
    this.status = status;
  }
}

export class Connection {
  private readonly events: ConnectionEvents;
  private source: EventSource | undefined;
  private state: ConnectionState = 'connecting';
  private lastContact = new Date();
  private retry: number | undefined;
  private skewMs = 0;

  constructor(events: ConnectionEvents) {
    this.events = events;
  }

  start(): void {
    this.open();
  }

  /** Now, on the aggregator's clock [Unix s]. */
  now(): number {
    return (Date.now() + this.skewMs) / 1000;
  }

  /** Asks the API. Rejects with AnswerError for an error's status, and goes offline when nobody answers. */
  async ask<T>(path: string): Promise<T> {
    let response: Response;
    try {
      response = await fetch(path, { signal: AbortSignal.timeout(ANSWER_MS), headers: { accept: 'application/json' } });
    } catch (error) {
      this.lost();
      throw error;
    }
    this.contact(response.headers.get('date'));
    if (!response.ok) throw new AnswerError(response.status, path);
    return (await response.json()) as T;
  }

  private open(): void {
    clearTimeout(this.retry);
    this.source?.close();
    const source = new EventSource('/api/v1/stream');
    this.source = source;
    source.addEventListener('open', () => {
      clearTimeout(this.retry);
      this.contact(null);
      this.turn('live');
      this.events.connected();
    });
    source.addEventListener('figures', (event) => {
      this.contact(null);
      this.events.figures(JSON.parse((event as MessageEvent<string>).data) as LatestBody);
    });
    source.addEventListener('error', () => {
      if (source === this.source) this.lost();
    });
  }

  private contact(date: string | null): void {
    this.lastContact = new Date();
    if (date === null) return;
    // The header's resolution is a second.
    const difference = Date.parse(date) + 500 - Date.now();
    this.skewMs = Math.abs(difference) > SKEW_MS ? difference : 0;
  }

  private lost(): void {
    this.turn('offline');
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.open(), RETRY_MS);
  }

  private turn(state: ConnectionState): void {
    if (state === this.state) return;
    this.state = state;
    this.events.state(state, this.lastContact);
  }
}
