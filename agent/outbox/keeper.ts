/**
 * Keeps the records where they can be kept: on disk, and in memory while the disk does not take them; and the account of them all. What the
 * disk does to it ends here: a fault turns to memory and is tried again from time to time, damage is repaired. See `../outbox.ts`.
 */
import { existsSync } from 'node:fs';
import { messageOf } from '../../common/errors.ts';
import type { Baseline } from '../../common/rates.ts';
import { type Account, add, addDifference, copyOf, type DropReason, newAccount, waiting } from './account.ts';
import { Bounds } from './bounds.ts';
import { OutboxDb, pagesOf, type Row, sizeOf } from './database.ts';
import { DiskState } from './disk-state.ts';
import { Doubt, type Gone } from './doubt.ts';
import { DamageError, kindOf, wordOf } from './faults.ts';
import { GapNotices } from './gap-notices.ts';
import { HighWater, type Mark } from './high-water.ts';
import { Letters, MemoryRing } from './memory.ts';
import { type Options, type OutboxBounds, type OutboxEvent, type OutboxOptions, type Where, withDefaults } from './options.ts';
import { Ranges } from './ranges.ts';
import { finishReplacement, replace } from './salvage.ts';
import { around, firstNumber, type Gap, gapsOf, giveBack, type Started, start } from './start.ts';

const NUMBER_BLOCK = { full: 256, loose: 64 };
const MARK_MS = 60_000;
/** Pages of a buffer without records, and some to spare. */
const PAGES_EMPTY = 28;
/** A file that fails to be read so often in a row is as good as damaged. */
const IO_FAULTS = 5;
/** Commits that a file may be ahead of the mark beside it. */
const UNREAD_VERSIONS = 1_000_000;

export class Keeper {
  options: Options;
  readonly memory = new MemoryRing();
  readonly notices: GapNotices;
  db: OutboxDb | undefined;
  account: Account;
  gone: Gone = { seqs: new Ranges(), rejected: [] };
  readonly letters = new Letters();
  readonly changedBaselines = new Map<string, Baseline>();
  savedBaselines = new Map<string, Baseline>();
  /** Read and not settled yet: these must be there when they are deleted. */
  readonly outstanding = new Set<number>();
  /** Records up to here wait out an outage, or a restart; and how many wait that were made since. */
  replayedUpTo: number;
  fresh = 0;
  readonly counted = { repairs: 0, restamped: 0 };
  readonly disk: DiskState;
  private readonly highWater: HighWater;
  private readonly bounds = new Bounds();
  /** The account at this start, and the mark found, where the file could not be read then. */
  private unread: { account: Account; mark: Mark | undefined } | undefined;
  private readonly doubt = new Doubt();
  /** A repair at the start that nobody was told of yet. */
  private untold: Started['repaired'];
  private reserved = 0;
  private loose = false;
  private markedAt = Number.NEGATIVE_INFINITY;
  private markedVersion = -1;
  private time: { elapsed: number; monotonic: number };
  private closed = false;

  constructor(options: OutboxOptions) {
    this.options = withDefaults(options);
    this.notices = new GapNotices(options.agentId, this.options.nowMs);
    const { file, nowMs, monotonicMs, fallbackMark } = this.options;
    this.disk = new DiskState(monotonicMs, (level, message, fields) => this.report(level, message, fields));
    this.time = { elapsed: 0, monotonic: monotonicMs() };
    this.highWater = new HighWater(`${file}.seq`, fallbackMark);
    // Stands in until the file is read: `begin` sets it.
    this.account = newAccount(firstNumber(nowMs()));
    try {
      this.begin(({ account }) => account);
    } catch (error) {
      // Without its disk from the start: numbers go on above the mark, or above all that any agent has used by now.
      const { last } = this.highWater;
      const account = last === undefined ? newAccount(firstNumber(nowMs())) : copyOf(last.account);
      const to = last === undefined ? account.last : Math.max(last.reserved, last.clean ? 0 : firstNumber(nowMs()));
      account.skipped += Math.max(0, to - account.last);
      account.last = account.floor = Math.max(account.last, to);
      this.account = account;
      // Ours is the newer account from here on, whatever the file says that could not be read.
      account.version += UNREAD_VERSIONS;
      this.unread = { account: copyOf(account), mark: last };
      this.turnToMemory(error);
    }
    this.replayedUpTo = this.account.last;
  }

  /** Goes over to new bounds. */
  configure(bounds: OutboxBounds): void {
    this.options = { ...this.options, ...withDefaults({ ...this.options, ...bounds }) };
    this.onDisk((db) => db.setMaxBytes(this.options.maxBytes));
  }

  /** What has to be done from time to time; call it about once a second. */
  maintain(): void {
    if (this.closed) return;
    this.options.wallClock?.check();
    if (this.disk.isCutOff) {
      if (this.disk.isProbeDue) this.probe();
      return;
    }
    const isDue = this.memory.size > 0 ? this.isSpillDue() : this.hasUnwritten && !this.disk.isSlow;
    if (isDue) this.spill();
    else if (this.memory.size === 0 && this.disk.isRested) this.trySlowDisk();
    this.onDisk((db) => {
      if (db.pending > 0 !== db.hasRecords() && !db.changedByOthers())
        throw new DamageError(`${db.pending} records should wait, and there are ${db.pending > 0 ? 'none' : 'some'}`);
      if (this.isAged(db)) this.commit(db, false, (draft) => this.dropAged(db, draft));
      db.shrink(512);
    });
    if (this.options.monotonicMs() - this.markedAt >= MARK_MS && this.markedVersion !== this.account.version) this.mark(false);
  }

  /** Takes everything to the disk and ends. */
  close(): void {
    if (this.closed) return;
    this.probe();
    if (this.hasUnwritten) this.spill();
    this.closed = true;
    let isClean = false;
    if (this.memory.size === 0)
      this.onDisk((db) => {
        this.commit(db, true, () => db.setClean(true));
        isClean = true;
      });
    const { size } = this.memory;
    if (size > 0)
      this.report(
        'error',
        `${size} records in memory are lost: the disk takes them no more (${this.disk.cause}); the next start names them`,
        { lost: size },
      );
    if (isClean) {
      this.loose = false;
      this.reserved = this.account.last;
    }
    if (this.db === undefined) this.mark(true);
    else this.letGo(this.db, isClean);
  }

  /** Where new records are kept now, and why in memory where that is not as it should be. */
  whereabouts(): { where: Where; cause: string | undefined } {
    const { cause } = this.disk;
    return { where: cause !== undefined || this.options.durability === 'on-outage' ? 'memory' : 'disk', cause };
  }

  goesToDisk(): boolean {
    return this.whereabouts().where === 'disk' && this.memory.size === 0;
  }

  /** As many of the rows from `done` on as one transaction may write. */
  partOf(rows: Row[], done: number, mostBytes: number): Row[] {
    let bytes = 0;
    let end = done;
    for (; end < rows.length; end += 1) {
      bytes += sizeOf(rows[end] ?? { boot: '', topic: '', key: '', body: '' });
      if (bytes > mostBytes && end > done) break;
    }
    return done === 0 && end === rows.length ? rows : rows.slice(done, end);
  }

  /** Makes room for rows by the policy, in transactions of their own. Returns false where there is none for them. */
  makeRoom(db: OutboxDb, rows: readonly Row[]): boolean {
    const needed = pagesOf(rows);
    // What an empty buffer would not hold must not drive out what is there.
    if (needed > db.capacity - PAGES_EMPTY) return false;
    for (let pages = this.bounds.wanted(db, needed); pages > 0; pages = this.bounds.wanted(db, needed)) {
      let more = false;
      this.commit(db, false, (draft) => {
        more = this.bounds.step(db, pages, this.options.policy, (from, to, count, reason) =>
          this.dropped(db, draft, from, to, count, reason),
        );
      });
      if (!more) return false;
    }
    return true;
  }

  isAged(db: OutboxDb): boolean {
    const { maxAgeMs } = this.options;
    if (maxAgeMs <= 0) return false;
    const oldest = db.oldest(0, 1)[0];
    return oldest !== undefined && oldest.elapsed < this.elapsed() - maxAgeMs;
  }

  dropAged(db: OutboxDb, draft: Account): void {
    this.bounds.dropAged(db, this.elapsed() - this.options.maxAgeMs, (from, to, count, reason) =>
      this.dropped(db, draft, from, to, count, reason),
    );
  }

  /** Inside a transaction: counts what was dropped, and leaves a notice. */
  dropped(db: OutboxDb, draft: Account, first: number, last: number, count: number, reason: DropReason): void {
    if (count === 0) return;
    add(draft.dropped, reason, count);
    this.notices.tell(db, { first, last, count, reason });
    for (const seq of this.outstanding) if (seq >= first && seq <= last) this.outstanding.delete(seq);
    if (first > this.replayedUpTo) this.fresh = Math.max(0, this.fresh - count);
  }

  /** One transaction: `work` changes records and the draft of the account, which holds when all of it is committed. */
  commit(db: OutboxDb, durable: boolean, work: (draft: Account) => void, spill?: readonly Row[]): void {
    const spilled = spill ?? [];
    const draft = copyOf(this.account);
    draft.version += 1;
    const left = this.memory.size - spilled.length;
    const { fresh } = this;
    const baselines = [...this.changedBaselines];
    try {
      db.write(durable, () => {
        if (db.changedByOthers()) this.absorb(db, draft);
        work(draft);
        for (const [router, baseline] of baselines) db.setBaseline(router, baseline);
        for (const era of this.options.wallClock?.takeUnsaved() ?? []) db.setEra(era);
        draft.floor = left > 0 ? this.firstLeft(spilled) - 1 : draft.last;
        db.save(draft, left, this.ownTime());
      });
    } catch (error) {
      this.doubt.commitFailed(this.account, draft, spill !== undefined);
      this.fresh = fresh;
      this.notices.forget();
      this.options.wallClock?.forgetSaved();
      throw error;
    }
    this.account = draft;
    this.doubt.settled(db.persisted);
    for (const [router, baseline] of baselines) {
      this.savedBaselines.set(router, baseline);
      if (this.changedBaselines.get(router) === baseline) this.changedBaselines.delete(router);
    }
  }

  /** The first number in memory that is not among those going to the disk. */
  private firstLeft(spilled: readonly Row[]): number {
    const above = spilled.at(-1)?.seq ?? 0;
    return this.memory.read(above + 1, Number.MAX_SAFE_INTEGER, 1)[0]?.seq ?? this.account.last + 1;
  }

  /** Another program has changed the file (`buffer drop`, `buffer import`): what it did is added to the account. */
  private absorb(db: OutboxDb, draft: Account): void {
    const before = db.persisted;
    db.load();
    const after = db.persisted;
    if (before === undefined || after === undefined) return;
    addDifference(draft, before, after);
    draft.version = Math.max(draft.version, after.version + 1);
    this.outstanding.clear();
  }

  /** Whether there is anything that belongs on the disk and is not there. */
  private get hasUnwritten(): boolean {
    return this.memory.size + this.gone.seqs.size + this.notices.size + this.letters.size > 0;
  }

  /** Everything in memory goes to the disk. */
  spill(): void {
    const started = this.options.monotonicMs();
    this.onDisk((db) => {
      while (this.hasUnwritten) {
        // What was confirmed meanwhile goes first: only then do the file and the account agree.
        const { gone } = this;
        const rows = gone.seqs.size > 0 ? [] : this.partOf(this.memory.all(), 0, db.mostBytes);
        const room = rows.length === 0 || this.makeRoom(db, rows);
        this.commit(
          db,
          true,
          (draft) => {
            this.takeOut(db);
            this.notices.writeTo(db);
            if (this.isAged(db)) this.dropAged(db, draft);
            const [first, last] = [rows[0], rows.at(-1)];
            if (room) for (const row of rows) db.insert(row);
            else if (first !== undefined && last !== undefined) this.dropped(db, draft, first.seq, last.seq, rows.length, 'buffer_full');
          },
          rows,
        );
        for (const { seq } of rows) this.memory.remove(seq);
        this.forgetGone();
        this.notices.clearMemory();
      }
    });
    if (this.memory.size > 0) return;
    if (this.disk.isSlow) this.disk.noteSpeed(this.options.monotonicMs() - started);
    if (this.loose && this.goesToDisk()) this.mark(true);
  }

  /** Inside a transaction: what was settled while the disk took nothing. */
  private takeOut(db: OutboxDb): void {
    const { seqs, rejected } = this.gone;
    for (const { seq, reason } of rejected) db.bury(seq, reason, this.options.nowMs());
    for (const { first, last } of seqs.all()) db.remove(first, last);
    for (const letter of this.letters.all()) db.putDeadLetter(letter);
    if (rejected.length + this.letters.size > 0) db.trimDeadLetters();
  }

  private forgetGone(): void {
    this.gone = { seqs: new Ranges(), rejected: [] };
    this.letters.clear();
  }

  /** What waited in memory was sent from there, so nothing is left to write: a commit tells how quick the disk is now. */
  private trySlowDisk(): void {
    const done = this.onDisk((db) => {
      this.commitOther(db);
      return true;
    });
    if (done !== true) return;
    if (this.loose && this.goesToDisk()) this.mark(true);
  }

  /** Commits what has changed beside the records, and notes how long the disk took: a poll without a rate brings a baseline alone. */
  commitOther(db: OutboxDb): void {
    const started = this.options.monotonicMs();
    this.commit(db, true, () => {});
    this.disk.noteSpeed(this.options.monotonicMs() - started);
  }

  private isSpillDue(): boolean {
    if (this.disk.isSlow) return this.disk.isRested;
    const { durability, memoryMs } = this.options;
    const oldest = this.memory.oldest;
    return oldest !== undefined && (durability !== 'on-outage' || this.elapsed() - oldest.elapsed >= memoryMs);
  }

  /** Runs `work` on the file where it can be written to; what the disk does to it is dealt with here. Undefined where it was not done. */
  onDisk<T>(work: (db: OutboxDb) => T): T | undefined {
    for (let attempt = 0; attempt < 2 && this.db !== undefined && !this.disk.isCutOff; attempt += 1) {
      try {
        return work(this.db);
      } catch (error) {
        this.failed(error);
      }
    }
    return undefined;
  }

  /** As `onDisk`, also where the file can only be read. */
  onOpenFile<T>(work: (db: OutboxDb) => T): T | undefined {
    if (!this.disk.isCutOff) return this.onDisk(work);
    if (this.db === undefined) return undefined;
    try {
      return work(this.db);
    } catch {
      // The fault is known already; what cannot be read now waits.
      return undefined;
    }
  }

  private failed(error: unknown): void {
    if (kindOf(error) === 'damaged') {
      try {
        this.repair(error);
        return;
      } catch (second) {
        this.turnToMemory(second);
        return;
      }
    }
    this.turnToMemory(error);
  }

  private turnToMemory(error: unknown): void {
    this.disk.failed(error, `new records are kept in memory, at most ${this.options.memoryBytes} bytes`);
    // A full disk can still be read from; of any other fault, a new connection must not inherit anything.
    if (['full', 'read_only', 'locked'].includes(wordOf(error))) return;
    if (this.db !== undefined) this.letGo(this.db);
  }

  /** Closes the file. SQLite takes its log away with the last connection: the mark must not say that there is one. */
  private letGo(db: OutboxDb, clean = false): void {
    this.db = undefined;
    this.mark(true, clean);
    db.close();
  }

  /** Tries the disk again, where it takes nothing; everything goes over to it where it works. */
  private probe(): void {
    this.disk.tryAgain(() => {
      try {
        this.bringBack();
      } catch (error) {
        this.turnToMemory(error);
      }
      if (!this.disk.isCutOff) this.spillAll();
    });
  }

  /** Opens the file again; one that is damaged is repaired. */
  private bringBack(): void {
    const { file, prepare } = this.options;
    try {
      prepare();
      if (this.db !== undefined) this.letGo(this.db);
      if (this.unread !== undefined && !this.hasJoined()) this.joinAtLast(this.unread);
      else {
        finishReplacement(file);
        if (!existsSync(file)) throw new DamageError('the file is gone');
        this.db = this.reopen();
        this.mark(true);
      }
    } catch (error) {
      const isUnreadable = wordOf(error) === 'io' && this.disk.faultsInARow >= IO_FAULTS;
      if (kindOf(error) !== 'damaged' && !isUnreadable) throw error;
      if (this.unread === undefined) this.repair(error);
      else this.joinAtLast(this.unread, messageOf(error));
    }
  }

  private spillAll(): void {
    if (this.hasUnwritten) {
      this.spill();
      return;
    }
    this.onDisk((db) => this.commit(db, true, () => {}));
    if (this.loose && this.goesToDisk()) this.mark(true);
  }

  /** Opens the file again in the same life: the account in memory holds, and what a commit in doubt did is found out. */
  private reopen(): OutboxDb {
    const db = new OutboxDb(this.options.file, this.options.maxBytes);
    try {
      if (db.persisted === undefined) throw new DamageError('the account is gone');
      const { account, gone, inFile, isForeign } = this.doubt.resolve(this.account, this.gone, db, db.persisted);
      this.account = account;
      this.gone = gone;
      // Another program may have taken them.
      if (isForeign) this.outstanding.clear();
      // Only what the file has: the rest follows at once.
      db.write(true, () => {
        db.remove(account.floor + 1, Number.MAX_SAFE_INTEGER);
        const missing = waiting(account) - this.memory.size + gone.seqs.size - db.pending;
        if (missing !== 0) throw new DamageError(`${missing} records are missing`);
        db.save(inFile, this.memory.size, this.ownTime());
      });
      this.doubt.settled(db.persisted);
      return db;
    } catch (error) {
      db.close();
      throw error;
    }
  }

  /** A new file with what can be read of the damaged one; the account tells what that is short of. */
  private repair(error: unknown): void {
    const { file, maxBytes, keep, nowMs } = this.options;
    this.db?.close();
    this.db = undefined;
    this.notices.forget();
    this.outstanding.clear();
    const draft = copyOf(this.account);
    draft.version += 1;
    const notices: string[] = [];
    const salvage = replace(file, maxBytes, keep, nowMs(), (target, found) => {
      this.takeOut(target);
      target.remove(draft.floor + 1, Number.MAX_SAFE_INTEGER);
      const missing = waiting(draft) - this.memory.size - target.pending;
      if (missing > 0) {
        add(draft.dropped, 'corrupt', missing);
        const below = { ...draft, last: Math.max(draft.first, draft.floor) };
        for (const gap of gapsOf(missing, 'corrupt', around(found, below), below)) notices.push(this.notices.text(gap));
      } else if (missing < 0) giveBack(draft, -missing);
      for (const notice of notices) target.addNotice(notice);
      for (const [router, baseline] of new Map([...this.savedBaselines, ...this.changedBaselines])) target.setBaseline(router, baseline);
      this.options.wallClock?.forgetSaved();
      target.setLabel('kernel_boot', this.options.kernelBoot);
      target.setLabel('agent', this.options.agentId);
      target.save(draft, this.memory.size, this.ownTime());
      // The new file may be in its place already when something after this fails.
      this.doubt.commitFailed(this.account, draft, true);
    });
    this.forgetGone();
    this.notices.forgetConfirmed();
    this.account = draft;
    this.doubt.settled(copyOf(draft));
    this.db = new OutboxDb(file, maxBytes);
    this.repaired({ ...salvage, why: messageOf(error) });
    this.mark(true);
  }

  private repaired({ why, found, aside }: NonNullable<Started['repaired']>): void {
    this.counted.repairs += 1;
    const lost = this.account.dropped.corrupt ?? 0;
    this.report(
      'error',
      `the buffer was damaged (${why}): ${found} records were saved${aside === undefined ? '' : `, the damaged file is kept as ${aside}`}; records lost so far by damage: ${lost}`,
      {
        saved: found,
        aside,
      },
    );
    const notice = JSON.stringify({
      type: 'repair',
      agent: this.options.agentId,
      why,
      saved: found,
      lost,
      at: Math.floor(this.options.nowMs()),
    });
    const kept = this.onDisk((db) => {
      this.commit(db, true, () => db.addNotice(notice));
      return true;
    });
    if (kept !== true) this.notices.keep(notice);
  }

  /**
   * Starts on the file. Damage that shows only when it is used is answered like damage that shows at once.
   * @param account what the account is, given what was found
   */
  private begin(account: (started: Started) => Account, known?: string): void {
    const { file, maxBytes, keep, kernelBoot, nowMs, prepare } = this.options;
    prepare();
    const mark = this.unread === undefined ? this.highWater.last : this.unread.mark;
    for (let damage = known; ; ) {
      const gapText = (gap: Gap) => this.notices.text(gap);
      const started = start({ file, maxBytes, keep, mark, kernelBoot, nowMs: nowMs(), damage, gapText });
      this.untold = started.repaired ?? this.untold;
      try {
        this.account = account(started);
        this.takeStart(started);
        return;
      } catch (error) {
        started.db.close();
        this.db = undefined;
        if (kindOf(error) !== 'damaged' || damage !== undefined) throw error;
        damage = messageOf(error);
      }
    }
  }

  /** Takes over what was found at the start. */
  private takeStart({ db, gaps, told }: Started): void {
    const { kernelBoot, wallClock } = this.options;
    this.db = db;
    const before = db.ownTime();
    const monotonic = this.options.monotonicMs();
    // Within one boot the monotonic clock went on while the agent did not run; over a boot nothing tells how long that was.
    const meanwhile = before.boot === kernelBoot ? Math.max(0, monotonic - before.monotonic) : 0;
    this.time = { elapsed: before.elapsed + meanwhile, monotonic };
    this.savedBaselines = db.baselines();
    const up = wallClock?.restore(db.eras(), this.memory.size > 0) ?? 0;
    for (const row of this.memory.all()) row.era += up;
    this.reserved = this.account.last;
    this.commit(db, true, () => {
      db.setClean(false);
      db.setLabel('kernel_boot', kernelBoot);
      db.setLabel('agent', this.options.agentId);
      const oldest = db.read(0, Number.MAX_SAFE_INTEGER, 1).rows[0];
      const era = oldest?.era ?? this.memory.oldest?.era ?? wallClock?.era ?? 0;
      db.dropErasBelow(era);
      wallClock?.dropBelow(era);
      for (const gap of gaps) this.notices.tell(db, gap);
    });
    this.notices.forget();
    this.reserve(0, this.options.durability === 'on-outage', true);
    this.tellRepair();
    for (const { first, last, count, reason } of [...told, ...gaps]) {
      this.report('warn', `numbers ${first} to ${last}: ${count === 0 ? 'passed over' : `${count} records lost at most`} (${reason})`, {
        first,
        last,
        count,
        reason,
      });
    }
  }

  private tellRepair(): void {
    const { untold } = this;
    this.untold = undefined;
    if (untold !== undefined) this.repaired(untold);
  }

  /** Whether the commit that joined the file was made, although it failed: then the account goes on from there. */
  private hasJoined(): boolean {
    // Not before: the log has to be looked at before SQLite does.
    if (!this.doubt.mayHaveJoined || !existsSync(this.options.file)) return false;
    const db = new OutboxDb(this.options.file, this.options.maxBytes);
    const { persisted } = db;
    db.close();
    const account = persisted && this.doubt.joined(this.account, persisted);
    if (account === undefined) return false;
    this.account = account;
    this.doubt.settled(persisted);
    this.unread = undefined;
    this.tellRepair();
    return true;
  }

  /** The file can be used at last: what this life has done meanwhile is added to what the file says. */
  private joinAtLast(unread: NonNullable<Keeper['unread']>, damage?: string): void {
    const own = this.account;
    const kept = new Map(this.changedBaselines);
    this.doubt.willJoin(own);
    try {
      this.begin((started) => {
        const account = copyOf(started.account);
        const passedOver = { first: account.last + 1, last: unread.account.last, count: 0, reason: 'unused' as const };
        if (passedOver.last >= passedOver.first) started.gaps.push(passedOver);
        addDifference(account, unread.account, own);
        account.last = Math.max(account.last, own.last);
        account.skipped = account.last - account.first + 1 - account.produced;
        account.version = Math.max(account.version, own.version) + 1;
        account.floor = (this.memory.oldest?.seq ?? account.last + 1) - 1;
        return account;
      }, damage);
    } catch (error) {
      this.account = own;
      throw error;
    }
    this.unread = undefined;
    for (const [router, baseline] of kept) this.changedBaselines.set(router, baseline);
  }

  /** Makes sure that the next numbers are below a mark. */
  reserve(n: number, loose: boolean, force = false): void {
    const last = this.account.last + n;
    if (!force && last <= this.reserved && (this.loose || !loose)) return;
    this.loose = loose || this.loose;
    this.mark(true, false, n);
  }

  /** Writes the mark; `durable` waits for the disk. */
  private mark(durable: boolean, clean = false, n = 0): void {
    this.loose = !clean && (this.memory.size > 0 || this.whereabouts().where === 'memory');
    const block = clean ? 0 : this.loose ? Math.max(NUMBER_BLOCK.loose, 8 * n) : Math.max(NUMBER_BLOCK.full, 32 * n);
    this.account.version += 1;
    // Never back below what was reserved before, except where it is known that nothing of it was used.
    this.reserved = this.account.last + n + block;
    const place = this.highWater.write(
      {
        account: { ...this.account, floor: this.floor() },
        reserved: this.reserved,
        loose: this.loose,
        clean,
        opened: this.db !== undefined,
        durability: this.options.durability,
        boot: this.options.kernelBoot,
      },
      durable,
    );
    if (place === 'none' && !clean)
      this.report('error', 'sequence numbers cannot be written down anywhere: after a crash some may be used again', {});
    this.markedAt = this.options.monotonicMs();
    this.markedVersion = this.account.version;
  }

  private floor(): number {
    return this.memory.size > 0
      ? (this.memory.oldest?.seq ?? 0) - 1
      : Math.min(this.account.last, this.disk.isCutOff ? this.account.floor : this.account.last);
  }

  elapsed(): number {
    return Math.floor(this.time.elapsed + Math.max(0, this.options.monotonicMs() - this.time.monotonic));
  }

  private ownTime(): { elapsed: number; monotonic: number } {
    return { elapsed: this.elapsed(), monotonic: Math.floor(this.options.monotonicMs()) };
  }

  report(level: OutboxEvent['level'], message: string, fields: OutboxEvent['fields']): void {
    this.options.report({ level, message, fields });
  }
}
