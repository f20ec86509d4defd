/** The log: pino, on standard error, pretty on a terminal. */
import { type Logger, pino } from 'pino';
import type { Config } from './schema.ts';

export type { Logger };

/** `stream` replaces standard error in tests. */
export async function openLogger(program: string, settings: Config['log'], stream?: NodeJS.WritableStream): Promise<Logger> {
  const options = { level: settings.level, base: { program, pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime };
  const pretty = settings.format === 'pretty' || (settings.format === 'auto' && stream === undefined && process.stderr.isTTY === true);
  if (!pretty) return pino(options, stream ?? pino.destination({ dest: 2, sync: true }));
  const { default: prettify } = await import('pino-pretty');
  return pino(
    options,
    prettify({
      destination: stream ?? 2,
      sync: true,
      ignore: 'pid,program',
      translateTime: 'SYS:HH:MM:ss.l',
      messageFormat: `${program}: {msg}`,
    }),
  );
}

/**
 * A fault that repeats is one line with a count: the first is logged at once, then one line a minute tells how often it came, and
 * one that it is over.
 */
export class Fault {
  private readonly logger: Logger;
  private readonly what: string;
  private readonly now: () => number;
  private count = 0;
  private since = 0;
  private told = 0;

  constructor(logger: Logger, what: string, now: () => number = () => performance.now()) {
    this.logger = logger;
    this.what = what;
    this.now = now;
  }

  get active(): boolean {
    return this.count > 0;
  }

  raise(message: string, fields: object = {}): void {
    this.count += 1;
    if (this.count === 1) {
      this.since = this.told = this.now();
      this.logger.warn(fields, `${this.what}: ${message}`);
    } else if (this.now() - this.told >= 60_000) {
      this.told = this.now();
      this.logger.warn(
        { ...fields, count: this.count },
        `${this.what}: ${message} (${this.count} times in ${Math.round((this.now() - this.since) / 1000)} s)`,
      );
    }
  }

  clear(): void {
    if (this.count === 0) return;
    this.logger.info(
      { count: this.count },
      `${this.what}: well again after ${Math.round((this.now() - this.since) / 1000)} s (${this.count} faults)`,
    );
    this.count = 0;
  }
}
