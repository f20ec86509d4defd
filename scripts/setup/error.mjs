/** Something that setup cannot do: its message is all that is shown, without a stack trace. Exit codes are those of sysexits.h. */
export class SetupError extends Error {
  /**
   * @param {number} exitCode
   * @param {string} message
   */
  constructor(exitCode, message) {
    super(message);
    this.name = 'SetupError';
    this.exitCode = exitCode;
  }
}

/**
 * The `code` of a system error (`ENOENT`, `EROFS`), or ''.
 * @param {unknown} error
 */
export function systemCode(error) {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}
