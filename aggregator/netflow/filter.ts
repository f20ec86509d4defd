/**
 * NetFlow as a filter: GoFlow2's output in (NDJSON, or protobuf messages with their lengths), records out (NDJSON or CSV). Chunks may be
 * cut anywhere. What cannot be read is reported with its place and skipped.
 */
import { NdtError } from '../../common/errors.ts';
import type { NetflowCounters } from './counters.ts';
import { CSV_HEADER, csvLine } from './csv.ts';
import { type Decoded, decodeJson, decodeProtobuf, looksLikeJson, skipNewline } from './flow.ts';
import type { Flow } from './normalise.ts';
import { type NetflowOptions, NetflowPipeline } from './pipeline.ts';
import { frameAt, looksFramed } from './protobuf.ts';

export interface FilterOptions extends NetflowOptions {
  /** `auto`, the default, tells by the first bytes. */
  input?: 'auto' | 'ndjson' | 'protobuf';
  /** `ndjson` is the default. */
  format?: 'ndjson' | 'csv';
  /** A line longer than this is bad [bytes]; 1 MiB is the default. */
  maxLineBytes?: number;
  onBad?: (bad: BadFlow) => void;
}

export interface BadFlow {
  /** Line of NDJSON, or number of the protobuf message; the first is 1. */
  readonly number: number;
  readonly unit: 'line' | 'message';
  readonly reason: string;
}

export interface FilterReport {
  readonly counters: NetflowCounters;
}

const NEWLINE = 0x0a;
const RETURN = 0x0d;
/** Enough to tell what the input is. */
const TELLING_BYTES = 16;
const READ_BYTES = 64 * 1024;
const MAX_LINE_BYTES = 1024 * 1024;

/**
 * Reads flows to the end of the input.
 * @param output gets texts of whole lines; the next is not written before it resolved
 * @returns the counts. Throws an NdtError (DATA) where protobuf input loses its framing: behind that nothing can be found again
 */
export async function netflowFilter(
  input: AsyncIterable<Buffer>,
  output: (text: string) => Promise<void>,
  options: FilterOptions = {},
): Promise<FilterReport> {
  const filter = new Filter(options);
  for await (const chunk of input) {
    // A whole file may come as one chunk; what it becomes is written piece by piece all the same. And nothing waits for more input:
    // whoever watches a live stream wants to see what is there.
    for (let from = 0; from < chunk.length; from += READ_BYTES) {
      filter.take(chunk.subarray(from, from + READ_BYTES));
      if (filter.text !== '') await output(filter.takeText());
    }
  }
  filter.end();
  if (filter.text !== '') await output(filter.takeText());
  return { counters: filter.pipeline.counters };
}

class Filter {
  readonly pipeline: NetflowPipeline;
  text: string;
  private readonly options: FilterOptions;
  private readonly maxLineBytes: number;
  private rest: Buffer = Buffer.alloc(0);
  private kind: 'ndjson' | 'protobuf' | undefined;
  private number = 0;
  /** Inside of a line that is too long already. */
  private skipping = false;

  constructor(options: FilterOptions) {
    this.options = options;
    this.maxLineBytes = options.maxLineBytes ?? MAX_LINE_BYTES;
    this.pipeline = new NetflowPipeline(options);
    this.kind = options.input === undefined || options.input === 'auto' ? undefined : options.input;
    this.text = options.format === 'csv' ? `${CSV_HEADER}\n` : '';
  }

  takeText(): string {
    const { text } = this;
    this.text = '';
    return text;
  }

  take(chunk: Buffer): void {
    const bytes = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    this.rest = bytes;
    if (this.kind === undefined && bytes.length < TELLING_BYTES) return;
    this.read(bytes, false);
  }

  end(): void {
    this.read(this.rest, true);
    this.write(this.pipeline.flush());
  }

  private read(bytes: Buffer, last: boolean): void {
    this.kind ??= !looksLikeJson(bytes) && looksFramed(bytes) ? 'protobuf' : 'ndjson';
    const used = this.kind === 'ndjson' ? this.lines(bytes, last) : this.frames(bytes, last);
    // A copy: the chunk it is cut from may be megabytes.
    this.rest = Buffer.from(bytes.subarray(used));
  }

  /** @returns how many bytes were used up */
  private lines(bytes: Buffer, last: boolean): number {
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      this.line(bytes, start, end);
      start = end + 1;
    }
    if (last && start < bytes.length) {
      this.line(bytes, start, bytes.length);
      start = bytes.length;
    }
    if (bytes.length - start <= this.maxLineBytes) return start;
    if (!this.skipping) this.tooLong();
    this.skipping = true;
    return bytes.length;
  }

  private line(bytes: Buffer, start: number, end: number): void {
    if (this.skipping) {
      this.skipping = false;
      return;
    }
    if (end - start > this.maxLineBytes) {
      this.tooLong();
      return;
    }
    this.number++;
    if (end === start || (end === start + 1 && bytes[start] === RETURN)) return;
    const line = bytes.subarray(start, end);
    if (line.every((byte) => byte === 0x20 || byte === 0x09 || byte === RETURN)) return;
    this.decoded(decodeJson(line));
  }

  private tooLong(): void {
    this.number++;
    this.decoded(`longer than ${this.maxLineBytes} bytes`);
  }

  private frames(bytes: Buffer, last: boolean): number {
    let position = 0;
    while (position < bytes.length) {
      const start = skipNewline(bytes, position);
      if (start >= bytes.length) {
        if (last) position = start;
        break;
      }
      let frame: ReturnType<typeof frameAt>;
      try {
        frame = frameAt(bytes, start);
      } catch (error) {
        throw new NdtError('DATA', `message ${this.number + 1}: its length makes no sense, so that no further one can be found`, {
          cause: error,
        });
      }
      if (frame === undefined) {
        if (!last) break;
        this.number++;
        this.decoded('the input ends inside of the message');
        return bytes.length;
      }
      this.number++;
      this.decoded(decodeProtobuf(bytes.subarray(frame.start, frame.end)));
      position = frame.end;
    }
    return position;
  }

  private decoded(decoded: Decoded | string): void {
    const flows = typeof decoded === 'string' ? decoded : this.pipeline.normalised([decoded]);
    if (typeof flows === 'string') {
      if (typeof decoded === 'string') this.pipeline.refuse();
      this.options.onBad?.({ number: this.number, unit: this.kind === 'protobuf' ? 'message' : 'line', reason: flows });
      return;
    }
    for (const flow of flows) this.write(this.pipeline.push(flow));
  }

  private write(records: readonly Flow[]): void {
    for (const record of records) this.text += `${this.options.format === 'csv' ? csvLine(record.values) : this.pipeline.write(record)}\n`;
  }
}
