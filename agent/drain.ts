/** From the outbox over the uplink: a batch at a time, again and again until it is confirmed. */
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../common/errors.ts';
import { Fault, type Logger } from '../common/logger.ts';
import type { Outbox } from './outbox.ts';
import { type Entry, type Uplink, UplinkError } from './uplink.ts';

export interface DrainEvents {
  sent(records: number, seconds: number): void;
  failed(reason: string): void;
}

const LEDGER_MS = 10_000;
const RETRY_MS = { first: 250, most: 15_000 };
/** The ledger's place among the entries: a notice that the outbox does not keep. */
const LEDGER_SEQ = -Number.MAX_SAFE_INTEGER;

export interface DrainOptions {
  outbox: Outbox;
  uplink: Uplink;
  batch: number;
  agentId: string;
  boot: string;
  log: Logger;
  events: DrainEvents;
}

/** Sends until `signal` aborts, then once more for what is left, at most `lastMs`. */
export async function drain(options: DrainOptions, signal: AbortSignal, lastMs = 2000): Promise<void> {
  const { outbox, uplink, batch, log, events } = options;
  const fault = new Fault(log, 'uplink');
  let pause = RETRY_MS.first;
  let ledgerAt = Number.NEGATIVE_INFINITY;
  const sendOnce = async (stop: AbortSignal): Promise<boolean> => {
    const entries = outbox.peek(batch);
    const due = performance.now() - ledgerAt >= LEDGER_MS || stop !== signal;
    // Alone, a ledger goes out only when it is due; with records it always does, so that it is never older than they are.
    if (entries.length === 0 && !due) return false;
    const idle = entries.length < batch;
    if (due && idle) entries.push(ledgerEntry(options, entries));
    const started = performance.now();
    const { acked, rejected } = await uplink.send(entries, stop);
    outbox.settle({ acked: acked.filter((seq) => seq !== LEDGER_SEQ), rejected: rejected.filter(({ seq }) => seq !== LEDGER_SEQ) });
    if (due && idle) ledgerAt = performance.now();
    for (const { seq, reason } of rejected)
      log.error({ seq, reason }, `record ${seq} was refused for good (${reason}); it is kept in the local dead letters`);
    events.sent(acked.filter((seq) => seq > 0).length, (performance.now() - started) / 1000);
    fault.clear();
    pause = RETRY_MS.first;
    return entries.length > 0;
  };

  while (!signal.aborted) {
    const appended = outbox.nextAppend();
    try {
      if (await sendOnce(signal)) continue;
      await Promise.race([appended, sleep(LEDGER_MS, undefined, { signal, ref: false })]);
    } catch (error) {
      if (signal.aborted) break;
      fault.raise(messageOf(error), error instanceof UplinkError ? { reason: error.reason } : {});
      events.failed(error instanceof UplinkError ? error.reason : 'other');
      outbox.markReplayed();
      await sleep(pause / 2 + randomInt(pause), undefined, { signal }).catch(() => {});
      pause = Math.min(pause * 2, RETRY_MS.most);
    }
  }
  const last = AbortSignal.timeout(lastMs);
  try {
    do {
      await sendOnce(last);
    } while (outbox.ledger().pending > 0 && !last.aborted);
  } catch {
    // What could not be sent stays in the outbox for the next start.
  }
}

function ledgerEntry({ outbox, agentId, boot }: DrainOptions, sending: readonly Entry[]): Entry {
  const ledger = outbox.ledger();
  const inHand = sending.filter(({ seq }) => seq > 0).length;
  // Told from the receiver's side: what travels in the same batch is delivered when this arrives.
  const told = { ...ledger, delivered: ledger.delivered + inHand, pending: ledger.pending - inHand };
  return outbox.notice(LEDGER_SEQ, JSON.stringify({ type: 'ledger', agent: agentId, boot, ...told, at: Date.now() }));
}
