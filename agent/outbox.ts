/**
 * The outbox: every record is kept here before it is sent and leaves only when the receiving side has confirmed it.
 *
 * **On disk.** One SQLite file. A commit of new records waits for the disk (durability `full`) and carries everything that belongs to them:
 * numbers, records, the routers' baselines and the ledger's counts. Deleting confirmed records does not wait: a power cut then sends some of
 * them again, under the same number, and the receiver drops them. What a bound forces out is counted and leaves a gap notice, which is sent
 * like a record.
 *
 * **In memory.** A small ring takes the records while the disk does not (full, read-only, failing, slow), and with durability `on-outage`
 * until they have waited a while. Numbers in memory are above all numbers on disk, and everything goes over to the disk at once, so order and
 * account stay whole. What dies with the process is bounded by a mark outside the database (`HighWater`), and is named at the next start.
 *
 * **The account** is kept in memory and is exact at every moment; each commit writes it down with the records it counts.
 *
 * **Damage**, noticed at whatever moment, is answered by a new file with all that can be read of the old one (`salvage.ts`); the difference
 * to the account is what was lost, and is named. Nothing that the disk does is thrown at the caller.
 *
 * **Age** is counted in time that the machine was on, by the monotonic clock, so that no step of the wall clock makes a record old.
 */
import { HEADER, type Headers } from '../common/bus.ts';
import type { Baseline } from '../common/rates.ts';
import { add, type Ledger, runs, waiting } from './outbox/account.ts';
import { bytesOnDisk, type DamagedRows, type DeadLetter, type OutboxDb, type Row } from './outbox/database.ts';
import { DamageError } from './outbox/faults.ts';
import { Keeper } from './outbox/keeper.ts';
import type { LaneName, NewRecord, OutboxBounds, OutboxOptions, OutboxStats, Where } from './outbox/options.ts';
import type { Delivery, Entry } from './uplink.ts';
import { restamp } from './wall-clock.ts';

export type { Ledger } from './outbox/account.ts';
export type { Policy } from './outbox/memory.ts';
export {
  type Durability,
  kernelBootId,
  type LaneName,
  type NewRecord,
  type OutboxBounds,
  type OutboxEvent,
  type OutboxOptions,
  type OutboxStats,
  type Where,
} from './outbox/options.ts';

/** Marks on entries beside the contract's. */
export const OUTBOX_HEADER = { restamped: 'ndt-restamped', clock: 'ndt-clock' } as const;

export class Outbox {
  private readonly keeper: Keeper;
  private changed = Promise.withResolvers<void>();

  constructor(options: OutboxOptions) {
    this.keeper = new Keeper(options);
  }

  /** Goes over to new bounds. */
  configure(bounds: OutboxBounds): void {
    this.keeper.configure(bounds);
  }

  /**
   * Takes records in, and the baselines that go with them; as durable as the settings say when it returns. Never fails: what the disk does
   * not take is kept in memory.
   * @returns the sequence number of the first record
   */
  append(records: readonly NewRecord[], baselines: ReadonlyMap<string, Baseline> = new Map()): number {
    for (const [router, baseline] of baselines) this.keeper.changedBaselines.set(router, baseline);
    const at = Math.max(0, Math.floor(this.keeper.options.nowMs()));
    const era = this.keeper.options.wallClock?.check() ?? 0;
    const elapsed = this.keeper.elapsed();
    const rows = records.map(
      ({ topic, key, body }): Row => ({ seq: 0, at, elapsed, era, boot: this.keeper.options.boot, topic, key, body }),
    );
    const first = this.keeper.account.last + 1;
    let done = 0;
    if (this.keeper.goesToDisk()) {
      this.keeper.onDisk((db) => {
        if (rows.length === 0 && this.keeper.changedBaselines.size > 0) this.keeper.commitOther(db);
        while (done < rows.length) {
          const part = this.keeper.partOf(rows, done, db.mostBytes);
          this.appendToDisk(db, part);
          done += part.length;
        }
      });
    }
    if (done < rows.length) this.appendToMemory(rows.slice(done));
    if (rows.length > 0) this.signalChange();
    return rows[0]?.seq ?? first;
  }

  /** The oldest entries waiting, notices first; they stay until settled. */
  peek(limit: number): Entry[] {
    const notices = this.notices(limit);
    return [...notices, ...this.read('all', limit - notices.length)];
  }

  /** Notices that wait: they are sent before any record. */
  notices(limit: number): Entry[] {
    const { keeper } = this;
    const kept = keeper.onOpenFile((db) => keeper.notices.list(db, limit)) ?? keeper.notices.list(undefined, limit);
    return kept.map(({ id, body }) => this.notice(-id, body));
  }

  /** The oldest records of a lane above a number, in order; they stay until settled. */
  read(lane: LaneName, limit: number, above = 0): Entry[] {
    const low = Math.max(above + 1, lane === 'fresh' ? this.keeper.replayedUpTo + 1 : 1);
    const high = lane === 'backlog' ? this.keeper.replayedUpTo : Number.MAX_SAFE_INTEGER;
    if (limit <= 0 || low > high) return [];
    const rows: Row[] = [];
    this.keeper.onOpenFile((db) => {
      rows.length = 0;
      let from = low;
      while (rows.length < limit && from <= high) {
        from = this.keeper.gone.seqs.outside(from);
        const { rows: read, damaged } = db.read(from, high, limit - rows.length);
        if (damaged.length > 0 && !this.keeper.disk.isCutOff) this.dropDamaged(db, damaged);
        for (const row of read) if (!this.keeper.gone.seqs.has(row.seq)) rows.push(row);
        const last = Math.max(read.at(-1)?.seq ?? 0, damaged.at(-1)?.seqs.at(-1) ?? 0);
        if (last === 0) break;
        from = last + 1;
      }
      for (const { seq } of rows) this.keeper.outstanding.add(seq);
    });
    return [...rows, ...this.keeper.memory.read(low, high, limit - rows.length)].map((row) => this.entry(row));
  }

  /** An entry that is sent beside the records and not kept: the ledger. */
  notice(seq: number, body: string): Entry {
    const { agentId, boot, noticeTopic } = this.keeper.options;
    return { seq, topic: noticeTopic, key: agentId, headers: { [HEADER.agent]: agentId, [HEADER.boot]: boot }, body };
  }

  /** Deletes what was confirmed, and moves what was refused for good to the local dead letters. Settling twice does no harm. */
  settle({ acked, rejected }: Delivery): void {
    const ids = [...acked, ...rejected.map(({ seq }) => seq)].filter((seq) => seq < 0).map((seq) => -seq);
    const kept = this.keeper.notices.settle(ids);
    const at = this.keeper.options.nowMs();
    const letters: DeadLetter[] = [];
    const onDisk: Delivery = { acked: [], rejected: [] };
    for (const seq of acked) {
      if (seq <= 0) continue;
      if (this.keeper.memory.remove(seq) === undefined) onDisk.acked.push(seq);
      else this.keeper.account.delivered += this.countSettled(seq);
    }
    for (const { seq, reason } of rejected) {
      if (seq <= 0) continue;
      const row = this.keeper.memory.remove(seq);
      if (row === undefined) onDisk.rejected.push({ seq, reason });
      else {
        add(this.keeper.account.rejected, reason, this.countSettled(seq));
        letters.push({ ...row, at, reason });
      }
    }
    if (onDisk.acked.length + onDisk.rejected.length + kept.length + letters.length === 0) return;
    const done = this.keeper.onDisk((db) => {
      this.settleOnDisk(db, onDisk, kept, letters);
      return true;
    });
    if (done === true) return;
    this.keeper.notices.settleLater(kept);
    for (const letter of letters) this.keeper.letters.add(letter, this.keeper.options.memoryBytes);
    this.settleLater(onDisk);
  }

  /** From now on everything that waits counts as having waited out an outage. */
  markReplayed(): void {
    if (this.keeper.replayedUpTo === this.keeper.account.last) return;
    this.keeper.replayedUpTo = this.keeper.account.last;
    this.keeper.fresh = 0;
    // What was read before will be read again.
    this.keeper.outstanding.clear();
    this.signalChange();
  }

  /** The routers' baselines as last committed. */
  baselines(): Map<string, Baseline> {
    return new Map([...this.keeper.savedBaselines, ...this.keeper.changedBaselines]);
  }

  ledger(): Ledger {
    const { first, last, produced, delivered, dropped, rejected } = this.keeper.account;
    return { first, last, produced, delivered, pending: waiting(this.keeper.account), dropped: { ...dropped }, rejected: { ...rejected } };
  }

  stats(): OutboxStats {
    const ledger = this.ledger();
    const oldest = this.keeper.onOpenFile((db) => db.oldest(0, 1)[0]?.elapsed) ?? this.keeper.memory.oldest?.elapsed;
    return {
      ...ledger,
      bytes: bytesOnDisk(this.keeper.options.file),
      maxBytes: this.keeper.options.maxBytes,
      oldestMs: oldest === undefined ? undefined : Math.max(0, this.keeper.elapsed() - oldest),
      backlog: Math.max(0, ledger.pending - this.keeper.fresh),
      memory: { records: this.keeper.memory.size, bytes: this.keeper.memory.bytes },
      ...this.keeper.whereabouts(),
      faults: { ...this.keeper.disk.faults },
      repairs: this.keeper.counted.repairs,
      restamped: this.keeper.counted.restamped,
    };
  }

  /** Where new records are kept now, and why in memory where that is not as it should be. */
  whereabouts(): { where: Where; cause: string | undefined } {
    return this.keeper.whereabouts();
  }

  /** Records that wait, counted one by one: for a check on demand, as it takes time with a large backlog. */
  count(): number {
    return (
      (this.keeper.db?.db.prepare<[], { n: number }>('SELECT count(*) AS n FROM records').get()?.n ?? 0) -
      this.keeper.gone.seqs.size +
      this.keeper.memory.size
    );
  }

  /** Resolves at the next append, or when a lane has changed otherwise. */
  nextChange(): Promise<void> {
    return this.changed.promise;
  }

  /** What has to be done from time to time; call it about once a second. */
  maintain(): void {
    this.keeper.maintain();
  }

  /** Takes everything to the disk and ends. */
  close(): void {
    this.keeper.close();
  }

  private appendToDisk(db: OutboxDb, rows: Row[]): void {
    this.keeper.reserve(rows.length, false);
    const started = this.keeper.options.monotonicMs();
    const room = this.keeper.makeRoom(db, rows);
    this.keeper.commit(db, this.keeper.options.durability !== 'normal', (draft) => {
      const first = draft.last + 1;
      draft.last += rows.length;
      draft.produced += rows.length;
      if (this.keeper.isAged(db)) this.keeper.dropAged(db, draft);
      rows.forEach((row, i) => {
        row.seq = first + i;
      });
      this.keeper.fresh += rows.length;
      if (room) for (const row of rows) db.insert(row);
      else this.keeper.dropped(db, draft, first, draft.last, rows.length, 'buffer_full');
    });
    this.keeper.disk.noteSpeed(this.keeper.options.monotonicMs() - started);
  }

  private appendToMemory(rows: readonly Row[]): void {
    const { memoryBytes, policy, durability } = this.keeper.options;
    this.keeper.reserve(rows.length, true);
    for (const row of rows) {
      // Nothing is dropped from memory while the disk would take it.
      if (
        !this.keeper.memory.fits(row, memoryBytes) &&
        !this.keeper.disk.isCutOff &&
        (durability === 'on-outage' || this.keeper.disk.isSlow)
      )
        this.keeper.spill();
      if (this.keeper.memory.size === 0 && !this.keeper.disk.isCutOff && !this.keeper.memory.fits(row, memoryBytes)) {
        const done = this.keeper.onDisk((db) => {
          this.appendToDisk(db, [row]);
          return true;
        });
        if (done === true) continue;
      }
      this.keeper.account.last += 1;
      this.keeper.account.produced += 1;
      row.seq = this.keeper.account.last;
      const gone = this.keeper.memory.makeRoom(row, memoryBytes, policy);
      // One range of them all: thinned out, they would be as many ranges as records.
      const lost = runs(gone);
      const [first, last] = [lost[0]?.first, lost.at(-1)?.last];
      if (first !== undefined && last !== undefined) this.droppedInMemory(first, last, gone.length);
      if (this.keeper.memory.fits(row, memoryBytes)) {
        this.keeper.memory.add(row);
        this.keeper.fresh += 1;
      } else this.droppedInMemory(row.seq, row.seq, 1);
    }
  }

  private droppedInMemory(first: number, last: number, count: number): void {
    add(this.keeper.account.dropped, 'memory_full', count);
    this.keeper.fresh = Math.max(0, this.keeper.fresh - count);
    this.keeper.notices.tell(undefined, { first, last, count, reason: 'memory_full' });
  }

  private settleOnDisk(db: OutboxDb, { acked, rejected }: Delivery, noticeIds: readonly number[], letters: readonly DeadLetter[]): void {
    const now = this.keeper.options.nowMs();
    const expected = [...acked, ...rejected.map(({ seq }) => seq)].filter((seq) => this.keeper.outstanding.has(seq));
    let gone = 0;
    let freshGone = 0;
    this.keeper.commit(db, false, (draft) => {
      for (const id of noticeIds) db.removeNotice(id);
      for (const { first, last } of runs(acked)) {
        const removed = db.remove(first, last);
        draft.delivered += removed;
        gone += removed;
        if (first > this.keeper.replayedUpTo) freshGone += removed;
      }
      for (const { seq, reason } of rejected) {
        if (!db.bury(seq, reason, now)) continue;
        add(draft.rejected, reason, 1);
        gone += 1;
        if (seq > this.keeper.replayedUpTo) freshGone += 1;
      }
      for (const letter of letters) db.putDeadLetter(letter);
      if (rejected.length + letters.length > 0) db.trimDeadLetters();
      if (gone < expected.length && !db.changedByOthers())
        throw new DamageError(`${expected.length - gone} records could be read and not be found again`);
    });
    for (const seq of expected) this.keeper.outstanding.delete(seq);
    this.keeper.fresh = Math.max(0, this.keeper.fresh - freshGone);
  }

  /** The disk does not take it now: remembered, and done when it does. */
  private settleLater({ acked, rejected }: Delivery): void {
    for (const seq of acked) {
      if (this.keeper.outstanding.delete(seq) && this.keeper.gone.seqs.add(seq)) this.keeper.account.delivered += this.countSettled(seq);
    }
    for (const { seq, reason } of rejected) {
      if (!this.keeper.outstanding.delete(seq) || !this.keeper.gone.seqs.add(seq)) continue;
      add(this.keeper.account.rejected, reason, this.countSettled(seq));
      this.keeper.gone.rejected.push({ seq, reason });
    }
  }

  private countSettled(seq: number): 1 {
    if (seq > this.keeper.replayedUpTo) this.keeper.fresh = Math.max(0, this.keeper.fresh - 1);
    return 1;
  }

  private dropDamaged(db: OutboxDb, damaged: readonly DamagedRows[]): void {
    const { keeper } = this;
    const all = damaged.flatMap(({ seqs }) => seqs);
    keeper.disk.count('damaged', all.length);
    keeper.report('error', `${all.length} records are not as they were written: they are dropped`, { from: all[0], to: all.at(-1) });
    keeper.commit(db, false, (draft) => {
      for (const { first, last, seqs } of damaged) {
        for (const seq of seqs) if (db.remove(seq, seq) !== 1) throw new DamageError(`record ${seq} could be read and not be found again`);
        keeper.dropped(db, draft, first, last, seqs.length, 'corrupt');
      }
    });
  }

  private entry({ seq, era, boot, topic, key, body }: Row): Entry {
    const headers: Headers = { [HEADER.agent]: this.keeper.options.agentId, [HEADER.boot]: boot, [HEADER.seq]: String(seq) };
    if (seq <= this.keeper.replayedUpTo) headers[HEADER.replayed] = '1';
    const { wallClock } = this.keeper.options;
    const shift = wallClock?.shiftOf(era) ?? 0;
    if (shift !== 0) {
      headers[OUTBOX_HEADER.restamped] = '1';
      this.keeper.counted.restamped += 1;
      return { seq, topic, key, headers, body: restamp(body, shift) };
    }
    if (wallClock?.isWrong(era) === true) headers[OUTBOX_HEADER.clock] = 'wrong';
    return { seq, topic, key, headers, body };
  }

  private signalChange(): void {
    this.changed.resolve();
    this.changed = Promise.withResolvers<void>();
  }
}
