/** What an outbox is given, what it tells, and its defaults. */
import { existsSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, resolve } from 'node:path';
import { crc32 } from 'node:zlib';
import type { WallClock } from '../wall-clock.ts';
import type { Ledger } from './account.ts';
import type { Policy } from './memory.ts';

export interface NewRecord {
  topic: string;
  /** The router's name. */
  key: string;
  /** JSON text of the record. */
  body: string;
}

export type Durability = 'full' | 'normal' | 'on-outage';

/** What may change while it runs. */
export interface OutboxBounds {
  /** Topic of notices. */
  noticeTopic: string;
  /** Most bytes on disk: database, write-ahead log and what belongs to them. */
  maxBytes: number;
  /** Most milliseconds that a record waits while the machine is on; 0 is for ever. */
  maxAgeMs: number;
  policy?: Policy;
  durability?: Durability;
  /** With durability `on-outage`: records that have waited so long go to the disk [ms]. */
  memoryMs?: number;
  /** Most bytes in memory. */
  memoryBytes?: number;
}

export interface OutboxEvent {
  level: 'info' | 'warn' | 'error';
  message: string;
  fields: { [name: string]: unknown };
}

export interface OutboxOptions extends OutboxBounds {
  file: string;
  agentId: string;
  /** Identity of this start of the agent. */
  boot: string;
  nowMs?: () => number;
  /** Milliseconds of the monotonic clock. */
  monotonicMs?: () => number;
  /** Identity of the kernel's boot, which the monotonic clock counts from. */
  kernelBoot?: string;
  wallClock?: WallClock | undefined;
  report?: (event: OutboxEvent) => void;
  /** Runs before the disk is used again; what it throws keeps the outbox in memory. */
  prepare?: () => void;
  /** The place of the mark where the disk takes none. */
  fallbackMark?: string;
  /** Damaged files that are kept. */
  keep?: { files: number; bytes: number };
}

export type Where = 'disk' | 'memory';

export interface OutboxStats extends Ledger {
  /** Bytes on disk that count against the bound. */
  bytes: number;
  maxBytes: number;
  /** Milliseconds that the oldest record has waited while the machine was on; undefined where none waits. */
  oldestMs: number | undefined;
  /** Records that wait out an outage or a restart. */
  backlog: number;
  memory: { records: number; bytes: number };
  where: Where;
  /** Why it is in memory: `full`, `read_only`, `io`, `locked`, `slow`, `unavailable`; undefined where it is meant to be. */
  cause: string | undefined;
  /** Faults of the disk by word, repairs, and records re-stamped, since this start. */
  faults: { [word: string]: number };
  repairs: number;
  restamped: number;
}

/** Which records: those that wait out an outage or a restart, those made since, or all. */
export type LaneName = 'backlog' | 'fresh' | 'all';

export type Options = Required<Omit<OutboxOptions, 'wallClock'>> & { wallClock: WallClock | undefined };

export function withDefaults(options: OutboxOptions): Options {
  const { file } = options;
  return {
    policy: 'drop-oldest',
    durability: 'full',
    memoryMs: 10_000,
    memoryBytes: 2 * 2 ** 20,
    nowMs: Date.now,
    monotonicMs: () => Number(process.hrtime.bigint()) / 1e6,
    kernelBoot: options.kernelBoot ?? kernelBootId(),
    report: () => {},
    prepare: () => {},
    fallbackMark: options.fallbackMark ?? fallbackMark(file),
    keep: { files: 3, bytes: 64 * 2 ** 20 },
    ...options,
    wallClock: options.wallClock,
  };
}

/** A name in memory of the machine, made from the place of the file. */
function fallbackMark(file: string): string {
  // Node's cryptography would take half a megabyte of an agent's memory for it.
  const name = crc32(resolve(file)).toString(16).padStart(8, '0');
  return `${existsSync('/dev/shm') ? '/dev/shm' : tmpdir()}/ndt-${basename(dirname(resolve(file)))}-${name}.seq`;
}

/** Identity of this boot of the kernel: what the monotonic clock counts from. */
export function kernelBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return 'unknown';
  }
}
