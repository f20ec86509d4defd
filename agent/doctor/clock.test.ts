import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../common/config.ts';
import { makeBuffer, writeConfig } from '../../test/buffer.ts';
import { examined, lines } from '../../test/doctor.ts';
import { serve } from '../../test/serve.ts';
import { tempDir } from '../../test/tempdir.ts';
import { checkClock, clockDifference, otherClocks } from './clock.ts';
import type { Finding } from './finding.ts';

describe('clock', () => {
  const loaded = (dir: string, settings = {}) => loadConfig(writeConfig(dir, settings), {});
  const find = (findings: Finding[], check: string) => findings.find((finding) => finding.check === check);

  it('a time service that has synchronised, one that has not for long, one that never has, and none', async () => {
    const dir = tempDir();
    const at = async () => find(await checkClock(loaded(dir), { runDir: dir }), 'time service');
    expect((await at())?.health).toMatch(/ok|warning/);
    mkdirSync(join(dir, 'systemd/timesync'), { recursive: true });
    expect(await at()).toMatchObject({
      health: 'warning',
      text: expect.stringContaining('has not synchronised since the machine started'),
    });
    writeFileSync(join(dir, 'systemd/timesync/synchronized'), '');
    expect(await at()).toMatchObject({ health: 'ok', text: expect.stringContaining('last synchronised') });
    utimesSync(join(dir, 'systemd/timesync/synchronized'), Date.now() / 1000 - 3 * 86_400, Date.now() / 1000 - 3 * 86_400);
    expect(await at()).toMatchObject({ health: 'warning', text: expect.stringContaining('has not synchronised for 3 days') });
  });

  it('a clock of 1970, and one that is behind the newest record', async () => {
    const dir = tempDir();
    const at = async (nowMs: number, newestAt?: number) =>
      find(await checkClock(loaded(dir), { nowMs: () => nowMs, runDir: dir, newestAt }), 'clock');
    expect(await at(1000)).toMatchObject({ health: 'fail', text: expect.stringContaining('1970-01-01') });
    const now = Date.now();
    expect(await at(now, now + 3_600_000)).toMatchObject({ health: 'warning', text: expect.stringContaining('1 h later') });
    expect(await at(now, now + 500)).toMatchObject({ health: 'ok' });
  });

  it('a real buffer whose newest record is of tomorrow', () => {
    const { config } = makeBuffer(tempDir(), 3, { nowMs: () => Date.now() + 86_400_000 });
    expect(lines(examined(config), 'clock')[0]).toMatchObject({
      health: 'warning',
      text: expect.stringMatching(/ (23 h 59 min|24 h) later$/),
    });
  });

  it('is compared with the one behind an HTTP server, as exactly as its header allows', async () => {
    let offset = 0;
    const { url } = await serve((_, response) => {
      response.sendDate = false;
      response.setHeader('date', new Date(Date.now() + offset).toUTCString()).end();
    });
    expect(await clockDifference(url)).toBe(0);
    offset = -3_600_000;
    expect(await clockDifference(url)).toBeGreaterThan(3_598_000);
    expect(await clockDifference(url)).toBeLessThanOrEqual(3_600_500);
    offset = 120_000;
    expect(await clockDifference(url)).toBeLessThan(-118_000);
    expect(await clockDifference('http://127.0.0.1:9/')).toBeUndefined();
  });

  it('asks the aggregator only where it is another machine', () => {
    const clocks = (mqtt: string, more = {}) => otherClocks(loaded(tempDir(), { mqtt: { url: mqtt }, ...more }));
    expect(clocks('mqtt://127.0.0.1:1883')).toEqual([]);
    expect(clocks('mqtt://[::1]:1883')).toEqual([]);
    expect(clocks('mqtts://core.example:8883')).toEqual([
      { name: 'the aggregator’s (core.example)', url: 'http://core.example:9480/healthz' },
    ]);
  });
});
