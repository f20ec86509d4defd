/** The file that keeps what each metric has been published up to, so that a restart neither repeats nor skips. */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { codeOf, messageOf, NdtError } from '../../common/errors.ts';

/** The last published end of each metric, Unix ms. */
export type Ends = Map<string, number>;

/** @returns what the file has, and what is wrong with it where nothing can be made of it: publishing then starts afresh */
export function readEnds(file: string): { ends: Ends; trouble?: string } {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return { ends: new Map() };
    return { ends: new Map(), trouble: `cannot read ${file} (${messageOf(error)})` };
  }
  try {
    const value: unknown = JSON.parse(text);
    const ends: unknown = typeof value === 'object' && value !== null && 'published_until' in value ? value.published_until : undefined;
    if (typeof ends !== 'object' || ends === null || Array.isArray(ends)) throw new Error('there is no published_until');
    return {
      ends: new Map(
        Object.entries(ends).map(([name, at]: [string, unknown]) => {
          const ms = typeof at === 'string' ? Date.parse(at) : Number.NaN;
          if (Number.isNaN(ms)) throw new Error(`published_until of ${name} is no time`);
          return [name, ms];
        }),
      ),
    };
  } catch (error) {
    return { ends: new Map(), trouble: `${file} is damaged (${messageOf(error)})` };
  }
}

/** Replaces the file as a whole, on disk when it returns. @throws NdtError IO */
export function writeEnds(file: string, ends: Ends): void {
  const text = JSON.stringify(
    { published_until: Object.fromEntries([...ends].map(([name, ms]) => [name, new Date(ms).toISOString()])) },
    null,
    2,
  );
  const made = `${file}.new`;
  try {
    const fd = openSync(made, 'w', 0o640);
    try {
      writeSync(fd, `${text}\n`);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(made, file);
    const dir = openSync(dirname(file), 'r');
    try {
      fsyncSync(dir);
    } finally {
      closeSync(dir);
    }
  } catch (error) {
    throw new NdtError('IO', `cannot write ${file}: make room, and let this user write there`, { cause: error });
  }
}
