/** What a fault of the database means: the file is damaged, or the disk does not take it at the moment. */
import { codeOf } from '../../common/errors.ts';

/** What was read cannot have been written so. */
export class DamageError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'DamageError';
  }
}

/** The disk would take it, but a bound of ours does not. */
export class BoundError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'BoundError';
  }
}

export type FaultKind = 'damaged' | 'unwritable' | 'defect';

/** Codes of the disk, not of the file: full, read-only, failing, locked by somebody. */
const UNWRITABLE = /^(SQLITE_(FULL|READONLY|IOERR|CANTOPEN|PERM|AUTH|BUSY|LOCKED|PROTOCOL|NOMEM|NOLFS)|E[A-Z]+$)/;
/** With a schema, statements and values that are ours, these come of damage alone. */
const DAMAGED = /^SQLITE_(CORRUPT|NOTADB|ERROR|SCHEMA|MISMATCH|CONSTRAINT|FORMAT|TOOBIG)/;

export function kindOf(error: unknown): FaultKind {
  if (error instanceof DamageError) return 'damaged';
  if (error instanceof BoundError) return 'unwritable';
  const code = codeOf(error) ?? '';
  if (DAMAGED.test(code)) return 'damaged';
  return UNWRITABLE.test(code) ? 'unwritable' : 'defect';
}

/** A word for metrics and messages: `full`, `read_only`, `io`, … */
export function wordOf(error: unknown): string {
  const code = codeOf(error) ?? '';
  if (error instanceof DamageError || DAMAGED.test(code)) return 'damaged';
  if (error instanceof BoundError || code === 'SQLITE_FULL' || code === 'ENOSPC' || code === 'EDQUOT') return 'full';
  if (code.startsWith('SQLITE_READONLY') || code === 'EROFS') return 'read_only';
  if (code.startsWith('SQLITE_IOERR') || code === 'EIO') return 'io';
  if (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED')) return 'locked';
  return 'unavailable';
}
