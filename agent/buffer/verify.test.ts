import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { buffer, change, makeBuffer } from '../../test/buffer.ts';
import { tempDir } from '../../test/tempdir.ts';

const _MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));

describe('verify', () => {
  const verify = (config: string, ...more: string[]) => buffer(config, 'verify', ...more);

  it('a sound buffer, with holes that the counts explain', () => {
    const { config, first } = makeBuffer(tempDir(), 100, {
      change: (outbox, seq) => {
        outbox.peek(100);
        outbox.settle({ acked: [seq + 3, seq + 4, seq + 50], rejected: [{ seq: seq + 60, reason: 'no' }] });
      },
    });
    const { status, stdout } = verify(config);
    expect(status).toBe(0);
    expect(stdout).toContain(
      `waiting are ${first}–${first + 2}, ${first + 5}–${first + 49}, ${first + 51}–${first + 59}, ${first + 61}–${first + 99}; the other 4 are delivered, dropped or rejected`,
    );
    expect(stdout).toContain('1 kept of 1 rejected');
    expect(stdout.trimEnd()).toMatch(/\nsound \(5 checks: 5 ok\)$/);
    expect(JSON.parse(verify(config, '--json').stdout)).toMatchObject({ verdict: 'ok', exit_code: 0 });
  });

  it.each<[string, string, string]>([
    [
      'a record whose text was changed',
      "UPDATE records SET body = replace(body, 'node', 'nude') WHERE seq % 50 = 0",
      'are not as they were written',
    ],
    ['records that are gone', 'DELETE FROM records WHERE seq % 10 = 0', 'NOT balanced: 20 more were produced'],
    ['counts that are wrong', "UPDATE counts SET n = n + 5 WHERE what = 'delivered'", 'NOT balanced: 5 more are accounted for'],
    ['a wrong number of waiting ones', "UPDATE meta SET value = 7 WHERE name = 'pending'", 'the file says that 7 records wait, and 200 do'],
    ['numbers that were never given out', "UPDATE meta SET value = value - 10 WHERE name = 'last_seq'", 'were given out'],
  ])('%s', (_, sql, expected) => {
    const { config, file } = makeBuffer(tempDir(), 200);
    change(file, sql);
    const { status, stdout } = verify(config);
    expect(stdout).toContain(expected);
    expect(stdout).toContain('NOT sound');
    expect(status).toBe(1);
  });

  it('bytes that were changed anywhere in the file, of which it takes notice wherever they count', () => {
    const { config, file } = makeBuffer(tempDir(), 400, { bytes: 500 });
    const whole = readFileSync(file);
    let noticed = 0;
    const places = Array.from({ length: 12 }, (_, i) => Math.floor((whole.length / 12) * (i + 0.5)));
    for (const at of places) {
      const damaged = Buffer.from(whole);
      for (let i = at; i < at + 64; i += 1) damaged[i] = (damaged[i] ?? 0) ^ 0xff;
      writeFileSync(file, damaged);
      const { status, stdout, stderr } = verify(config);
      expect(stderr).toBe('');
      if (status === 1) noticed += 1;
      else expect(stdout).toContain('sound (');
    }
    // Most of this file is records; the rest is pages that nothing uses.
    expect(noticed).toBeGreaterThan(6);
  }, 60_000);

  it('files that the agent has put aside', () => {
    const { config, file } = makeBuffer(tempDir(), 5);
    copyFileSync(file, `${file}.damaged-20260504T120000Z`);
    const { status, stdout } = verify(config);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^warning.*1 damaged file put aside: outbox\.db\.damaged-20260504T120000Z: look with buffer verify --file/m);
  });

  it('passes over tables of a newer ndt', () => {
    const { config, file } = makeBuffer(tempDir(), 5);
    change(file, "CREATE TABLE tomorrow (x TEXT); INSERT INTO tomorrow VALUES ('y'); INSERT INTO meta VALUES ('tomorrow', 1)");
    for (const command of ['status', 'ledger', 'export', 'verify']) expect(buffer(config, command)).toMatchObject({ status: 0 });
  });
});
