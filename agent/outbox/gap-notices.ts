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

export class GapNotices {
  private readonly agentId: string;
  private readonly nowMs: () => number;
  private readonly memory = new Map<number, string>();
  private readonly told = new Map<string, Told>();
  private next = IN_MEMORY;

  constructor(agentId: string, nowMs: () => number) {
    this.agentId = agentId;
    this.nowMs = nowMs;
  }

  /** How many are in memory. */
  get size(): number {
    return this.memory.size;
  }

  /** Texts of those in memory. */
  inMemory(): string[] {
    return [...this.memory.values()];
  }

  /** Tells a gap: inside a transaction with a database, else in memory. */
  tell(db: OutboxDb | undefined, gap: Gap): void {
    const before = this.told.get(gap.reason);
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
    const found = [...(db?.notices(limit) ?? []), ...[...this.memory].map(([id, body]) => ({ id, body }))].slice(0, limit);
    for (const told of this.told.values()) if (found.some(({ id }) => id === told.id)) told.sent = true;
    return found;
  }

  /** Forgets what was confirmed of those in memory; returns the numbers of those in the database. */
  settle(ids: readonly number[]): number[] {
    for (const id of ids) this.memory.delete(id);
    return ids.filter((id) => id < IN_MEMORY);
  }

  /** What was told may not be there: the next gap is one of its own. */
  forget(): void {
    this.told.clear();
  }

  /** Those in memory have gone over to the disk. */
  clearMemory(): void {
    this.memory.clear();
    this.told.clear();
  }
}
