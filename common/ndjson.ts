/** Commands as filters: a JSON text per line in, one per line out. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/**
 * Runs lines through `transform`, in order, `batch` at a time. Empty lines are passed over.
 * @param transform what goes out for each line; undefined for nothing; an Error is reported with the line's number
 * @returns how many lines gave an error
 */
export async function filterLines(
  input: NodeJS.ReadableStream,
  output: NodeJS.WritableStream,
  report: (message: string) => void,
  transform: (lines: string[]) => Promise<Array<string | Error | undefined>>,
  batch = 256,
): Promise<number> {
  let bad = 0;
  let number = 0;
  let waiting: Array<{ line: string; number: number }> = [];
  const flush = async () => {
    const now = waiting;
    waiting = [];
    const results = await transform(now.map(({ line }) => line));
    let out = '';
    results.forEach((result, i) => {
      if (result instanceof Error) {
        bad += 1;
        report(`line ${now[i]?.number}: ${result.message}`);
      } else if (result !== undefined) out += `${result}\n`;
    });
    if (out !== '' && !output.write(out)) await once(output, 'drain');
  };
  for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
    number += 1;
    if (line.trim() === '') continue;
    waiting.push({ line, number });
    // Nothing more at hand: whoever watches the output wants to see it now.
    if (waiting.length >= batch || ('readableLength' in input && input.readableLength === 0)) await flush();
  }
  if (waiting.length > 0) await flush();
  return bad;
}
