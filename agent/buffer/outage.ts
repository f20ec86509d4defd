/** For how long an outage the buffer lasts, at the rate at which records come in. */

import { statfsSync } from 'node:fs';
import type { Loaded } from '../../common/config.ts';
import { pathOf } from '../../common/config.ts';
import type { BufferFile } from './reader.ts';
import type { AgentState } from './running.ts';

export interface Outage {
  /** Until the first record would be dropped, ms; Infinity where nothing comes in. */
  lastsMs: number;
  /** What ends it: the cap, the age bound, or the disk itself. */
  bound: 'size' | 'age' | 'disk';
  /** How many records a day, and how large each is in the file [bytes]. */
  recordsPerDay: number;
  bytesPerRecord: number;
  /** Where the rate comes from: what the running agent measured, the newest waiting records, or the polling intervals. */
  from: 'agent' | 'records' | 'configuration';
}

const DAY = 86_400_000;
/** So many records, over so long, tell of a rate. */
const ENOUGH = { records: 20, ms: 30_000 };
/** Of a processed record of one router with two interfaces, where nothing else tells [bytes]. */
const TYPICAL_BYTES = 1200;
/** Pages are never quite full, and hold numbers and lengths beside the text. */
const PAGE_FILL = 1.1;

/** @param file undefined where there is none yet */
export function outage(loaded: Loaded, file: BufferFile | undefined, agent: AgentState, nowMs = Date.now()): Outage {
  const { max_bytes: maxBytes, max_age: maxAge } = loaded.config.agent.buffer;
  const recent = file?.recent(2000) ?? { n: 0, bytes: 0, from: 0, to: 0 };
  const bytesPerRecord = (recent.n > 0 ? recent.bytes / recent.n : TYPICAL_BYTES) * PAGE_FILL;
  const { recordsPerDay, from } = rate(loaded, recent, agent);
  const [used, onDisk] = [file?.usedBytes() ?? 0, file?.bytes() ?? 0];
  const free = freeBytes(pathOf(loaded, loaded.config.data_dir));
  const bytesPerMs = (recordsPerDay * bytesPerRecord) / DAY;
  const until = (bytes: number) => (bytesPerMs === 0 ? Number.POSITIVE_INFINITY : Math.max(0, bytes) / bytesPerMs);
  const oldest = file?.oldest();
  const bounds: Array<{ bound: Outage['bound']; lastsMs: number }> = [{ bound: 'size', lastsMs: until(maxBytes - used) }];
  if (maxAge > 0)
    bounds.push({ bound: 'age', lastsMs: Math.max(0, maxAge * 1000 - (oldest === undefined ? 0 : Math.max(0, nowMs - oldest.at))) });
  if (free !== undefined && free + onDisk < maxBytes) bounds.push({ bound: 'disk', lastsMs: until(free + onDisk - used) });
  const [first] = bounds.sort((a, b) => a.lastsMs - b.lastsMs);
  return { lastsMs: first?.lastsMs ?? 0, bound: first?.bound ?? 'size', recordsPerDay, bytesPerRecord, from };
}

function rate(
  { routers }: Loaded,
  recent: { n: number; from: number; to: number },
  agent: AgentState,
): Pick<Outage, 'recordsPerDay' | 'from'> {
  if (agent.state === 'running') {
    const perDay = agent.figures.get('ndt_records_per_day');
    if (perDay !== undefined) return { recordsPerDay: perDay, from: 'agent' };
  }
  const span = recent.to - recent.from;
  if (recent.n >= ENOUGH.records && span >= ENOUGH.ms) return { recordsPerDay: ((recent.n - 1) / span) * DAY, from: 'records' };
  return { recordsPerDay: routers.reduce((sum, { pollingIntervalS }) => sum + 86_400 / pollingIntervalS, 0), from: 'configuration' };
}

function freeBytes(dir: string): number | undefined {
  try {
    const { bavail, bsize } = statfsSync(dir);
    return bavail * bsize;
  } catch {
    return undefined;
  }
}
