import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { buffer, inFile, ledgerOf, makeBuffer, reopened } from '../../test/buffer.ts';
import { tempDir } from '../../test/tempdir.ts';

const _MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));

describe('drop', () => {
  it('wants a reason and a yes', () => {
    const { config, file, first } = makeBuffer(tempDir(), 10);
    expect(buffer(config, 'drop', '--yes')).toMatchObject({ status: 64, stderr: expect.stringContaining('--reason TEXT is missing') });
    const { status, stdout } = buffer(config, 'drop', '--reason', 'test');
    expect([status, stdout]).toEqual([
      64,
      `10 records (numbers ${first} to ${first + 9}) would be dropped for "test": add --yes to do it; buffer export keeps a copy\n`,
    ]);
    expect(inFile(file).seqs).toHaveLength(10);
  });

  it('drops a range, counts it, and tells it as a gap', () => {
    const { config, file, first } = makeBuffer(tempDir(), 3000, {
      change: (outbox, seq) => {
        outbox.peek(3000);
        outbox.settle({ acked: [seq + 1000], rejected: [] });
      },
    });
    const { status, stdout } = buffer(
      config,
      'drop',
      '--reason',
      'a test of ours',
      '--from',
      `${first + 500}`,
      '--to',
      `${first + 2499}`,
      '--yes',
    );
    expect([status, stdout]).toEqual([0, `1,999 records (numbers ${first + 500} to ${first + 2499}) dropped for "a test of ours"\n`]);
    expect(ledgerOf(config)).toMatchObject({ delivered: 1, pending: 1000, dropped: { 'a test of ours': 1999 }, balanced: true });
    const { seqs, notices } = inFile(file);
    expect(seqs.filter((seq) => seq >= first + 500 && seq < first + 2500)).toEqual([]);
    expect(notices.every(({ agent, reason }) => agent === 'edge' && reason === 'a test of ours')).toBe(true);
    // The gaps together are exactly the numbers that were dropped.
    const told = notices.flatMap(({ from, to, count }) => {
      expect(count).toBe(to - from + 1);
      return Array.from({ length: count }, (_, i) => from + i - first);
    });
    expect(told).toEqual(Array.from({ length: 2000 }, (_, i) => 500 + i).filter((n) => n !== 1000));
    expect(reopened(file)).toMatchObject({ pending: 1000, repairs: 0 });
  });

  it('of a copy leaves the original alone', () => {
    const { config, file } = makeBuffer(tempDir(), 10);
    mkdirSync(join(tempDir(), 'copy'));
    const copy = join(tempDir(), 'copy.db');
    copyFileSync(file, copy);
    expect(buffer(config, 'drop', '--reason', 'x', '--yes', '--file', copy).status).toBe(0);
    expect([inFile(file).seqs.length, inFile(copy).seqs.length]).toEqual([10, 0]);
  });
});
