/**
 * Whether the wall clock can be right. Records are stamped with it, so a wrong one puts them into the wrong place of history, although
 * durations and rates come from the monotonic clock and stay right.
 */
import { execFile } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { uptime } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { httpUrl } from '../../common/address.ts';
import { isLoopback, type Loaded } from '../../common/config.ts';
import { codeOf } from '../../common/errors.ts';
import { countOf, durationText, timeText } from '../buffer/text.ts';
import { type Finding, fail, ok, warning } from './finding.ts';

/** ndt is younger than any clock that says less [Unix ms]. */
const YOUNGEST = Date.UTC(2026, 0, 1);
/** Difference to another clock [ms]. */
const NOTICEABLE = 2000;
const WRONG = 60_000;
/** A time service asks at least this often [ms]. */
const SYNC_MS = 86_400_000;
const ASK_MS = 2000;

export interface ClockOptions {
  nowMs?: () => number;
  /** Where the system keeps the state of its services. */
  runDir?: string;
  /** When the newest record in the buffer was made, Unix ms. */
  newestAt?: number | undefined;
  /** Steps of it that the running agent has noticed. */
  steps?: number | undefined;
}

export async function checkClock(
  loaded: Loaded,
  { nowMs = Date.now, runDir = '/run', newestAt, steps = 0 }: ClockOptions = {},
): Promise<Finding[]> {
  const [sync, others] = await Promise.all([synchronised(runDir, nowMs()), compare(loaded, nowMs)]);
  return [plausible(nowMs(), newestAt, steps), sync, ...others];
}

function plausible(now: number, newestAt: number | undefined, steps: number): Finding {
  const check = 'clock';
  if (now < YOUNGEST) {
    return fail(
      check,
      `it says ${timeText(now)}, which is before ndt was written`,
      'set it (timedatectl set-time), and see that a time service runs',
    );
  }
  const booted = now - uptime() * 1000;
  if (newestAt !== undefined && newestAt > now + NOTICEABLE) {
    const text = `it says ${timeText(now)}, but the newest record was made at ${timeText(newestAt)}, ${durationText(newestAt - now)} later`;
    return warning(check, text, 'the clock has been set back, or was wrong when that record was made: see that a time service runs');
  }
  const stepped = steps === 0 ? '' : `; set ${countOf(steps, 'time')} since the agent runs, which moved no duration`;
  return ok(check, `${timeText(now)}, up since ${timeText(booted)}${stepped}`);
}

/** What the system's time service says. */
async function synchronised(runDir: string, now: number): Promise<Finding> {
  const check = 'time service';
  const timesync = join(runDir, 'systemd/timesync');
  try {
    const { mtimeMs } = statSync(join(timesync, 'synchronized'));
    const age = Math.max(0, now - mtimeMs);
    if (age <= SYNC_MS) return ok(check, `systemd-timesyncd, last synchronised ${durationText(age)} ago`);
    return warning(
      check,
      `systemd-timesyncd has not synchronised for ${durationText(age)}`,
      'look why it reaches no time server: timedatectl timesync-status',
    );
  } catch (error) {
    if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'ENOTDIR') return ok(check, `its state cannot be read (${codeOf(error)})`);
  }
  // Without one the clock begins anywhere at each start, and only a time server can set it right.
  const none = existsSync('/sys/class/rtc/rtc0') || !existsSync('/sys/class') ? '' : ', and this machine has no battery-backed clock';
  if (existsSync(timesync)) {
    return warning(
      check,
      `systemd-timesyncd has not synchronised since the machine started${none}`,
      'look why it reaches no time server: timedatectl timesync-status',
    );
  }
  const answer = await ask('timedatectl', ['show', '--property=NTPSynchronized', '--value']);
  if (answer === 'yes') return ok(check, 'the kernel’s clock is synchronised');
  if (answer === 'no') return warning(check, `nothing keeps the clock right${none}`, 'install a time service: chrony or systemd-timesyncd');
  return ok(check, 'none is visible here, so another machine or container may run it');
}

async function ask(program: string, args: string[]): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)(program, args, { timeout: ASK_MS });
    return stdout.trim();
  } catch {
    return undefined;
  }
}

/** The clocks of other machines that answer over HTTP. */
async function compare(loaded: Loaded, nowMs: () => number): Promise<Finding[]> {
  const results = await Promise.all(
    otherClocks(loaded).map(async ({ name, url }) => ({ name, difference: await clockDifference(url, nowMs) })),
  );
  return results.flatMap(({ name, difference }) => (difference === undefined ? [] : [judge(name, difference)]));
}

/** The aggregator, where it is on another machine; the routers only tell of their own clocks, which nobody uses. */
export function otherClocks({ config }: Loaded): Array<{ name: string; url: string }> {
  const { http } = config.aggregator;
  const broker = config.agent.uplink === 'mqtt' ? URL.parse(config.mqtt.url)?.hostname : undefined;
  const host = broker !== undefined && broker !== '' ? broker : http.host;
  if (isLoopback(host.replace(/^\[|\]$/g, '')) || /^(0\.0\.0\.0|::)$/.test(host)) return [];
  const url = httpUrl(`http://${host}:${http.port}/healthz`);
  return url === undefined ? [] : [{ name: `the aggregator’s (${host})`, url: url.href }];
}

/**
 * How far our clock is ahead of the one that an HTTP server's `Date` comes from, at least [ms]: 0 where they may agree, as that header
 * knows whole seconds only.
 * @returns undefined where nothing tells
 */
export async function clockDifference(url: string, nowMs: () => number = Date.now): Promise<number | undefined> {
  const sent = nowMs();
  try {
    const response = await fetch(url, { method: 'HEAD', redirect: 'manual', signal: AbortSignal.timeout(ASK_MS) });
    const received = nowMs();
    await response.body?.cancel();
    const date = Date.parse(response.headers.get('date') ?? '');
    if (Number.isNaN(date)) return undefined;
    // Sometime between asking and answer it was between `date` and a second later there.
    const [least, most] = [sent - (date + 1000), received - date];
    return least > 0 ? least : most < 0 ? most : 0;
  } catch {
    return undefined;
  }
}

function judge(name: string, difference: number): Finding {
  const check = 'clock';
  const off = Math.abs(difference);
  if (off <= NOTICEABLE) return ok(check, `agrees with ${name}`);
  const text = `it is ${durationText(off)} ${difference > 0 ? 'ahead of' : 'behind'} ${name}`;
  const remedy = 'set the wrong one of the two, and see that a time service runs on both';
  return off > WRONG ? fail(check, text, remedy) : warning(check, text, remedy);
}
