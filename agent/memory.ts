/**
 * Keeps the agent small, at a price that nobody notices where a few kilobytes are made a second. Imported before anything else, because
 * the heap grows while modules load.
 *
 * V8 lets the space for new objects grow to 16 MB before it looks through it, and looks through the rest only when it has doubled: a
 * process of 14 MB would keep what its start left behind for good, and grow by a megabyte a minute besides. So the garbage is collected
 * soon after the start, when what only the start needed (also compiled code) can go, and again whenever a megabyte has come together.
 */
import { getHeapStatistics, setFlagsFromString } from 'node:v8';

setFlagsFromString('--semi-space-growth-factor=1');
setFlagsFromString('--max-semi-space-size=1');

/** After the start, and between looks at the size [ms]. */
const SETTLED_MS = 5000;
const LOOK_MS = 10_000;
/** Growth that is worth a collection, which takes some 20 ms [bytes]. */
const GROWTH = 1024 * 1024;

type Collect = (options: { type: 'major'; execution: 'sync'; flavor: 'last-resort' }) => void;

/** Does nothing where Node was started without `--expose-gc`. */
function keepSmall(gc: Collect): void {
  let size = 0;
  const collect = () => {
    gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    size = getHeapStatistics().used_heap_size;
  };
  setTimeout(() => {
    // What the first one finds unused, the second one throws away.
    collect();
    collect();
    setInterval(() => {
      if (getHeapStatistics().used_heap_size > size + GROWTH) collect();
    }, LOOK_MS).unref();
  }, SETTLED_MS).unref();
}

if (typeof globalThis.gc === 'function') keepSmall(globalThis.gc as Collect);
