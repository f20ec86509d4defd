import { fileURLToPath } from 'node:url';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { buffer, inFile, ledgerOf, makeBuffer, reopened, written } from '../../test/buffer.ts';
import { runOnce } from '../../test/programs.ts';
import { tempDir } from '../../test/tempdir.ts';
import { Outbox } from '../outbox.ts';

const _MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));

describe('import', () => {
  it('brings back what was exported and dropped, under the same numbers, once', () => {
    const { config, file, first } = makeBuffer(tempDir(), 1200);
    const before = inFile(file).seqs;
    const exported = buffer(config, 'export').stdout;
    expect(buffer(config, 'drop', '--reason', 'moved to a stick', '--to', `${first + 899}`, '--yes').status).toBe(0);
    expect(ledgerOf(config)).toMatchObject({ pending: 300, dropped: { 'moved to a stick': 900 }, balanced: true });
    expect(buffer(config, 'import', written(exported))).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('1,200 lines: 900 imported, 300 known already'),
    });
    expect(inFile(file).seqs).toEqual(before);
    expect(buffer(config, 'export').stdout).toBe(exported);
    expect(buffer(config, 'import', written(exported)).stdout).toContain('1,200 lines: 0 imported, 1,200 known already');
    expect(ledgerOf(config)).toMatchObject({ produced: 1200, pending: 1200, balanced: true });
    expect(buffer(config, 'verify').status).toBe(0);
    // And the outbox itself finds nothing wrong with it.
    expect(reopened(file)).toMatchObject({ pending: 1200, produced: 1200, dropped: { 'moved to a stick': 0 }, repairs: 0 });
  });

  it('nothing that was delivered or refused comes twice', () => {
    const exported: string[] = [];
    const { config, file, first } = makeBuffer(tempDir(), 50);
    exported.push(buffer(config, 'export').stdout);
    settle(file, { acked: [first, first + 1, first + 2], rejected: [{ seq: first + 10, reason: 'no' }] });
    expect(buffer(config, 'import', written(exported.join(''))).stdout).toContain('50 lines: 0 imported, 50 known already');
    expect(inFile(file).seqs).toHaveLength(46);
  });

  it('takes the records of a disk that was lost into the new buffer, and those of a later life into a backup', () => {
    // Two lives of one agent, the second one on a new disk: its numbers are higher.
    const old = makeBuffer(tempDir(), 300, { nowMs: () => Date.now() - 86_400_000 });
    const later = makeBuffer(tempDir(), 200);
    expect(later.first).toBeGreaterThan(old.first + 300);
    const [oldLines, laterLines] = [buffer(old.config, 'export').stdout, buffer(later.config, 'export').stdout];
    const numbers = [...inFile(old.file).seqs, ...inFile(later.file).seqs];
    const oldPart = oldLines.split('\n').slice(100, 200).join('\n');
    expect(buffer(later.config, 'import', written(oldPart)).stdout).toContain('100 lines: 100 imported');
    expect(buffer(later.config, 'import', written(oldLines)).stdout).toContain('300 lines: 200 imported, 100 known already');
    expect(buffer(old.config, 'import', written(laterLines)).stdout).toContain('200 lines: 200 imported');
    for (const { config, file } of [old, later]) {
      expect(inFile(file).seqs).toEqual(numbers);
      expect(ledgerOf(config)).toMatchObject({ produced: 500, pending: 500, balanced: true });
      expect(buffer(config, 'verify')).toMatchObject({ status: 0 });
      const { last, pending } = reopened(file);
      // A number above all that were ever used.
      expect([pending, last]).toEqual([500, numbers.at(-1)]);
    }
  });

  it('refuses other agents’ lines, and what is no line, and says what to do; the good ones go in', () => {
    const { config, first } = makeBuffer(tempDir(), 10);
    const lines = buffer(config, 'export').stdout.trim().split('\n');
    buffer(config, 'drop', '--reason', 'x', '--yes');
    const input = [
      lines[0],
      lines[1]?.replace('"edge"', '"other"'),
      'nonsense',
      '{"topic":"t","key":"k","headers":{},"record":{}}',
      lines[2]?.replace(`${first + 2}`, '9007199254740991'),
      lines[3],
    ];
    const { status, stdout, stderr } = buffer(config, 'import', written(`${input.join('\n')}\n`));
    expect(status).toBe(1);
    expect(stdout).toContain('6 lines: 2 imported, 1 of other agents, 3 of no use');
    expect(stderr).toContain('line 2: it is of agent "other", and this buffer is of "edge"');
    expect(stderr).toContain('line 3: the line is not JSON');
    expect(stderr).toContain('line 4: it has no ndt-agent and ndt-seq');
    expect(stderr).toContain('line 5: its number 9007199254740991 is higher than any');
    expect(stderr).toContain('1 line of agent "other": import them there; where it is gone for good');
    expect(ledgerOf(config)).toMatchObject({ pending: 2, balanced: true });
  });

  it.each([
    ['gzip', gzipSync],
    ['zstd', zstdCompressSync],
    ['plain text', (text: string) => text],
  ])('from %s, by name and from standard input', (_, pack) => {
    const { config } = makeBuffer(tempDir(), 700, { bytes: 300 });
    const packed = pack(buffer(config, 'export').stdout);
    buffer(config, 'drop', '--reason', 'x', '--yes');
    expect(buffer(config, 'import', written(packed)).stdout).toContain('700 lines: 700 imported');
    const { stdout } = runOnce('agent', ['buffer', 'import', '-', '--config', config], { input: packed as string });
    expect(stdout).toContain('700 lines: 0 imported, 700 known already');
  });

  it('of a file that is cut short: what came before is in, and going on is safe', () => {
    const { config } = makeBuffer(tempDir(), 3000, { bytes: 300 });
    const text = buffer(config, 'export').stdout;
    buffer(config, 'drop', '--reason', 'x', '--yes');
    const packed = gzipSync(text);
    const cut = buffer(config, 'import', written(packed.subarray(0, packed.length >> 1)));
    expect(cut).toMatchObject({
      status: 65,
      stderr: expect.stringContaining('what came before is imported: mend the file and run this again'),
    });
    const pending = Number(ledgerOf(config).pending);
    expect(pending).toBeGreaterThan(0);
    expect(buffer(config, 'import', written(packed)).stdout).toContain('3,000 lines:');
    expect(ledgerOf(config)).toMatchObject({ pending: 3000, balanced: true });
  });

  it('of more than there is room for: stops with nothing half done', () => {
    const { config } = makeBuffer(tempDir(), 4000, { bytes: 1000 });
    const text = written(buffer(config, 'export').stdout);
    const small = makeBuffer(tempDir(), 0, { settings: { agent: { buffer: { max_bytes: 2 ** 21 } } } });
    const { status, stderr } = buffer(small.config, 'import', text);
    expect([status, stderr]).toEqual([
      74,
      expect.stringMatching(/is full \(agent\.buffer\.max_bytes\), or its disk is.*\d+ records are imported already/),
    ]);
    expect(ledgerOf(small.config)).toMatchObject({ balanced: true });
    expect(Number(ledgerOf(small.config).pending)).toBeGreaterThan(500);
    expect(buffer(small.config, 'verify').status).toBe(0);
  });

  it('a file that is not there, and no file at all', () => {
    const { config } = makeBuffer(tempDir(), 1);
    expect(buffer(config, 'import', '/nowhere.ndjson')).toMatchObject({
      status: 64,
      stderr: expect.stringContaining('/nowhere.ndjson cannot be read (ENOENT)'),
    });
    expect(buffer(config, 'import')).toMatchObject({
      status: 64,
      stderr: expect.stringContaining('expected one file, or - for standard input'),
    });
  });
});

function settle(file: string, delivery: Parameters<Outbox['settle']>[0]): void {
  const outbox = new Outbox({ file, agentId: 'edge', boot: 'b2', noticeTopic: 'ndt.notices', maxBytes: 2 ** 30, maxAgeMs: 0 });
  outbox.peek(1000);
  outbox.settle(delivery);
  outbox.close();
}
