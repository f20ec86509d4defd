/** How the disk under the buffer does: whether it takes anything, when it is tried again, how quick it is, and what is said of that. */
import { codeOf, messageOf } from '../../common/errors.ts';
import { kindOf, wordOf } from './faults.ts';
import type { OutboxEvent } from './options.ts';

const PROBE_MS = { first: 1000, most: 30_000 };
const SLOW_MS = 1000;
const SLOW_SHARE = 10;

interface Fault {
  word: string;
  /** When the first of its row came, by the monotonic clock [ms]. */
  since: number;
  count: number;
}

export class DiskState {
  /** How often each kind of fault has come, by its word. */
  readonly faults: { [word: string]: number } = {};
  private readonly nowMs: () => number;
  private readonly report: (level: OutboxEvent['level'], message: string, fields: OutboxEvent['fields']) => void;
  private fault: Fault | undefined;
  /** The fault in whose row the disk is being tried again. */
  private tried: Fault | undefined;
  private probeAt = 0;
  private probePause = PROBE_MS.first;
  private slowUntil = 0;

  /** @param nowMs the monotonic clock */
  constructor(nowMs: DiskState['nowMs'], report: DiskState['report']) {
    this.nowMs = nowMs;
    this.report = report;
  }

  /** Whether it takes nothing now. */
  get isCutOff(): boolean {
    return this.fault !== undefined;
  }

  get isSlow(): boolean {
    return this.slowUntil > 0;
  }

  /** Why it is not used as it should be. */
  get cause(): string | undefined {
    return this.fault?.word ?? (this.isSlow ? 'slow' : undefined);
  }

  get faultsInARow(): number {
    return (this.fault ?? this.tried)?.count ?? 0;
  }

  get isProbeDue(): boolean {
    return this.isCutOff && this.nowMs() >= this.probeAt;
  }

  /** Whether it was slow, and has had its rest. */
  get isRested(): boolean {
    return this.isSlow && this.nowMs() >= this.slowUntil;
  }

  count(word: string, times = 1): void {
    this.faults[word] = (this.faults[word] ?? 0) + times;
  }

  /** It takes nothing from now on. `instead` says where records go then. */
  failed(error: unknown, instead: string): void {
    const word = wordOf(error);
    this.count(word);
    const now = this.nowMs();
    this.probeAt = now + this.probePause;
    this.probePause = Math.min(this.probePause * 2, PROBE_MS.most);
    const before = this.fault ?? this.tried;
    if (before === undefined) {
      const stack = kindOf(error) === 'defect' && error instanceof Error ? { stack: error.stack } : {};
      const message = `the disk does not take the buffer (${messageOf(error)}): ${instead}`;
      this.report('error', message, { cause: word, code: codeOf(error), ...stack });
    }
    this.fault = { word, since: before?.since ?? now, count: (before?.count ?? 0) + 1 };
  }

  /** Runs `work` as if the disk took everything. It does when nothing has `failed` in it; else the fault lasts since the first. */
  tryAgain(work: () => void): void {
    const { fault } = this;
    if (fault === undefined) return;
    this.fault = undefined;
    this.tried = fault;
    work();
    this.tried = undefined;
    if (this.isCutOff) return;
    this.probePause = PROBE_MS.first;
    this.report('info', `the disk takes the buffer again after ${Math.round((this.nowMs() - fault.since) / 1000)} s`, {
      cause: fault.word,
    });
  }

  /** A disk that takes a second for a commit gets fewer of them: what comes in meanwhile waits in memory. */
  noteSpeed(ms: number): void {
    const wasSlow = this.isSlow;
    if (ms >= SLOW_MS) {
      this.slowUntil = this.nowMs() + Math.min(PROBE_MS.most, ms * SLOW_SHARE);
      this.count('slow');
      if (!wasSlow)
        this.report('warn', `the disk took ${Math.round(ms)} ms for a commit: records wait in memory and go to it together`, { ms });
    } else if (wasSlow) {
      this.slowUntil = 0;
      this.report('info', 'the disk is quick again', { ms });
    }
  }
}
