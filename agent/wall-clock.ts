/**
 * Whether the wall clock is right, told from the clock that only counts on.
 *
 * Between two steps of the wall clock its distance to the time since boot stays the same: that is an era. A record belongs to the era it
 * was made in. A step begins a new era, and is believed to be a correction: records of earlier eras of this boot that still wait are moved
 * by the difference before they are sent. The rule:
 *
 * - A clock before 2020 is wrong, whatever else. Nothing is moved to it.
 * - An era that the system's time synchronisation has confirmed (`/run/systemd/timesync/synchronized`) is right: its records stay as they
 *   are, whatever the clock does later.
 * - Any other era is as right as nobody has corrected it: the newest era of the same boot that is not wrong decides.
 * - Records of another boot cannot be measured against this one's clock: they stay as they are, and are marked where their clock was wrong.
 *
 * The time since boot is the kernel's, sleep included (`/proc/uptime`): a laptop that wakes up has not had its clock set.
 */
import { existsSync, readFileSync } from 'node:fs';
import { epochMicros, epochText, printRecord, type TelemetryRecord } from '../common/record.ts';

export type Trust = 'confirmed' | 'plausible' | 'wrong';

export interface Era {
  id: number;
  /** The kernel's boot. */
  boot: string;
  /** The wall clock minus the time since boot [µs]. */
  micros: number;
  trust: Trust;
}

export interface WallClockOptions {
  boot: string;
  /** Unix microseconds. */
  nowMicros: () => number;
  /** Time since boot, sleep included [µs]; never set, never back. */
  sinceBootMicros: () => number;
  /** Whether the system says that its clock is synchronised. */
  synchronized?: () => boolean;
  /** Told of each step [µs], and whether the clock is believed now. */
  onStep?: (stepMicros: number, trust: Trust) => void;
}

const LEAST_MICROS = Date.UTC(2020, 0, 1) * 1000;
/** Slewing is below 0.05 %, reading both clocks takes less than this. */
const STEP_MICROS = 1_000_000;
const SYNCHRONIZED = '/run/systemd/timesync/synchronized';

export class WallClock {
  steps = 0;
  private readonly options: Required<WallClockOptions>;
  private eras: Era[] = [];
  private current: Era;
  private readonly unsaved = new Set<Era>();
  private isRestored = false;

  constructor(options: WallClockOptions) {
    this.options = { synchronized: () => existsSync(SYNCHRONIZED), onStep: () => {}, ...options };
    this.current = this.begin(1);
  }

  /**
   * Takes over the eras of earlier starts, once. The one that goes on is used again, unless this start's are in use already: those go on
   * above the earlier ones then.
   * @returns by how much the ids of this start's eras have been moved up
   */
  restore(eras: readonly Era[], inUse = false): number {
    if (this.isRestored) return 0;
    this.isRestored = true;
    const newest = eras.at(-1);
    if (inUse) {
      const up = newest?.id ?? 0;
      for (const era of this.eras) era.id += up;
      this.eras.unshift(...eras);
      return up;
    }
    this.eras = [...eras.filter(({ id }) => id < (newest?.id ?? 0))];
    this.unsaved.clear();
    if (newest !== undefined && newest.boot === this.options.boot && Math.abs(this.distance() - newest.micros) < STEP_MICROS) {
      this.eras.push(newest);
      this.current = newest;
      this.judge();
      return 0;
    }
    if (newest !== undefined) this.eras.push(newest);
    this.current = this.begin((newest?.id ?? 0) + 1);
    if (newest !== undefined && newest.boot === this.options.boot) this.stepped(this.current.micros - newest.micros);
    return 0;
  }

  /** Looks at the clocks; returns the era that it is. */
  check(): number {
    const distance = this.distance();
    const step = distance - this.current.micros;
    if (Math.abs(step) >= STEP_MICROS) {
      this.current = this.begin(this.current.id + 1);
      this.stepped(step);
      return this.current.id;
    }
    // A clock that is slewed moves slowly, and that is no step however long it goes on.
    this.current.micros = distance;
    this.judge();
    return this.current.id;
  }

  /** The era that it is, as last looked. */
  get era(): number {
    return this.current.id;
  }

  get trust(): Trust {
    return this.current.trust;
  }

  /** By how much the times of an era's records are to be moved [µs]; 0 leaves them. */
  shiftOf(id: number): number {
    if (id === this.current.id || this.current.trust === 'wrong') return 0;
    const era = this.eras.find((candidate) => candidate.id === id);
    if (era === undefined || era.boot !== this.current.boot || era.trust === 'confirmed') return 0;
    const shift = this.current.micros - era.micros;
    return Math.abs(shift) >= STEP_MICROS ? shift : 0;
  }

  /** Whether an era's clock was wrong, for what cannot be moved. */
  isWrong(id: number): boolean {
    return (id === this.current.id ? this.current : this.eras.find((era) => era.id === id))?.trust === 'wrong';
  }

  /** Eras that are not written down yet; the caller writes them. */
  takeUnsaved(): Era[] {
    const eras = [...this.unsaved];
    this.unsaved.clear();
    return eras;
  }

  /** All eras count as not written down: the file is another one. */
  forgetSaved(): void {
    for (const era of this.eras) this.unsaved.add(era);
  }

  /** Forgets the eras before one. */
  dropBelow(id: number): void {
    this.eras = this.eras.filter((era) => era.id >= id || era === this.current);
  }

  private distance(): number {
    return Math.round(this.options.nowMicros() - this.options.sinceBootMicros());
  }

  private begin(id: number): Era {
    const era: Era = { id, boot: this.options.boot, micros: this.distance(), trust: 'plausible' };
    this.current = era;
    this.eras.push(era);
    this.unsaved.add(era);
    this.judge();
    return era;
  }

  private judge(): void {
    const trust: Trust = this.options.nowMicros() < LEAST_MICROS ? 'wrong' : this.options.synchronized() ? 'confirmed' : 'plausible';
    if (trust === this.current.trust || (this.current.trust === 'confirmed' && trust === 'plausible')) return;
    this.current.trust = trust;
    this.unsaved.add(this.current);
  }

  private stepped(step: number): void {
    this.steps += 1;
    this.options.onStep(step, this.current.trust);
  }
}

/** Time since boot [µs], sleep included; `fallback` where the kernel does not tell. */
export function sinceBootMicros(fallback: () => number): () => number {
  return () => {
    try {
      const seconds = Number.parseFloat(readFileSync('/proc/uptime', 'utf8'));
      return Number.isFinite(seconds) ? seconds * 1e6 : fallback();
    } catch {
      return fallback();
    }
  };
}

/** A record with all its times moved. What is no record stays as it is. */
export function restamp(body: string, shiftMicros: number): string {
  try {
    const record = JSON.parse(body) as TelemetryRecord & { collected_at?: string };
    const moved = (micros: number) => Math.max(0, Math.round(micros + shiftMicros));
    // An inventory has one time only.
    if (record.epoch_timestamp === undefined && typeof record.collected_at === 'string')
      return JSON.stringify({ ...record, collected_at: epochText(moved(epochMicros(record.collected_at))) });
    const debug = record.debug_params;
    return printRecord({
      ...record,
      epoch_timestamp: epochText(moved(epochMicros(record.epoch_timestamp))),
      ...(debug === undefined
        ? {}
        : {
            debug_params: {
              ...debug,
              collector_timestamp: epochText(moved(epochMicros(debug.collector_timestamp))),
              ...(debug.process_timestamp === undefined
                ? {}
                : { process_timestamp: String(Math.round(moved(Number(debug.process_timestamp) * 1000) / 1000)) }),
            },
          }),
    });
  } catch {
    return body;
  }
}
