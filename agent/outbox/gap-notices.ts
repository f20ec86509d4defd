/**
 * Gap notices: what was dropped, told to the receiving side. A gap next to one that has not been sent yet is the same gap, so that a long
 * outage with a full buffer leaves a line and not a thousand. While the disk takes nothing they are kept in memory, under numbers of their
 * own.
 */
import type { OutboxDb } from './database.ts';
import type { Gap } from './start.ts';

export interface KeptNotice {
  id: number;
  body: string;
}

interface Told {
  id: number;
  gap: Gap;
  sent: boolean;
}

/** Numbers of notices in memory begin here; those of the database never come so far. */
const IN_MEMORY = 2 ** 40;
const MOST_IN_MEMORY = 200;

export class GapNotices {
  private readonly agentId: string;
  private readonly nowMs: () => number;
  private readonly memory = new Map<number, string>();
  private readonly told = new Map<string, Told>();
  /** Confirmed while the database could not be written to: to be removed there. */
  private readonly confirmed = new Set<number>();
  private next = IN_MEMORY;

  constructor(agentId: string, nowMs: () => number) {
    this.agentId = agentId;
    this.nowMs = nowMs;
  }

  /** How many there are to write down: told in memory, or to be removed from the database. */
  get size(): number {
    return this.memory.size + this.confirmed.size;
  }

  /** Tells a gap: inside a transaction with a database, else in memory. */
  tell(db: OutboxDb | undefined, gap: Gap): void {
    const before = this.told.get(gap.reason);
    // Of very many in memory one is made: of too wide a range, and told twice where it was on its way, but told.
    if (db === undefined && before !== undefined && this.memory.has(before.id) && this.memory.size >= MOST_IN_MEMORY) {
      const [first, last] = [Math.min(before.gap.first, gap.first), Math.max(before.gap.last, gap.last)];
      const wider = { ...gap, first, last, count: before.gap.count + gap.count };
      this.memory.delete(before.id);
      this.told.set(gap.reason, { id: this.keep(this.text(wider)), gap: wider, sent: false });
      return;
    }
    if (before !== undefined && !before.sent && before.gap.last === gap.first - 1 && before.id < IN_MEMORY === (db !== undefined)) {
      before.gap = { ...before.gap, last: gap.last, count: before.gap.count + gap.count };
      if (db === undefined) this.memory.set(before.id, this.text(before.gap));
      else db.setNotice(before.id, this.text(before.gap));
      return;
    }
    const text = this.text(gap);
    const id = db === undefined ? this.keep(text) : db.addNotice(text);
    this.told.set(gap.reason, { id, gap: { ...gap }, sent: false });
  }

  text({ first, last, count, reason }: Gap): string {
    const at = Math.max(0, Math.floor(this.nowMs()));
    return JSON.stringify({ type: 'gap', agent: this.agentId, from: first, to: last, count, reason, at });
  }

  /** Keeps a notice in memory, of a gap or of something else. */
  keep(text: string): number {
    const id = this.next;
    this.next += 1;
    this.memory.set(id, text);
    return id;
  }

  /** Those that wait, the database's first. What is given out here is not added to any more. */
  list(db: OutboxDb | undefined, limit: number): KeptNotice[] {
    const inDatabase = (db?.notices(limit + this.confirmed.size) ?? []).filter(({ id }) => !this.confirmed.has(id));
    const found = [...inDatabase, ...[...this.memory].map(([id, body]) => ({ id, body }))].slice(0, limit);
    for (const told of this.told.values()) if (found.some(({ id }) => id === told.id)) told.sent = true;
    return found;
  }

  /** Forgets what was confirmed of those in memory; returns the numbers of those in the database. */
  settle(ids: readonly number[]): number[] {
    for (const id of ids) this.memory.delete(id);
    return ids.filter((id) => id < IN_MEMORY);
  }

  /** The database does not take it now: confirmed ones are not given out again, and are removed when it does. */
  settleLater(ids: readonly number[]): void {
    for (const id of ids) this.confirmed.add(id);
  }

  /** Inside a transaction: what was told and confirmed in memory goes over to the database. */
  writeTo(db: OutboxDb): void {
    for (const id of this.confirmed) db.removeNotice(id);
    for (const text of this.memory.values()) db.addNotice(text);
  }

  /** The database is another one, with numbers of its own. */
  forgetConfirmed(): void {
    this.confirmed.clear();
  }

  /** What was told may not be there: the next gap is one of its own. */
  forget(): void {
    for (const [reason, { id }] of this.told) if (id < IN_MEMORY) this.told.delete(reason);
  }

  /** Those in memory have gone over to the disk. */
  clearMemory(): void {
    this.memory.clear();
    this.confirmed.clear();
    this.told.clear();
  }
}
