/** What agents tell about themselves, kept beside the records: each agent's last ledger, and every gap it announced. */
import type { SeqRange } from '../common/dedupe.ts';
import { RecordError } from '../common/record.ts';
import type { Db } from '../common/sqlite.ts';

/** An agent's own account; produced = delivered + pending + dropped + rejected. */
export interface AgentLedger {
  agent: string;
  /** Identity of the agent's start. */
  boot: string;
  /** Sequence numbers given out: all between these two, each once. */
  first: number;
  last: number;
  produced: number;
  delivered: number;
  pending: number;
  /** By reason. */
  dropped: { [reason: string]: number };
  rejected: { [reason: string]: number };
  /** Unix ms on the agent's clock. */
  at: number;
}

/** Records that an agent dropped on purpose, because a bound forced it. */
export interface Gap extends SeqRange {
  agent: string;
  reason: string;
  /** How many of the range were dropped: some may have been delivered before. */
  count: number;
  /** Unix ms on the agent's clock. */
  at: number;
}

export type Notice = ({ type: 'ledger' } & AgentLedger) | ({ type: 'gap' } & Gap) | { type: 'other' };

type Fields = { [name: string]: unknown };

/**
 * Parses a notice. Types that are not known are passed over, so that newer agents can tell more.
 * @throws RecordError with the path of the wrong field
 */
export function parseNotice(json: string): Notice {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new RecordError('', `not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new RecordError('', 'expected an object');
  const fields = value as Fields;
  const type = text(fields, 'type');
  if (type === 'gap') {
    const range = { first: whole(fields, 'from'), last: whole(fields, 'to') };
    if (range.last < range.first) throw new RecordError('to', `expected no less than from (${range.first}), got ${range.last}`);
    return {
      type,
      agent: text(fields, 'agent'),
      ...range,
      count: whole(fields, 'count'),
      reason: text(fields, 'reason'),
      at: whole(fields, 'at'),
    };
  }
  if (type !== 'ledger') return { type: 'other' };
  const produced = whole(fields, 'produced');
  // An agent that does not tell its first number began with 1.
  const first = fields.first === undefined ? 1 : whole(fields, 'first');
  return {
    type,
    agent: text(fields, 'agent'),
    boot: text(fields, 'boot'),
    first,
    last: fields.last === undefined ? first + produced - 1 : whole(fields, 'last'),
    produced,
    delivered: whole(fields, 'delivered'),
    pending: whole(fields, 'pending'),
    dropped: counts(fields, 'dropped'),
    rejected: counts(fields, 'rejected'),
    at: whole(fields, 'at'),
  };
}

function text(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value !== 'string' || value === '') throw new RecordError(name, 'expected text');
  return value;
}

function whole(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw new RecordError(name, 'expected a whole number of 0 or more');
  return value;
}

function counts(fields: Fields, name: string): { [reason: string]: number } {
  const value = fields[name];
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new RecordError(name, 'expected an object from reason to number');
  const object = value as Fields;
  return Object.fromEntries(Object.keys(object).map((reason) => [reason, whole(object, reason)]));
}

export function total(byReason: { [reason: string]: number }): number {
  return Object.values(byReason).reduce((sum, n) => sum + n, 0);
}

interface LedgerRow {
  agent: string;
  boot: string;
  progress: number;
  body: string;
}

/** The notices' tables. Writes run inside the transaction that stores the batch. */
export class Notices {
  private readonly statements;

  constructor(db: Db) {
    db.exec(`
      CREATE TABLE IF NOT EXISTS ledgers (agent TEXT PRIMARY KEY, boot TEXT NOT NULL, progress INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS gaps (
        agent TEXT NOT NULL, reason TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (agent, reason, first, last)
      ) WITHOUT ROWID;
    `);
    this.statements = {
      ledgers: db.prepare<[], LedgerRow>('SELECT agent, boot, progress, body FROM ledgers ORDER BY agent'),
      // Within one boot every count but `pending` only grows, so a ledger that comes late (sent again) cannot replace a newer one,
      // whatever the agent's clock did.
      putLedger: db.prepare(
        `INSERT INTO ledgers (agent, boot, progress, body) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE
         SET boot = excluded.boot, progress = excluded.progress, body = excluded.body WHERE boot <> excluded.boot OR progress <= excluded.progress`,
      ),
      gaps: db.prepare<[], Gap>('SELECT agent, reason, first, last, count, at FROM gaps ORDER BY agent, first'),
      covered: db.prepare('SELECT 1 FROM gaps WHERE agent = ? AND reason = ? AND first <= ? AND last >= ? AND count = last - first + 1'),
      extend: db.prepare(
        'UPDATE gaps SET last = ?, count = count + ?, at = ? WHERE agent = ? AND reason = ? AND last = ? AND count = last - first + 1',
      ),
      putGap: db.prepare(
        `INSERT INTO gaps (agent, reason, first, last, count, at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
         SET count = count + excluded.count, at = excluded.at WHERE at < excluded.at`,
      ),
    };
  }

  /** Keeps a notice; one that came before changes nothing. */
  take(notice: Notice): void {
    if (notice.type === 'ledger') {
      const { type: _, ...ledger } = notice;
      const progress = ledger.produced + ledger.delivered + total(ledger.dropped) + total(ledger.rejected);
      this.statements.putLedger.run(ledger.agent, ledger.boot, progress, JSON.stringify(ledger));
    } else if (notice.type === 'gap') {
      const { agent, reason, first, last, count, at } = notice;
      // Where only some of a range went (thinned out), more of the same range may go later: such a notice is known by its time alone.
      const whole = count === last - first + 1;
      if (whole && this.statements.covered.get(agent, reason, first, last) !== undefined) return;
      // A long outage makes thousands of neighbouring gaps: they are one.
      if (whole && this.statements.extend.run(last, count, at, agent, reason, first - 1).changes > 0) return;
      this.statements.putGap.run(agent, reason, first, last, count, at);
    }
  }

  ledgers(): AgentLedger[] {
    return this.statements.ledgers.all().map(({ body }) => JSON.parse(body) as AgentLedger);
  }

  /** By agent, in the order of their numbers. */
  gaps(): Gap[] {
    return this.statements.gaps.all();
  }
}
