/** What the doctor finds: one line for each thing looked at. */
import { NdtError } from '../../common/errors.ts';

export type Health = 'ok' | 'warning' | 'fail';

export interface Finding {
  /** What was looked at: `source r1`. */
  check: string;
  health: Health;
  text: string;
  /** What to do about it; not there where the text says it. */
  remedy?: string;
}

export function ok(check: string, text: string): Finding {
  return { check, health: 'ok', text };
}

export function warning(check: string, text: string, remedy?: string): Finding {
  return { check, health: 'warning', text, ...(remedy === undefined ? {} : { remedy }) };
}

export function fail(check: string, text: string, remedy?: string): Finding {
  return { check, health: 'fail', text, ...(remedy === undefined ? {} : { remedy }) };
}

/** A finding for what a person did wrong; anything else is a defect of ours and goes on upwards. */
export function failedBy(check: string, error: unknown): Finding {
  if (error instanceof NdtError) return fail(check, error.message);
  throw error;
}

/** 0: all is well. 1: something fails. 2: warnings only. */
export function exitCodeOf(findings: readonly Finding[]): 0 | 1 | 2 {
  if (findings.some(({ health }) => health === 'fail')) return 1;
  return findings.some(({ health }) => health === 'warning') ? 2 : 0;
}
