/**
 * The outbox: every record is committed here before it is sent and leaves only when the receiving side has confirmed it.
 *
 * One SQLite file. A commit of new records waits for the disk and carries everything that belongs to them: sequence numbers, records,
 * the routers' baselines and the ledger's counts. Deleting confirmed records does not wait: a power cut then sends some of them again,
 * under the same number, and the receiver drops them. What a bound forces out is counted and leaves a gap notice, which is sent like a
 * record.
 *
 * A new file starts its numbers at the clock's milliseconds instead of 1: an agent that lost its disk must not use numbers again
 * that the receiving side has already seen under its name.
 */
import { statSync } from 'node:fs';
import { HEADER, type Headers } from '../common/bus.ts';
import type { Baseline } from '../common/rates.ts';
import { type Db, openDb } from '../common/sqlite.ts';
import type { Delivery, Entry } from './uplink.ts';

export interface NewRecord {
  topic: string;
  /** The router's name. */
  key: string;
  /** JSON text of the record. */
  body: string;
}

export interface OutboxOptions {
  file: string;
  agentId: string;
  /** Identity of this start of the agent. */
  boot: string;
  /** Topic of notices. */
  noticeTopic: string;
  /** Most bytes on disk: database and write-ahead log. */
  maxBytes: number;
  /** Most milliseconds that a record waits; 0 is for ever. */
  maxAgeMs: number;
  nowMs?: () => number;
}

/** produced = delivered + pending + all of dropped + all of rejected, at every moment. */
export interface Ledger {
  /** The first sequence number of this file. */
  first: number;
  /** The last one given out; `first - 1` when none was. */
  last: number;
  produced: number;
  delivered: number;
  pending: number;
  dropped: { [reason: string]: number };
  rejected: { [reason: string]: number };
}

export interface OutboxStats extends Ledger {
  /** Bytes on disk that count against the bound. */
  bytes: number;
  /** Unix ms at which the oldest waiting record came in. */
  oldestAt: number | undefined;
}

interface Row {
  seq: number;
  boot: string;
  topic: string;
  key: string;
  body: string;
}

const DEAD_LETTERS_KEPT = 10_000;

export class Outbox {
  private readonly db: Db;
  private options: Required<OutboxOptions>;
  private readonly statements;
  private readonly pageSize: number;
  private readonly first: number;
  private last: number;
  private pendingCount: number;
  /** Records up to here have waited out an outage, or a restart. */
  private replayedUpTo: number;
  private changed = Promise.withResolvers<void>();

  constructor(options: OutboxOptions) {
    this.options = { nowMs: Date.now, ...options };
    this.db = openDb(options.file);
    this.db.exec(`
      CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS records (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, boot TEXT NOT NULL, topic TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL);
      CREATE TABLE IF NOT EXISTS notices (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
      CREATE TABLE IF NOT EXISTS baselines (router TEXT PRIMARY KEY, baseline TEXT NOT NULL) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS counts (what TEXT NOT NULL, reason TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (what, reason)) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS dead_letters (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, topic TEXT NOT NULL, key TEXT NOT NULL, reason TEXT NOT NULL, body TEXT NOT NULL);
    `);
    this.statements = {
      meta: this.db.prepare<[string], { value: number }>('SELECT value FROM meta WHERE name = ?'),
      setMeta: this.db.prepare('INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value'),
      insert: this.db.prepare('INSERT INTO records (seq, at, boot, topic, key, body) VALUES (?, ?, ?, ?, ?, ?)'),
      peek: this.db.prepare<[number], Row>('SELECT seq, boot, topic, key, body FROM records ORDER BY seq LIMIT ?'),
      peekNotices: this.db.prepare<[number], { id: number; body: string }>('SELECT id, body FROM notices ORDER BY id LIMIT ?'),
      remove: this.db.prepare('DELETE FROM records WHERE seq BETWEEN ? AND ?'),
      removeNotice: this.db.prepare('DELETE FROM notices WHERE id = ?'),
      addNotice: this.db.prepare('INSERT INTO notices (body) VALUES (?)'),
      bury: this.db.prepare(
        'INSERT OR IGNORE INTO dead_letters (seq, at, topic, key, reason, body) SELECT seq, ?, topic, key, ?, body FROM records WHERE seq = ?',
      ),
      trimDead: this.db.prepare('DELETE FROM dead_letters WHERE seq <= (SELECT seq FROM dead_letters ORDER BY seq DESC LIMIT 1 OFFSET ?)'),
      count: this.db.prepare('INSERT INTO counts (what, reason, n) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n'),
      counts: this.db.prepare<[], { what: string; reason: string; n: number }>('SELECT what, reason, n FROM counts'),
      pending: this.db.prepare<[], { n: number }>('SELECT count(*) AS n FROM records'),
      oldest: this.db.prepare<[], { at: number }>('SELECT at FROM records ORDER BY seq LIMIT 1'),
      oldestSeqs: this.db.prepare<[number], { seq: number; at: number; bytes: number }>(
        'SELECT seq, at, length(body) AS bytes FROM records ORDER BY seq LIMIT ?',
      ),
      baselines: this.db.prepare<[], { router: string; baseline: string }>('SELECT router, baseline FROM baselines'),
      setBaseline: this.db.prepare(
        'INSERT INTO baselines (router, baseline) VALUES (?, ?) ON CONFLICT DO UPDATE SET baseline = excluded.baseline',
      ),
    };
    this.pageSize = Number(this.db.pragma('page_size', { simple: true }));
    const first = this.statements.meta.get('first_seq')?.value;
    if (first === undefined) {
      this.first = Math.max(1, Math.floor(this.options.nowMs()));
      this.last = this.first - 1;
      this.db.transaction(() => {
        this.statements.setMeta.run('first_seq', this.first);
        this.statements.setMeta.run('last_seq', this.last);
      })();
    } else {
      this.first = first;
      this.last = this.statements.meta.get('last_seq')?.value ?? first - 1;
    }
    this.pendingCount = this.statements.pending.get()?.n ?? 0;
    this.replayedUpTo = this.last;
  }

  /** Goes over to new bounds. */
  configure(bounds: { maxBytes: number; maxAgeMs: number; noticeTopic: string }): void {
    this.options = { ...this.options, ...bounds };
  }

  /**
   * Commits records and the baselines that go with them; durable when it returns.
   * @returns the sequence number of the first record
   */
  append(records: readonly NewRecord[], baselines: ReadonlyMap<string, Baseline> = new Map()): number {
    const { insert, setMeta, setBaseline, count } = this.statements;
    const now = this.options.nowMs();
    const start = this.last + 1;
    let dropped = 0;
    this.db
      .transaction(() => {
        records.forEach(({ topic, key, body }, i) => insert.run(start + i, now, this.options.boot, topic, key, body));
        if (records.length > 0) {
          setMeta.run('last_seq', start + records.length - 1);
          count.run('produced', '', records.length);
        }
        for (const [router, baseline] of baselines) setBaseline.run(router, JSON.stringify(baseline));
        dropped = this.evict(now);
      })
      .immediate();
    this.last += records.length;
    this.pendingCount += records.length - dropped;
    if (records.length > 0) this.signalChange();
    return start;
  }

  /** The oldest entries waiting, notices first; they stay until settled. */
  peek(limit: number): Entry[] {
    const notices = this.statements.peekNotices.all(limit).map(({ id, body }): Entry => this.notice(-id, body));
    const records = this.statements.peek.all(limit - notices.length).map(({ seq, boot, topic, key, body }): Entry => {
      const headers: Headers = { [HEADER.agent]: this.options.agentId, [HEADER.boot]: boot, [HEADER.seq]: String(seq) };
      if (seq <= this.replayedUpTo) headers[HEADER.replayed] = '1';
      return { seq, topic, key, headers, body };
    });
    return [...notices, ...records];
  }

  /** An entry that is sent beside the records and not kept: the ledger. */
  notice(seq: number, body: string): Entry {
    const { agentId, boot, noticeTopic } = this.options;
    return { seq, topic: noticeTopic, key: agentId, headers: { [HEADER.agent]: agentId, [HEADER.boot]: boot }, body };
  }

  /** Deletes what was confirmed, and moves what was refused for good to the local dead letters. */
  settle({ acked, rejected }: Delivery): void {
    const { remove, removeNotice, bury, trimDead, count } = this.statements;
    const now = this.options.nowMs();
    let gone = 0;
    this.db.pragma('synchronous = NORMAL');
    try {
      this.db
        .transaction(() => {
          let delivered = 0;
          for (const { first, last } of runs(acked)) {
            if (last < 0) for (let seq = first; seq <= last; seq += 1) removeNotice.run(-seq);
            else delivered += remove.run(first, last).changes;
          }
          if (delivered > 0) count.run('delivered', '', delivered);
          gone = delivered;
          for (const { seq, reason } of rejected) {
            if (seq < 0) {
              removeNotice.run(-seq);
              continue;
            }
            bury.run(now, reason, seq);
            const { changes } = remove.run(seq, seq);
            if (changes > 0) count.run('rejected', reason, changes);
            gone += changes;
          }
          if (rejected.length > 0) trimDead.run(DEAD_LETTERS_KEPT);
        })
        .immediate();
    } finally {
      this.db.pragma('synchronous = FULL');
    }
    this.pendingCount -= gone;
  }

  /** From now on everything that waits counts as having waited out an outage. */
  markReplayed(): void {
    this.replayedUpTo = this.last;
  }

  /** The routers' baselines as last committed. */
  baselines(): Map<string, Baseline> {
    return new Map(this.statements.baselines.all().map(({ router, baseline }) => [router, JSON.parse(baseline) as Baseline]));
  }

  ledger(): Ledger {
    const ledger: Ledger = {
      first: this.first,
      last: this.last,
      produced: 0,
      delivered: 0,
      pending: this.pendingCount,
      dropped: {},
      rejected: {},
    };
    for (const { what, reason, n } of this.statements.counts.all()) {
      if (what === 'produced' || what === 'delivered') ledger[what] = n;
      else if (what === 'dropped' || what === 'rejected') ledger[what][reason] = n;
    }
    return ledger;
  }

  stats(): OutboxStats {
    return { ...this.ledger(), bytes: this.bytes(), oldestAt: this.statements.oldest.get()?.at };
  }

  /** Resolves at the next append. */
  nextAppend(): Promise<void> {
    return this.changed.promise;
  }

  close(): void {
    this.db.close();
  }

  private bytes(): number {
    const pages = Number(this.db.pragma('page_count', { simple: true })) - Number(this.db.pragma('freelist_count', { simple: true }));
    let wal = 0;
    try {
      wal = statSync(`${this.options.file}-wal`).size;
    } catch {
      // No write-ahead log yet.
    }
    return pages * this.pageSize + wal;
  }

  /** Drops the oldest records beyond the bounds; runs inside the append's transaction. Returns how many. */
  private evict(now: number): number {
    let total = 0;
    const cutoff = this.options.maxAgeMs > 0 ? now - this.options.maxAgeMs : -Infinity;
    for (;;) {
      const over = this.bytes() - this.options.maxBytes;
      const rows = this.statements.oldestSeqs.all(over > 0 ? 1000 : 100);
      const aged = rows.findIndex(({ at }) => at >= cutoff);
      const old = aged < 0 ? rows.length : aged;
      if (old > 0) {
        total += this.drop(rows.slice(0, old), 'age', now);
        continue;
      }
      if (over <= 0 || rows.length === 0) return total;
      let freed = 0;
      const out: typeof rows = [];
      for (const row of rows) {
        if (freed >= over + this.pageSize) break;
        out.push(row);
        freed += row.bytes;
      }
      total += this.drop(out, 'buffer_full', now);
      // Pages become free only when all their rows are gone: one round a commit is enough to stay at the bound.
      if (freed >= over) return total;
    }
  }

  private drop(rows: Array<{ seq: number }>, reason: string, now: number): number {
    let dropped = 0;
    for (const { first, last } of runs(rows.map((row) => row.seq))) {
      const { changes } = this.statements.remove.run(first, last);
      dropped += changes;
      const notice = { type: 'gap', agent: this.options.agentId, from: first, to: last, count: changes, reason, at: now };
      this.statements.addNotice.run(JSON.stringify(notice));
    }
    this.statements.count.run('dropped', reason, dropped);
    return dropped;
  }

  private signalChange(): void {
    this.changed.resolve();
    this.changed = Promise.withResolvers<void>();
  }
}

/** Numbers as runs of neighbours, in order. */
function runs(numbers: readonly number[]): Array<{ first: number; last: number }> {
  const found: Array<{ first: number; last: number }> = [];
  for (const n of [...numbers].sort((a, b) => a - b)) {
    const run = found.at(-1);
    if (run !== undefined && n === run.last + 1) run.last = n;
    else if (run === undefined || n !== run.last) found.push({ first: n, last: n });
  }
  return found;
}
