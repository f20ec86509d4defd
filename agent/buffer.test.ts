import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { buffer, change, inFile, ledgerOf, makeBuffer, messagesIn, writeConfig, written } from '../test/buffer.ts';
import { Pair, runOnce } from '../test/programs.ts';
import { tempDir } from '../test/tempdir.ts';
import { until } from '../test/until.ts';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));

describe('status', () => {
  it('tells what waits, how large it is, and how long it lasts, without an agent', () => {
    const { config } = makeBuffer(tempDir(), 500, { bytes: 1000, settings: { polling_interval: 2 } });
    const { status, stdout } = buffer(config, 'status');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^waiting {2}500 records$/m);
    expect(stdout).toContain('does not run on this folder');
    const told = JSON.parse(buffer(config, 'status', '--json').stdout);
    expect(told).toMatchObject({
      agent: 'edge',
      running: false,
      pending: 500,
      max_bytes: 2 ** 30,
      records_per_day: 43_200,
      uplink: null,
      outage_bound: 'age',
    });
    // A gibibyte of records of 1.2 kB, two seconds apart, is three weeks, so the age bound of seven days is what counts.
    expect(told.outage_hours).toBeGreaterThan(167.9);
    expect(told.bytes_per_record).toBeGreaterThan(1000);
    expect(told.oldest_seconds).toBeGreaterThan(0);
  });

  it('the cap counts where it is reached first', () => {
    const { config } = makeBuffer(tempDir(), 500, {
      bytes: 1000,
      settings: { polling_interval: 1, agent: { buffer: { max_bytes: 4_000_000 } } },
    });
    const told = JSON.parse(buffer(config, 'status', '--json').stdout);
    expect(told.outage_bound).toBe('size');
    expect((told.outage_hours * 3600 * told.bytes_per_record + told.bytes) / 4_000_000).toBeCloseTo(1, 1);
  });

  it('without a buffer: where it would be, and what to do', () => {
    const { status, stderr } = buffer(writeConfig(tempDir()), 'status');
    expect([status, stderr]).toEqual([
      69,
      expect.stringMatching(/there is no buffer at .*data\/agent\/outbox\.db: has the agent run with this data folder\?/),
    ]);
  });
});

describe('ledger', () => {
  it('balances, by reason', () => {
    const { config, first } = makeBuffer(tempDir(), 10, {
      change: (outbox, seq) => {
        outbox.peek(10);
        outbox.settle({ acked: [seq, seq + 1], rejected: [{ seq: seq + 5, reason: 'too_large' }] });
      },
    });
    const { status, stdout } = buffer(config, 'ledger');
    expect(status).toBe(0);
    expect(stdout).toMatch(
      new RegExp(
        `produced +10 +numbers ${first} to ${first + 9}\\ndelivered +2\\npending +7\\ndropped +0\\nrejected +1 +too_large 1\\nbalanced`,
      ),
    );
    expect(ledgerOf(config)).toMatchObject({
      produced: 10,
      delivered: 2,
      pending: 7,
      dropped: {},
      rejected: { too_large: 1 },
      balanced: true,
      difference: 0,
    });
  });

  it('that does not balance is told, and is exit code 1', () => {
    const { config, file } = makeBuffer(tempDir(), 10);
    change(file, 'DELETE FROM records WHERE seq IN (SELECT seq FROM records LIMIT 3)');
    const { status, stdout } = buffer(config, 'ledger');
    expect(status).toBe(1);
    expect(stdout).toContain('NOT balanced: 3 more were produced than are accounted for');
  });
});

describe('with an agent that runs', () => {
  const routers = [{ r1: { interfaces: ['lo'], polling_interval: 0.05 } }];
  const metric = async (pair: Pair, line: string) => {
    const text = await (await fetch(`${pair.agentUrl}/metrics`)).text();
    return Number(
      text
        .split('\n')
        .find((l) => l.startsWith(`${line} `))
        ?.split(' ')
        .at(-1) ?? Number.NaN,
    );
  };

  it('everything that reads works; import is refused; drop is taken over by the agent', async () => {
    const pair = await Pair.make(tempDir(), { routers });
    onTestFinished(() => pair.stop());
    const agent = await pair.agent();
    await until(async () => (await metric(pair, 'ndt_records_pending')) > 40, 'records to wait');
    const status = JSON.parse(buffer(pair.config, 'status', '--json').stdout);
    expect(status).toMatchObject({ running: true, uplink: { connected: false, errors: { unreachable: expect.any(Number) } } });
    expect(status.pending).toBeGreaterThan(40);
    expect(status.bytes_written_per_day).toBeGreaterThan(0);
    expect(buffer(pair.config, 'status').stdout).toMatch(/^uplink {3}NOT connected to mqtt:.*unreachable \d/m);
    expect(ledgerOf(pair.config)).toMatchObject({ balanced: true });
    const exported = buffer(pair.config, 'export').stdout;
    expect(messagesIn(exported).length).toBeGreaterThan(40);
    expect(buffer(pair.config, 'verify').status).toBe(0);
    expect(buffer(pair.config, 'import', written(exported))).toMatchObject({
      status: 69,
      stderr: expect.stringMatching(/the agent runs on .*: stop it first/),
    });

    const { first } = pair.ledger();
    expect(
      buffer(pair.config, 'drop', '--reason', 'while it runs', '--from', `${first + 10}`, '--to', `${first + 29}`, '--yes'),
    ).toMatchObject({ status: 0 });
    await until(async () => (await metric(pair, 'ndt_records_dropped_total{reason="while it runs"}')) === 20, 'the agent to know of it');
    expect(ledgerOf(pair.config)).toMatchObject({ balanced: true, dropped: { 'while it runs': 20 } });
    expect(agent.log).not.toContain('damaged');

    // And the aggregator hears of the gap, has everything else once, and misses nothing that the gap does not explain.
    await pair.aggregator();
    await until(async () => (await metric(pair, 'ndt_records_delivered_total')) > 40, 'the records to go out');
    await until(async () => (await metric(pair, 'ndt_records_pending')) === 0, 'nothing to wait');
    await until(() => inFile(join(pair.dir, 'data/agent/outbox.db')).notices.length === 0, 'the notice to go out');
    const seqs = await until(() => {
      const stored = pair.stored('processed').map(({ seq }) => seq - first);
      return stored.includes(40) && stored;
    }, 'the records to be stored');
    expect(seqs.toSorted((a, b) => a - b).slice(0, 12)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 30, 31]);
    await agent.stop();
    expect(ledgerOf(pair.config)).toMatchObject({ balanced: true, dropped: { 'while it runs': 20 } });
    expect(buffer(pair.config, 'verify').status).toBe(0);
  }, 60_000);

  it('a hundred drops beside an agent under load: its account never breaks', async () => {
    const fast = Array.from({ length: 8 }, (_, i) => ({ [`r${i}`]: { interfaces: ['lo'], polling_interval: 0.02 } }));
    const pair = await Pair.make(tempDir(), { routers: fast });
    onTestFinished(() => pair.stop());
    const agent = await pair.agent();
    await until(async () => (await metric(pair, 'ndt_records_pending')) > 100, 'records to wait');
    const { drop } = await import('./buffer/drop.ts');
    const { targetOf } = await import('./buffer/target.ts');
    const target = targetOf({ values: { config: pair.config }, positionals: [] });
    let dropped = 0;
    for (let round = 0; round < 100; round += 1) dropped += (await drop(target, {}, 'load')).count;
    await until(async () => (await metric(pair, 'ndt_records_dropped_total{reason="load"}')) === dropped, 'the agent to know of all');
    await agent.stop();
    expect(agent.log).not.toMatch(/damaged|memory/);
    expect(ledgerOf(pair.config)).toMatchObject({ balanced: true, dropped: { load: dropped } });
    expect(buffer(pair.config, 'verify').status).toBe(0);
  }, 60_000);

  it('--watch draws until the backlog is gone', async () => {
    const settings = { routers, agent: { buffer: { replay: { rate: 60 } } } };
    const pair = await Pair.make(tempDir(), settings);
    onTestFinished(() => pair.stop());
    await pair.agent();
    await until(() => pair.ledger().pending > 100, 'a backlog');
    await pair.aggregator();
    const { status, stdout } = buffer(pair.config, 'status', '--watch');
    expect(status).toBe(0);
    const lines = stdout.trim().split('\n');
    expect(lines.length).toBeGreaterThan(1);
    expect(lines[0]).toMatch(/^\[[#-]{30}\] +\d+ % {2}\d+ left · measuring/);
    expect(lines.at(-1)).toMatch(/^\[#{30}\] 100 % {2}0 left · [\d.]+\/s · done/);
    expect(stdout).not.toContain('\x1b');
  }, 60_000);

  it('--watch on a terminal is one line that changes, and Ctrl-C ends it', async () => {
    const { config } = makeBuffer(tempDir(), 50);
    const child = spawn(
      'script',
      ['-qfec', `exec '${process.execPath}' '${MAIN}' buffer status --watch --config '${config}'`, '/dev/null'],
      {
        stdio: ['pipe', 'pipe', 'ignore'],
      },
    );
    let screen = '';
    child.stdout.on('data', (chunk: Buffer) => {
      screen += String(chunk);
    });
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    await until(() => screen.split('\r').filter((part) => part.startsWith('[')).length > 2, 'three refreshments');
    child.stdin.write('\x03');
    expect(await ended).toBe(0);
    expect(screen).toContain('50 left');
    expect(screen).toContain('\x1b[K');
    expect(
      screen
        .trimEnd()
        .split('\n')
        .filter((row) => row.includes('left')),
    ).toHaveLength(1);
  });
});

describe('help', () => {
  it.each(['status', 'ledger', 'export', 'import', 'verify', 'drop'])('buffer %s has its own, with examples', (name) => {
    const { status, stdout } = runOnce('agent', ['buffer', name, '--help']);
    expect(status).toBe(0);
    expect(stdout).toContain(`ndt-agent buffer ${name}: `);
    expect(stdout).toMatch(new RegExp(`Examples:\\n(.*ndt-agent buffer ${name}.*\\n)+`));
    expect(runOnce('agent', ['help', 'buffer', name]).stdout).toBe(stdout);
  });
  it('buffer alone, and a subcommand that there is not', () => {
    expect(runOnce('agent', ['buffer'])).toMatchObject({
      status: 64,
      stderr: expect.stringContaining('status, ledger, export, import, verify, drop'),
    });
    expect(runOnce('agent', ['buffer', 'flush'])).toMatchObject({ status: 64, stderr: expect.stringContaining('there is no "flush"') });
    expect(runOnce('agent', ['buffer', '--help'])).toMatchObject({ status: 0, stdout: expect.stringContaining('buffer export') });
  });
});
