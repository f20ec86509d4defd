/**
 * From the outbox over the uplink, again and again until it is confirmed.
 *
 * Two lanes run beside each other. The fresh one carries notices and the records made since the uplink works, as they come. The backlog
 * carries what waited out an outage or a restart, in large batches, at no more than `rate` records a second, each pause with a jitter so that
 * a thousand agents do not come at once. Within a lane records leave in the order of their numbers, one batch at a time: the next one
 * begins where the last was confirmed, so a batch that is confirmed in part leaves nothing behind. With `order: "fifo"` there is one lane.
 *
 * A failure closes the gate for both lanes for a while, longer each time; what waits then is backlog. An uplink that takes a batch and
 * never answers is given up after `timeoutMs`; an answer that comes later still counts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../common/errors.ts';
import { Fault, type Logger } from '../common/logger.ts';
import type { LaneName, Outbox } from './outbox.ts';
import { type Delivery, type Entry, type Uplink, UplinkError } from './uplink.ts';

export interface DrainEvents {
  sent(lane: LaneName, records: number, seconds: number): void;
  failed(reason: string): void;
  /** A lane goes round once more; never more than `LONGEST_ROUND_MS` after the last time. */
  turned?(lane: LaneName): void;
}

/** A lane's longest round: the uplink given up after its time-out and its last word, and the longest pause. With room to spare. */
export const LONGEST_ROUND_MS = 150_000;

export interface Replay {
  order: 'fresh-first' | 'fifo';
  /** Records of the backlog a second; 0 is without a bound. */
  rate: number;
}

export interface DrainOptions {
  outbox: Outbox;
  uplink: Uplink;
  /** Most records in a batch. */
  batch: number;
  agentId: string;
  boot: string;
  log: Logger;
  events: DrainEvents;
  replay?: Replay;
  /** An uplink that has not answered after so long is given up. */
  timeoutMs?: number;
}

const LEDGER_MS = 10_000;
const RETRY_MS = { first: 250, most: 15_000 };
/** An uplink that is given up has so long to tell what came through. */
const LAST_WORD_MS = 2000;
/** Batches of the backlog per second, where a rate is set: smooth, and few. */
const REPLAY_PARTS = 4;
/** The backlog goes in batches so many times as large: the uplink then always has packets in flight. */
const BACKLOG_BATCHES = 2;
/** The ledger's place among the entries: a notice that the outbox does not keep. */
const LEDGER_SEQ = -Number.MAX_SAFE_INTEGER;

/** Sends until `signal` aborts, then once more for what is left, at most `lastMs`. */
export async function drain(options: DrainOptions, signal: AbortSignal, lastMs = 2000): Promise<void> {
  await new Drain(options).run(signal, lastMs);
}

class Drain {
  private readonly options: Required<DrainOptions>;
  private readonly fault: Fault;
  private pause = RETRY_MS.first;
  private gateOpensAt = 0;
  private ledgerAt = Number.NEGATIVE_INFINITY;
  /** Shrinks where the uplink does not manage a batch in time. */
  private size: number;

  constructor(options: DrainOptions) {
    this.options = { replay: { order: 'fresh-first', rate: 0 }, timeoutMs: 60_000, ...options };
    this.fault = new Fault(options.log, 'uplink');
    this.size = options.batch;
  }

  async run(signal: AbortSignal, lastMs: number): Promise<void> {
    const lanes: LaneName[] = this.options.replay.order === 'fifo' ? ['all'] : ['fresh', 'backlog'];
    await Promise.all(lanes.map((lane) => this.pump(lane, signal)));
    const last = AbortSignal.timeout(lastMs);
    try {
      // The first lane once more: the last word is the ledger.
      for (const lane of [...lanes, ...lanes.slice(0, 1)]) while (!last.aborted && (await this.sendOnce(lane, last, true)) > 0);
    } catch {
      // What could not be sent stays in the outbox for the next start.
    }
  }

  private async pump(lane: LaneName, signal: AbortSignal): Promise<void> {
    const { outbox, replay } = this.options;
    while (!signal.aborted) {
      const changed = outbox.nextChange();
      this.options.events.turned?.(lane);
      try {
        await this.gate(signal);
        const sent = await this.sendOnce(lane, signal, false);
        if (sent === 0) await Promise.race([changed, sleep(LEDGER_MS, undefined, { signal, ref: false })]);
        else if (lane === 'backlog' && replay.rate > 0) {
          const pause = (sent / replay.rate) * 1000;
          await sleep(pause / 2 + Math.random() * pause, undefined, { signal });
        }
      } catch (error) {
        if (signal.aborted) return;
        this.failed(error);
      }
    }
  }

  private failed(error: unknown): void {
    const { events, outbox } = this.options;
    const reason = error instanceof UplinkError ? error.reason : 'other';
    this.fault.raise(messageOf(error), { reason });
    events.failed(reason);
    outbox.markReplayed();
    // The lanes fail together: that is one failure.
    if (performance.now() < this.gateOpensAt) return;
    this.gateOpensAt = performance.now() + this.pause / 2 + Math.random() * this.pause;
    this.pause = Math.min(this.pause * 2, RETRY_MS.most);
  }

  private async gate(signal: AbortSignal): Promise<void> {
    for (;;) {
      const wait = this.gateOpensAt - performance.now();
      if (wait <= 0) return;
      await sleep(wait, undefined, { signal });
    }
  }

  /** One batch of a lane. Returns how many entries were settled; 0 where there was nothing to send. */
  private async sendOnce(lane: LaneName, signal: AbortSignal, isLast: boolean): Promise<number> {
    const { outbox, log, events, replay } = this.options;
    const most = lane === 'backlog' ? this.size * BACKLOG_BATCHES : this.size;
    const room = lane === 'backlog' && replay.rate > 0 ? Math.max(1, Math.min(most, Math.ceil(replay.rate / REPLAY_PARTS))) : most;
    const notices = lane === 'backlog' ? [] : outbox.notices(room);
    const entries = [...notices, ...outbox.read(lane, room - notices.length)];
    const due = lane !== 'backlog' && (performance.now() - this.ledgerAt >= LEDGER_MS || isLast);
    // Alone, a ledger goes out only when it is due; with records it does when they are all there are, so that it is no older than they.
    if (entries.length === 0 && !due) return 0;
    const count = entries.length;
    const withLedger = due && count < room;
    if (withLedger) entries.push(this.ledgerEntry(entries));
    const started = performance.now();
    const { acked, rejected } = await this.send(entries, signal);
    const delivery: Delivery = {
      acked: acked.filter((seq) => seq !== LEDGER_SEQ),
      rejected: rejected.filter(({ seq }) => seq !== LEDGER_SEQ),
    };
    if (withLedger && acked.includes(LEDGER_SEQ)) this.ledgerAt = performance.now();
    this.settle(delivery);
    const settled = delivery.acked.length + delivery.rejected.length;
    if (settled === 0 && acked.length === 0) throw new UplinkError('timeout', 'the uplink confirmed nothing of a batch');
    for (const { seq, reason } of rejected)
      log.error({ seq, reason }, `record ${seq} was refused for good (${reason}); it is kept in the local dead letters`);
    events.sent(lane, delivery.acked.filter((seq) => seq > 0).length, (performance.now() - started) / 1000);
    this.fault.clear();
    this.pause = RETRY_MS.first;
    this.size = Math.min(this.options.batch, Math.max(this.size, 1) * 2);
    return settled;
  }

  private settle(delivery: Delivery): void {
    if (delivery.acked.length + delivery.rejected.length > 0) this.options.outbox.settle(delivery);
  }

  /** Sends, and gives up an uplink that does not answer. */
  private async send(entries: Entry[], signal: AbortSignal): Promise<Delivery> {
    const { uplink, timeoutMs } = this.options;
    const giveUp = new AbortController();
    const sending = uplink.send(entries, AbortSignal.any([signal, giveUp.signal]));
    const outcome = sending.then(
      (delivery) => ({ delivery }),
      (error: unknown) => ({ error }),
    );
    const late = Symbol('late');
    const timer = new AbortController();
    const timeout = sleep(timeoutMs, late, { signal: timer.signal, ref: false }).catch(() => late);
    const stopped = new Promise<typeof late>((resolve) => {
      // The end gives an uplink as long for its last word as a time-out does.
      if (signal.aborted) resolve(late);
      else signal.addEventListener('abort', () => resolve(late), { once: true, signal: timer.signal });
    });
    let result = await Promise.race([outcome, timeout, stopped]);
    if (result === late) {
      giveUp.abort();
      result = await Promise.race([outcome, sleep(LAST_WORD_MS, late, { ref: true, signal: timer.signal }).catch(() => late)]);
    }
    timer.abort();
    if (typeof result === 'symbol') {
      this.size = Math.max(1, Math.floor(this.size / 4));
      // What was confirmed is durable over there, however late that is heard.
      void outcome.then((found) => {
        if ('delivery' in found) this.settle({ acked: found.delivery.acked.filter((seq) => seq !== LEDGER_SEQ), rejected: [] });
      });
      throw new UplinkError('timeout', `no answer to a batch of ${entries.length} within ${timeoutMs / 1000} s`);
    }
    if ('error' in result) throw result.error;
    return result.delivery;
  }

  private ledgerEntry(sending: readonly Entry[]): Entry {
    const { outbox, agentId, boot } = this.options;
    const ledger = outbox.ledger();
    const inHand = sending.filter(({ seq }) => seq > 0).length;
    // Told from the receiver's side: what travels in the same batch is delivered when this arrives.
    const told = { ...ledger, delivered: ledger.delivered + inHand, pending: ledger.pending - inHand };
    return outbox.notice(LEDGER_SEQ, JSON.stringify({ type: 'ledger', agent: agentId, boot, ...told, at: Math.max(0, Date.now()) }));
  }
}
