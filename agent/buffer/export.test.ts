import { execFileSync, spawn } from 'node:child_process';
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { bodyOf, buffer, change, makeBuffer, messagesIn, writeConfig } from '../../test/buffer.ts';
import { runOnce } from '../../test/programs.ts';
import { tempDir } from '../../test/tempdir.ts';
import { Outbox } from '../outbox.ts';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));

describe('export', () => {
  it('gives every record as it would be sent, in order', () => {
    const { config, first } = makeBuffer(tempDir(), 2500);
    const { status, stdout, stderr } = buffer(config, 'export');
    expect([status, stderr]).toEqual([0, 'ndt-agent: 2,500 records exported\n']);
    const messages = messagesIn(stdout);
    expect(messages).toHaveLength(2500);
    expect(messages[1700]).toEqual({
      topic: 'TP_r1',
      key: 'r1',
      headers: { 'ndt-agent': 'edge', 'ndt-boot': 'b1', 'ndt-seq': String(first + 1700) },
      value: bodyOf(1700),
      seq: first + 1700,
    });
    expect(messages.map(({ seq }) => seq)).toEqual(Array.from({ length: 2500 }, (_, i) => first + i));
  });

  it('by number and by time', () => {
    const { config, file, first } = makeBuffer(tempDir(), 100);
    change(file, `UPDATE records SET at = at - 3600000 WHERE seq < ${first + 40}`);
    const seqs = (...args: string[]) => messagesIn(buffer(config, 'export', ...args).stdout).map(({ seq }) => seq - first);
    expect(seqs('--from', `${first + 50}`, '--to', `${first + 52}`)).toEqual([50, 51, 52]);
    // The time is part of the checksum: what was changed behind the outbox's back is left out.
    expect(seqs('--from', '30m')).toEqual(Array.from({ length: 60 }, (_, i) => 40 + i));
    expect(buffer(config, 'export', '--to', '30m')).toMatchObject({
      status: 1,
      stdout: '',
      stderr: expect.stringContaining('40 are not as they were written and are left out'),
    });
  });

  it('dead letters, with the reason', () => {
    const { config, first } = makeBuffer(tempDir(), 5, {
      change: (outbox, seq) => {
        outbox.peek(5);
        outbox.settle({ acked: [], rejected: [{ seq: seq + 2, reason: 'MESSAGE_TOO_LARGE' }] });
      },
    });
    expect(messagesIn(buffer(config, 'export', '--dead-letters').stdout)).toEqual([
      {
        topic: 'TP_r1',
        key: 'r1',
        headers: { 'ndt-agent': 'edge', 'ndt-seq': String(first + 2), 'ndt-reason': 'MESSAGE_TOO_LARGE' },
        value: bodyOf(2),
        seq: first + 2,
      },
    ]);
  });

  it('of a copy: under the name of the agent whose it is, wherever that is done', () => {
    const { file } = makeBuffer(tempDir(), 3);
    const copy = join(tempDir(), 'stick.db');
    copyFileSync(file, copy);
    const names = (...args: string[]) =>
      messagesIn(runOnce('agent', ['buffer', 'export', '--file', copy, ...args]).stdout).map(({ headers }) => headers['ndt-agent']);
    expect(names()).toEqual(['edge', 'edge', 'edge']);
    expect(names('--config', writeConfig(tempDir(), { agent: { id: 'another' } }))).toEqual(['edge', 'edge', 'edge']);
    expect(runOnce('agent', ['buffer', 'export', '--file', copy, '--agent', 'another'])).toMatchObject({
      status: 64,
      stdout: '',
      stderr: expect.stringContaining('are of agent "edge"'),
    });
    // A file that does not say: the name of this host would be wrong as likely as not.
    change(copy, "DELETE FROM labels WHERE name = 'agent'");
    expect(runOnce('agent', ['buffer', 'export', '--file', copy])).toMatchObject({
      status: 64,
      stderr: expect.stringContaining('Name the agent with --agent ID'),
    });
    expect(names('--agent', 'far-away')).toEqual(['far-away', 'far-away', 'far-away']);
  });

  it('in constant memory, however much there is', () => {
    const { config } = makeBuffer(tempDir(), 60_000, { bytes: 1500 });
    const lines = execFileSync(
      'sh',
      ['-c', `'${process.execPath}' --max-old-space-size=24 '${MAIN}' buffer export --config '${config}' | wc -lc`],
      { encoding: 'utf8' },
    );
    const [count, bytes] = lines.trim().split(/\s+/).map(Number);
    expect(count).toBe(60_000);
    expect(bytes).toBeGreaterThan(90_000_000);
  });

  it('a reader that stops (a pager) does not hold the agent up; what went out meanwhile is left out, and nothing else', async () => {
    const dir = tempDir();
    const { config, file, first } = makeBuffer(dir, 20_000, { bytes: 1000 });
    const child = spawn(process.execPath, [MAIN, 'buffer', 'export', '--config', config], { stdio: ['ignore', 'pipe', 'pipe'] });
    const outbox = new Outbox({ file, agentId: 'edge', boot: 'b2', noticeTopic: 'ndt.notices', maxBytes: 64 * 2 ** 20, maxAgeMs: 0 });
    onTestFinished(() => outbox.close());
    await new Promise((resolve) => child.stdout.once('readable', resolve));
    // The pipe is full now and nobody reads. The agent goes on: more than its log may hold.
    for (let round = 0; round < 40; round += 1) {
      outbox.append(Array.from({ length: 250 }, () => ({ topic: 'TP_r1', key: 'r1', body: bodyOf(0, 1000) })));
      expect(outbox.whereabouts()).toEqual({ where: 'disk', cause: undefined });
    }
    const late = Array.from({ length: 100 }, (_, i) => first + 19_900 + i);
    outbox.read('all', 100, first + 19_899);
    outbox.settle({ acked: late, rejected: [] });
    let text = '';
    for await (const chunk of child.stdout) text += String(chunk);
    const seqs = messagesIn(text).map(({ seq }) => seq - first);
    expect(seqs).toEqual(Array.from({ length: 19_900 }, (_, i) => i));
  });

  it('into a file while the agent writes is one state of the buffer', async () => {
    const dir = tempDir();
    const { config, file, first } = makeBuffer(dir, 20_000, { bytes: 200 });
    const outbox = new Outbox({ file, agentId: 'edge', boot: 'b2', noticeTopic: 'ndt.notices', maxBytes: 64 * 2 ** 20, maxAgeMs: 0 });
    onTestFinished(() => outbox.close());
    const into = join(dir, 'export.ndjson');
    const child = spawn('sh', ['-c', `exec '${process.execPath}' '${MAIN}' buffer export --config '${config}' > '${into}'`], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said += String(chunk);
    });
    const ended = new Promise((resolve) => child.once('close', resolve));
    let over = false;
    void ended.then(() => {
      over = true;
    });
    let settled = first;
    while (!over) {
      outbox.append([{ topic: 'TP_r1', key: 'r1', body: '{}' }]);
      outbox.read('all', 1, settled - 1);
      outbox.settle({ acked: [settled], rejected: [] });
      settled += 1;
      // Rare enough that the log, which cannot be emptied meanwhile, stays small however long the export takes here.
      await sleep(25);
    }
    const seqs = messagesIn(readFileSync(into, 'utf8')).map(({ seq }) => seq);
    expect(said).toMatch(/^ndt-agent: [\d,]+ records exported\n$/);
    // Without a hole, from the oldest at that moment to the newest.
    expect(seqs.length).toBeGreaterThan(15_000);
    expect(seqs).toEqual(Array.from({ length: seqs.length }, (_, i) => (seqs[0] ?? 0) + i));
  });
});
