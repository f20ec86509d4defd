/** Debian's `kcat`, a client that shares no code with ours: what it sees is what others see. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { findProgram } from '../scripts/programs.ts';

const PROGRAM = findProgram('kcat');
export const hasKcat: boolean = PROGRAM !== undefined;
export const NEEDS_KCAT = hasKcat ? '' : ' (skipped: needs Debian’s kcat)';

export interface Seen {
  partition: number;
  offset: number;
  key: string;
  headers: { [name: string]: string };
  value: string;
}

/** All that a topic holds for readers of committed records (kcat's default), in the order of its partitions. */
export async function readTopic(bootstrap: string, topic: string): Promise<Seen[]> {
  const { stdout } = await run([
    '-b',
    bootstrap,
    '-C',
    '-t',
    topic,
    '-o',
    'beginning',
    '-e',
    '-q',
    // A topic that is written to all the time has an end only for a reader that does not wait for more.
    '-X',
    'fetch.wait.max.ms=10',
    '-f',
    '%p\\x01%o\\x01%k\\x01%h\\x01%s\\x02',
  ]);
  return stdout
    .split('\x02')
    .filter((record) => record !== '')
    .map((record) => {
      const [partition, offset, key = '', headers = '', value = ''] = record.split('\x01');
      const pairs =
        headers === ''
          ? []
          : headers.split(',').map((pair): [string, string] => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]);
      return { partition: Number(partition), offset: Number(offset), key, headers: Object.fromEntries(pairs), value };
    });
}

/** Produces lines `key<TAB>value`, as a program knows nothing of us would. */
export async function produce(
  bootstrap: string,
  topic: string,
  lines: ReadonlyArray<{ key: string; value: string }>,
  codec: 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd' = 'none',
): Promise<void> {
  const running = run(['-b', bootstrap, '-P', '-t', topic, '-K', '\t', '-z', codec]);
  running.child.stdin?.end(lines.map(({ key, value }) => `${key}\t${value}\n`).join(''));
  await running;
}

function run(args: string[]) {
  return promisify(execFile)(PROGRAM ?? 'kcat', args, { maxBuffer: 512 * 1024 * 1024, timeout: 60_000 });
}
