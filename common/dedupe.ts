/**
 * The sequence numbers of each agent that have arrived, as ranges: exact for ever, and one row per agent as long as nothing is
 * missing. A number is new or it is a duplicate; the holes between the ranges are what has not come (yet).
 */
import type { Db } from './sqlite.ts';

export interface SeqRange {
  first: number;
  last: number;
}

export interface AgentSeqs {
  agent: string;
  /** The first number of this agent that arrived in order; where its numbering starts. */
  lowest: number;
  highest: number;
  /** Records that arrived, each counted once. */
  received: number;
  duplicates: number;
  /** Numbers between the lowest and the highest that have not arrived. */
  missing: SeqRange[];
}

export class SeqSets {
  private readonly db: Db;
  private readonly statements;

  constructor(db: Db) {
    this.db = db;
    db.exec(`
      CREATE TABLE IF NOT EXISTS seen (agent TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (agent, first)) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS seen_agents (agent TEXT PRIMARY KEY, duplicates INTEGER NOT NULL) WITHOUT ROWID;
    `);
    this.statements = {
      floor: db.prepare<[string, number], SeqRange>(
        'SELECT first, last FROM seen WHERE agent = ? AND first <= ? ORDER BY first DESC LIMIT 1',
      ),
      next: db.prepare<[string, number], SeqRange>('SELECT first, last FROM seen WHERE agent = ? AND first = ?'),
      put: db.prepare('INSERT INTO seen (agent, first, last) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET last = excluded.last'),
      remove: db.prepare('DELETE FROM seen WHERE agent = ? AND first = ?'),
      know: db.prepare(
        'INSERT INTO seen_agents (agent, duplicates) VALUES (?, ?) ON CONFLICT DO UPDATE SET duplicates = duplicates + excluded.duplicates',
      ),
      agents: db.prepare<[], { agent: string; duplicates: number }>('SELECT agent, duplicates FROM seen_agents ORDER BY agent'),
      ranges: db.prepare<[string], SeqRange>('SELECT first, last FROM seen WHERE agent = ? ORDER BY first'),
    };
  }

  /** Whether a number has arrived. */
  has(agent: string, seq: number): boolean {
    const below = this.statements.floor.get(agent, seq);
    return below !== undefined && seq <= below.last;
  }

  /** Marks a number as arrived. Returns false when it had arrived before. Run inside the transaction that stores the record. */
  add(agent: string, seq: number): boolean {
    const { floor, next, put, remove, know } = this.statements;
    const below = floor.get(agent, seq);
    if (below !== undefined && seq <= below.last) {
      know.run(agent, 1);
      return false;
    }
    if (below === undefined) know.run(agent, 0);
    const above = next.get(agent, seq + 1);
    const first = below !== undefined && below.last === seq - 1 ? below.first : seq;
    if (above !== undefined) remove.run(agent, above.first);
    put.run(agent, first, above?.last ?? seq);
    return true;
  }

  /** Marks numbers as arrived, in a transaction of their own. */
  addAll(numbers: ReadonlyArray<{ agent: string; seq: number }>): void {
    this.db.transaction(() => {
      for (const { agent, seq } of numbers) this.add(agent, seq);
    })();
  }

  agents(): AgentSeqs[] {
    return this.statements.agents.all().map(({ agent, duplicates }) => {
      const ranges = this.statements.ranges.all(agent);
      const missing: SeqRange[] = [];
      const lowest = ranges[0]?.first ?? 0;
      let expected = lowest;
      let received = 0;
      for (const { first, last } of ranges) {
        if (first > expected) missing.push({ first: expected, last: first - 1 });
        received += last - first + 1;
        expected = last + 1;
      }
      return { agent, lowest, highest: expected - 1, received, duplicates, missing };
    });
  }
}
