/**
 * The append log behind the embedded bus: topics, messages with increasing offsets, positions and state of consumer groups, and the
 * sequence numbers already taken in, all in one SQLite file, so that what belongs together commits together.
 *
 * Offsets are unique over all topics and never used again (AUTOINCREMENT). Everything here is synchronous and runs inside a
 * transaction of the caller (`transaction`); several processes on one machine may have the file open.
 */
import type { Headers, Message } from './bus.ts';
import { SeqSets } from './dedupe.ts';
import { type Db, openDb } from './sqlite.ts';

export interface LogRow {
  topic: string;
  offset: number;
  timestamp: number;
  key: string | null;
  headers: Headers;
  value: Buffer;
}

export interface Retention {
  /** Most bytes of values that a topic keeps. */
  maxBytes: number;
  /** Milliseconds; 0 is for ever. */
  maxAgeMs: number;
}

interface RawRow {
  id: number;
  at: number;
  key: string | null;
  headers: string;
  value: Buffer;
}

export class Log {
  readonly db: Db;
  readonly seen: SeqSets;
  private readonly topicIds = new Map<string, number>();
  private readonly statements;

  constructor(file: string) {
    this.db = openDb(file);
    this.db.exec(`
      CREATE TABLE IF NOT EXISTS topics (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL DEFAULT 0);
      CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY AUTOINCREMENT, topic INTEGER NOT NULL, at INTEGER NOT NULL, key TEXT, headers TEXT NOT NULL, value BLOB NOT NULL);
      CREATE INDEX IF NOT EXISTS log_by_topic ON log (topic, id);
      CREATE TABLE IF NOT EXISTS positions (grp TEXT NOT NULL, topic INTEGER NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (grp, topic)) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS state (grp TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (grp, key)) WITHOUT ROWID;
    `);
    this.seen = new SeqSets(this.db);
    this.statements = {
      addTopic: this.db.prepare('INSERT INTO topics (name) VALUES (?) ON CONFLICT (name) DO NOTHING'),
      topicId: this.db.prepare<[string], { id: number }>('SELECT id FROM topics WHERE name = ?'),
      topics: this.db.prepare<[], { id: number; name: string; bytes: number }>('SELECT id, name, bytes FROM topics'),
      grow: this.db.prepare('UPDATE topics SET bytes = bytes + ? WHERE id = ?'),
      append: this.db.prepare('INSERT INTO log (topic, at, key, headers, value) VALUES (?, ?, ?, ?, ?)'),
      read: this.db.prepare<[number, number, number], RawRow>(
        'SELECT id, at, key, headers, value FROM log WHERE topic = ? AND id >= ? ORDER BY id LIMIT ?',
      ),
      count: this.db.prepare<[number], { n: number }>('SELECT count(*) AS n FROM log WHERE topic = ?'),
      heads: this.db.prepare<[number], { topic: number; head: number }>(
        'SELECT topic, max(id) AS head FROM log WHERE id > ? GROUP BY topic',
      ),
      newest: this.db.prepare<[], { id: number | null }>('SELECT max(id) AS id FROM log'),
      position: this.db.prepare<[string, number], { next: number }>('SELECT next FROM positions WHERE grp = ? AND topic = ?'),
      setPosition: this.db.prepare(
        'INSERT INTO positions (grp, topic, next) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET next = excluded.next',
      ),
      least: this.db.prepare<[number], { next: number | null }>('SELECT min(next) AS next FROM positions WHERE topic = ?'),
      state: this.db.prepare<[string], { key: string; value: Buffer }>('SELECT key, value FROM state WHERE grp = ?'),
      setState: this.db.prepare('INSERT INTO state (grp, key, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value'),
      dropState: this.db.prepare('DELETE FROM state WHERE grp = ? AND key = ?'),
      lag: this.db.prepare<[], { grp: string; name: string; lag: number }>(
        'SELECT p.grp, t.name, (SELECT count(*) FROM log WHERE topic = p.topic AND id >= p.next) AS lag FROM positions p JOIN topics t ON t.id = p.topic',
      ),
      oldest: this.db.prepare<[number, number], { id: number; at: number; bytes: number }>(
        'SELECT id, at, length(value) AS bytes FROM log WHERE topic = ? ORDER BY id LIMIT ?',
      ),
      drop: this.db.prepare('DELETE FROM log WHERE topic = ? AND id <= ?'),
    };
  }

  /** Runs everything in it as one commit, or not at all. */
  transaction<T>(work: () => T): T {
    return this.orForget(() => this.db.transaction(work).immediate());
  }

  /** A part of a transaction: taken back alone when it throws, unless SQLite has ended the whole transaction (a full disk does). */
  part<T>(work: () => T): T {
    return this.orForget(() => this.db.transaction(work)());
  }

  append(messages: readonly Message[], now: number): void {
    const grown = new Map<number, number>();
    for (const { topic, key, headers, value } of messages) {
      const id = this.topicId(topic);
      this.statements.append.run(id, now, key, JSON.stringify(headers), value);
      grown.set(id, (grown.get(id) ?? 0) + value.length);
    }
    for (const [id, bytes] of grown) this.statements.grow.run(bytes, id);
  }

  /** Messages from an offset on, until there are so many, or so many bytes of values; one at least. */
  read(topic: number, name: string, from: number, limit: number, mostBytes = Number.POSITIVE_INFINITY): LogRow[] {
    const rows: LogRow[] = [];
    let bytes = 0;
    for (const { id, at, key, headers, value } of this.statements.read.iterate(topic, from, limit)) {
      rows.push({ topic: name, offset: id, timestamp: at, key, headers: JSON.parse(headers) as Headers, value });
      bytes += value.length;
      if (bytes >= mostBytes) break;
    }
    return rows;
  }
  count(topic: number): number {
    return this.statements.count.get(topic)?.n ?? 0;
  }

  /** Topics that have messages after `offset`, with their newest. */
  headsAfter(offset: number): Array<{ topic: number; head: number }> {
    return this.statements.heads.all(offset);
  }
  newest(): number {
    return this.statements.newest.get()?.id ?? 0;
  }
  topics(): Array<{ id: number; name: string; bytes: number }> {
    return this.statements.topics.all();
  }
  position(group: string, topic: number): number {
    return this.statements.position.get(group, topic)?.next ?? 0;
  }
  hasPosition(group: string, topic: number): boolean {
    return this.statements.position.get(group, topic) !== undefined;
  }
  setPosition(group: string, topic: number, next: number): void {
    this.statements.setPosition.run(group, topic, next);
  }
  state(group: string): Map<string, Buffer> {
    return new Map(this.statements.state.all(group).map(({ key, value }) => [key, value]));
  }
  setState(group: string, state: Map<string, Buffer | null>): void {
    for (const [key, value] of state) {
      if (value === null) this.statements.dropState.run(group, key);
      else this.statements.setState.run(group, key, value);
    }
  }
  /** Messages that each group has still to handle, by topic. */
  lag(): Array<{ group: string; topic: string; lag: number }> {
    return this.statements.lag.all().map(({ grp, name, lag }) => ({ group: grp, topic: name, lag }));
  }

  /**
   * Deletes what is past retention, oldest first, at most `limit` messages of each topic. Messages that a group has still to handle
   * are kept past their age and up to twice the size; what has to go beyond that is returned as dropped, unread.
   * @param awaited whether a group reads a topic of which it has handled nothing yet, so that it has no position there
   */
  retain(
    retention: Retention,
    now: number,
    limit = 5000,
    awaited: (topic: { id: number; name: string }) => boolean = () => false,
  ): { deleted: number; unread: number } {
    let deleted = 0;
    let unread = 0;
    for (const { id, name, bytes } of this.statements.topics.all()) {
      const least = awaited({ id, name }) ? 0 : (this.statements.least.get(id)?.next ?? Number.POSITIVE_INFINITY);
      let left = bytes;
      let last = 0;
      // One by one: nearly always the first row ends it.
      for (const row of this.statements.oldest.iterate(id, limit)) {
        const old = retention.maxAgeMs > 0 && row.at < now - retention.maxAgeMs;
        const handled = row.id < least;
        if (!(handled ? old || left > retention.maxBytes : left > 2 * retention.maxBytes)) break;
        left -= row.bytes;
        last = row.id;
        deleted += 1;
        if (!handled) unread += 1;
      }
      if (last === 0) continue;
      this.statements.drop.run(id, last);
      this.statements.grow.run(left - bytes, id);
    }
    return { deleted, unread };
  }

  close(): void {
    this.db.close();
  }

  /** Numbers of topics given out in a transaction that is taken back are void. */
  private orForget<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      this.topicIds.clear();
      throw error;
    }
  }

  private topicId(name: string): number {
    let id = this.topicIds.get(name);
    if (id === undefined) {
      this.statements.addTopic.run(name);
      id = this.statements.topicId.get(name)?.id;
      if (id === undefined) throw new Error(`topic ${name} is neither new nor there`);
      this.topicIds.set(name, id);
    }
    return id;
  }
}
