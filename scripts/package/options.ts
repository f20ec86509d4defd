/** What the commands that make a release have in common: for what they make it, and the checksums of all that there is. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Args, type CliOption, textOption } from '../../common/cli.ts';
import { NdtError } from '../../common/errors.ts';
import { ARCHITECTURES, type Architecture, PROGRAMS, type ProgramName } from './programs.ts';

export const FOR_OPTIONS = {
  arch: { type: 'string', value: ARCHITECTURES.join('|'), help: 'for this architecture only' },
  program: { type: 'string', value: 'NAME', help: `this program only: ${PROGRAMS.join(' or ')}` },
} as const satisfies { [name: string]: CliOption };

/** @throws NdtError USAGE on an architecture or a program that there is not */
export function chosenFor(args: Args): { architectures: readonly Architecture[]; programs: readonly ProgramName[] } {
  return { architectures: chosen(args, 'arch', ARCHITECTURES), programs: chosen(args, 'program', PROGRAMS) };
}

/** One of the values, or all of them. */
function chosen<T extends string>(args: Args, option: string, values: readonly T[]): readonly T[] {
  const text = textOption(args, option);
  if (text === undefined) return values;
  const value = values.find((value) => value === text);
  if (value === undefined) throw new NdtError('USAGE', `--${option} ${text}: expected ${values.join(' or ')}`);
  return [value];
}

/** What a release consists of. */
const RELEASED = /^(?:(?:linux-\w+\/)?ndt-[a-z]+|ndt-[^/]*\.(?:cdx\.json|licences\.txt|deb|tar\.xz|tar\.gz))$/;

function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

/** Writes SHA256SUMS, as `sha256sum -c` reads it: of all that is there, also from builds for something else before. @returns its path */
export function writeChecksums(output: string): string {
  const lines = readdirSync(output, { recursive: true, encoding: 'utf8' })
    .filter((file) => RELEASED.test(file))
    .sort()
    .map((file) => `${sha256(join(output, file))}  ${file}\n`);
  const path = join(output, 'SHA256SUMS');
  writeFileSync(path, lines.join(''));
  return path;
}
