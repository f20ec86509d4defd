/**
 * Errors a person can act on. An `NdtError` is printed as its message (and remedy) without a stack trace; anything else
 * that reaches the top is a defect of ours and is printed whole.
 */

/** Exit codes, from sysexits.h. */
export const EXIT = { ok: 0, failed: 1, usage: 64, data: 65, unavailable: 69, cannotCreate: 73, io: 74, config: 78 } as const;

export type ErrorCode =
  | 'CONFIG' // a configuration file or variable is wrong: exit 78
  | 'USAGE' // a command line is wrong: exit 64
  | 'DATA' // input data is wrong: exit 65
  | 'UNAVAILABLE' // something we need does not answer: exit 69
  | 'CANNOT_CREATE' // a file, folder or listening socket cannot be made: exit 73
  | 'IO'; // reading or writing failed: exit 74

const EXIT_OF: Record<ErrorCode, number> = {
  CONFIG: EXIT.config,
  USAGE: EXIT.usage,
  DATA: EXIT.data,
  UNAVAILABLE: EXIT.unavailable,
  CANNOT_CREATE: EXIT.cannotCreate,
  IO: EXIT.io,
};

export class NdtError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'NdtError';
    this.code = code;
  }

  /** The process exit code that goes with this error. */
  get exitCode(): number {
    return EXIT_OF[this.code];
  }
}

/** The message of anything thrown, its causes behind it: `connect failed: ECONNREFUSED 127.0.0.1:1883`. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '' && error.errors.length > 0) return messageOf(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : `: ${messageOf(error.cause)}`;
  return `${error.message}${cause}`;
}

/** The `code` of a system error (`ENOENT`, `EACCES`, `SQLITE_FULL`), or undefined. */
export function codeOf(error: unknown): string | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return undefined;
}
