/**
 * Keeps the agent small, at a price that nobody notices where a few kilobytes are made a second. Imported before anything else, because
 * the heap grows while modules load.
 *
 * V8 lets the space for new objects grow to 16 MB before it looks through it, and looks through the rest only when it has doubled: a
 * process of 20 MB would keep what its start left behind for good, and grow by a megabyte a minute besides, half of it outside of V8 in what
 * its garbage holds on to. So the garbage is collected soon after the start, when what only the start needed (also compiled code) can go,
 * and then three times a minute, and more often where more is polled; it takes 5 to 10 ms each, between polls.
 */
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { untilBetweenTicks } from './poller.ts';

setFlagsFromString('--semi-space-growth-factor=1');
setFlagsFromString('--max-semi-space-size=1');
setFlagsFromString('--expose-gc');

/** After the start, and between looks at the size, at least; and at the longest between collections [ms]. */
const SETTLED_MS = 5000;
const LOOK_MS = 3500;
const EVERY_MS = 19_500;
/** Growth of what has outlived the space for new objects that is worth a collection before its time [bytes]. */
const GROWTH = 384 * 1024;

type Collect = (options: { type: 'major'; execution: 'sync'; flavor: 'last-resort' | 'regular' }) => void;

// Where Node was started without the flag, only a global of a new context has it.
const gc = (globalThis.gc ?? runInNewContext('gc')) as Collect;
let size = 0;
let at = 0;

function oldSpace(): number {
  return getHeapSpaceStatistics().find(({ space_name }) => space_name === 'old_space')?.space_used_size ?? 0;
}

function collect(flavor: 'last-resort' | 'regular'): void {
  gc({ type: 'major', execution: 'sync', flavor });
  size = oldSpace();
  at = performance.now();
}

function betweenTicks(atLeastMs: number, work: () => void): void {
  setTimeout(work, untilBetweenTicks(process.hrtime.bigint(), atLeastMs)).unref();
}

function look(): void {
  if (performance.now() - at >= EVERY_MS || oldSpace() > size + GROWTH) collect('regular');
  betweenTicks(LOOK_MS, look);
}

betweenTicks(SETTLED_MS, () => {
  // What the first one finds unused, the second one throws away.
  collect('last-resort');
  collect('last-resort');
  betweenTicks(LOOK_MS, look);
});
