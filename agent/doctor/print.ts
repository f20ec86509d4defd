/** The doctor's findings on a screen, or as JSON. */
import { countOf } from '../buffer/text.ts';
import { exitCodeOf, type Finding, type Health } from './finding.ts';

const WORD: Record<Health, string> = { ok: 'ok', warning: 'warning', fail: 'FAIL' };
const COLOUR: Record<Health, number> = { ok: 32, warning: 33, fail: 31 };

/** Colours are for terminals, and only for those who want them (https://no-color.org). */
export function coloured(stream: { isTTY?: boolean }, env: NodeJS.ProcessEnv = process.env): boolean {
  return stream.isTTY === true && (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb';
}

/** One line; what follows a line break in the text is of the same finding and stays on it. */
export function line({ check, health, text, remedy }: Finding, width: number, colour: boolean): string {
  const word = WORD[health].padEnd(7);
  const shown = colour ? `\x1b[${COLOUR[health]}m${word}\x1b[0m` : word;
  const said = remedy === undefined ? text : `${text}: ${remedy}`;
  return `${shown}  ${check.padEnd(width)}  ${said.replace(/\s*\n\s*/g, '; ')}`;
}

/** `14 checks: 12 ok, 1 warning, 1 failure` */
export function summary(findings: readonly Finding[]): string {
  const of = (health: Health) => findings.filter((finding) => finding.health === health).length;
  const parts = [
    `${of('ok')} ok`,
    ...(of('warning') > 0 ? [countOf(of('warning'), 'warning')] : []),
    ...(of('fail') > 0 ? [countOf(of('fail'), 'failure')] : []),
  ];
  return `${countOf(findings.length, 'check')}: ${parts.join(', ')}`;
}

const VERDICT = { 0: 'ok', 1: 'fail', 2: 'warning' } as const;

export function asJson(findings: readonly Finding[], agent: string | undefined, atMs: number): string {
  const exitCode = exitCodeOf(findings);
  return JSON.stringify(
    { agent, at: new Date(atMs).toISOString(), verdict: VERDICT[exitCode], exit_code: exitCode, checks: findings },
    null,
    2,
  );
}
