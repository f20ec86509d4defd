/** `buffer status`: how much waits, how long the buffer still lasts, and with `--watch` how a backlog goes down. */
import { setTimeout as sleep } from 'node:timers/promises';
import { withoutPassword } from '../../common/address.ts';
import { EXIT } from '../../common/errors.ts';
import { type Outage, outage } from './outage.ts';
import { Progress, type Step } from './progress.ts';
import { BufferFile } from './reader.ts';
import type { AgentState, Figures } from './running.ts';
import { agentOf, type Target } from './target.ts';
import { bytesText, countOf, countText, durationText, timeText } from './text.ts';

export interface Status {
  file: string;
  agent: string | undefined;
  /** Records that wait, in the file and in the running agent's memory. */
  pending: number;
  bytes: number;
  maxBytes: number;
  oldestAt: number | undefined;
  /** How long the oldest record has waited, ms: by the running agent’s own clock, or by this machine’s. */
  oldestMs: number | undefined;
  outage: Outage;
  running: AgentState['state'];
  uplink: { connected: boolean; url: string; errors: { [reason: string]: number } } | undefined;
  bytesWrittenPerDay: number | undefined;
}

export async function statusOf(target: Target): Promise<Status> {
  const agent = await agentOf(target);
  const file = new BufferFile(target.file);
  try {
    return file.snapshot(() => {
      const { config } = target.loaded;
      const figures = agent.state === 'running' ? agent.figures : undefined;
      const pending = figures?.get('ndt_records_pending') ?? waitingIn(file);
      const oldestAt = file.oldest()?.at;
      const errors = figures?.series('ndt_uplink_errors_total') ?? [];
      return {
        file: target.file,
        agent: file.label('agent') ?? target.agentId,
        pending,
        bytes: file.bytes(),
        maxBytes: config.agent.buffer.max_bytes,
        oldestAt,
        oldestMs: pending === 0 ? undefined : waitedMs(figures, oldestAt),
        outage: outage(target.loaded, file, agent),
        running: agent.state,
        uplink:
          figures === undefined
            ? undefined
            : {
                connected: figures.get('ndt_uplink_connected') === 1,
                url: config.agent.uplink === 'kafka' ? config.kafka.brokers.join(',') : withoutPassword(config.mqtt.url),
                errors: Object.fromEntries(errors.map(({ labels, value }) => [labels.reason ?? 'other', value])),
              },
        bytesWrittenPerDay: figures?.get('ndt_disk_written_bytes_per_day'),
      };
    });
  } finally {
    file.close();
  }
}

/** By the agent’s own clock where it tells; the wall clock may have been set meanwhile. */
function waitedMs(figures: Figures | undefined, oldestAt: number | undefined): number | undefined {
  const seconds = figures?.get('ndt_outbox_oldest_seconds');
  if (seconds !== undefined) return seconds * 1000;
  return oldestAt === undefined ? undefined : Math.max(0, Date.now() - oldestAt);
}

function waitingIn(file: BufferFile): number {
  const { pending, memory } = file.ledger();
  return pending + memory;
}

export async function printStatus(target: Target, json: boolean): Promise<number> {
  const status = await statusOf(target);
  process.stdout.write(json ? `${JSON.stringify(statusJson(status), null, 2)}\n` : `${statusText(status)}\n`);
  return EXIT.ok;
}

const RUNNING: Record<Status['running'], string> = {
  running: 'runs',
  stopped: 'does not run on this folder',
  silent: 'runs, but does not answer over HTTP (agent.http)',
  hidden: 'cannot be asked: its folder is not for this user',
};
const BOUND: Record<Outage['bound'], string> = {
  size: 'agent.buffer.max_bytes is reached',
  age: 'agent.buffer.max_age is reached',
  disk: 'the disk is full, before the cap is reached',
};

export function statusText(status: Status): string {
  const { file, agent, pending, bytes, maxBytes, oldestAt, oldestMs, uplink, running, bytesWrittenPerDay } = status;
  const rows: Array<[string, string]> = [
    ['buffer', `${file}${agent === undefined ? '' : ` of agent ${agent}`}`],
    ['agent', RUNNING[running]],
    ['waiting', countOf(pending, 'record')],
    ...(oldestMs === undefined
      ? []
      : [['oldest', `${durationText(oldestMs)}${oldestAt === undefined ? '' : ` (${timeText(oldestAt)})`}`] satisfies [string, string]]),
    ['size', `${bytesText(bytes)} of ${bytesText(maxBytes)} (${((bytes / maxBytes) * 100).toFixed(bytes * 10 < maxBytes ? 1 : 0)} %)`],
    ['outage', outageText(status.outage)],
  ];
  if (uplink !== undefined) rows.push(['uplink', uplinkText(uplink)]);
  if (bytesWrittenPerDay !== undefined) rows.push(['written', `${bytesText(bytesWrittenPerDay)} a day`]);
  return rows.map(([name, text]) => `${name.padEnd(8)} ${text}`).join('\n');
}

/** `lasts 5 days 3 h, at 17,280 records a day of 1.2 KiB; then …` */
export function outageText({ lastsMs, bound, recordsPerDay, bytesPerRecord, from }: Outage): string {
  const source = from === 'configuration' ? 'expected from the polling intervals' : 'measured';
  const rate = `${countText(recordsPerDay)} records a day (${source}) of ${bytesText(bytesPerRecord)}`;
  return `the buffer lasts ${durationText(lastsMs)} more at ${rate}; then ${BOUND[bound]}`;
}

function uplinkText({ connected, url, errors }: NonNullable<Status['uplink']>): string {
  const reasons = Object.entries(errors).map(([reason, n]) => `${reason} ${countText(n)}`);
  return `${connected ? 'connected to' : 'NOT connected to'} ${url}${reasons.length === 0 ? '' : ` (errors since the start: ${reasons.join(', ')})`}`;
}

export function statusJson(status: Status): object {
  const { oldestAt, oldestMs, outage: lasts } = status;
  return {
    file: status.file,
    agent: status.agent,
    running: status.running === 'running' || status.running === 'silent',
    pending: status.pending,
    bytes: status.bytes,
    max_bytes: status.maxBytes,
    oldest_at: oldestAt === undefined ? null : timeText(oldestAt),
    oldest_seconds: oldestMs === undefined ? null : oldestMs / 1000,
    outage_hours: Number.isFinite(lasts.lastsMs) ? lasts.lastsMs / 3_600_000 : null,
    outage_bound: lasts.bound,
    records_per_day: lasts.recordsPerDay,
    bytes_per_record: Math.round(lasts.bytesPerRecord),
    uplink: status.uplink ?? null,
    bytes_written_per_day: status.bytesWrittenPerDay ?? null,
  };
}

const EVERY_MS = 1000;

/** Draws until the records that waited at the start are gone, or `signal` aborts. */
export async function watch(
  target: Target,
  json: boolean,
  signal: AbortSignal,
  output: NodeJS.WriteStream = process.stdout,
): Promise<number> {
  const progress = new Progress();
  const terminal = output.isTTY === true && !json;
  const last = read(target, (file) => file.ledger().last);
  const agent = await agentOf(target);
  if (agent.state === 'stopped') process.stderr.write('ndt-agent: the agent does not run, so nothing goes out at the moment\n');
  for (;;) {
    const step = read(target, (file): Step => {
      const fresh = file.count({ fromSeq: last + 1 });
      return { left: Math.max(0, file.ledger().pending - fresh), fresh };
    });
    progress.add(performance.now(), step.left);
    const text = json
      ? JSON.stringify({ at: new Date().toISOString(), ...step, done: progress.done, per_second: progress.rate ?? null })
      : progress.line(step);
    output.write(terminal ? `\r${text.slice(0, (output.columns ?? 80) - 1)}\x1b[K` : `${text}\n`);
    if (step.left === 0 || signal.aborted) break;
    await sleep(EVERY_MS, undefined, { signal }).catch(() => {});
    if (signal.aborted) break;
  }
  if (terminal) output.write('\n');
  return EXIT.ok;
}

/** Opened anew each time: the agent may have been started or stopped in between. */
function read<T>({ file: path }: Target, what: (file: BufferFile) => T): T {
  const file = new BufferFile(path);
  try {
    return file.snapshot(() => what(file));
  } finally {
    file.close();
  }
}
