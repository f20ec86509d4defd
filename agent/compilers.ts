/**
 * V8's compilers, off while there is little to do: what they make and leave behind is a megabyte, and a poll a second costs as much
 * processor time without them. A backlog, or many routers many times a second, needs them: without, a record of a backlog costs 1.7 times
 * as much. Off, they make nothing new; what they have made stays in use for as long as it is used.
 */
import { setFlagsFromString } from 'node:v8';

/** Sparkplug makes plain machine code, Maglev and Turbofan make good one: what is not needed soonest comes first. */
const COMPILERS: readonly string[] = ['opt', 'maglev', 'sparkplug'];

/** Between looks at the processor time [ms]. */
const LOOK_MS = 1000;
/** Ten times what an agent takes at one poll a second [share of a core]. */
const BUSY_SHARE = 0.1;
/** Looks in a row: starting, and collecting garbage, take a slow processor that much time once, and would not get faster. */
const BUSY_LOOKS = 3;
/** Far enough below, so that the load that was busy without the compilers is seldom idle with them [share of a core]. */
const IDLE_SHARE = 0.03;
/** As a mean over so long, in which garbage is collected once at least [ms]. */
const IDLE_MS = 30_000;

/** Tells from looks at the processor time whether there is much to do. */
export class Load {
  private looks = 0;
  private processorMs = 0;
  private spanMs = 0;
  private isBusy = false;

  /** @param processorMs used since the last look, `spanMs` ago. @returns whether it is busy */
  look(processorMs: number, spanMs: number): boolean {
    if (!this.isBusy) {
      this.looks = processorMs > BUSY_SHARE * spanMs ? this.looks + 1 : 0;
      if (this.looks < BUSY_LOOKS) return false;
      this.isBusy = true;
    } else {
      this.processorMs += processorMs;
      this.spanMs += spanMs;
      if (this.spanMs < IDLE_MS) return true;
      this.isBusy = this.processorMs >= IDLE_SHARE * this.spanMs;
    }
    this.looks = 0;
    this.processorMs = 0;
    this.spanMs = 0;
    return this.isBusy;
  }
}

/** From now on this process has V8's compilers only while it is busy. For a process that runs for long; does not keep it alive. */
export function compileWhenBusy(): void {
  const load = new Load();
  let compiles = false;
  let [used, at] = [processorMs(), performance.now()];
  setCompilers(false);
  setInterval(() => {
    const [before, since] = [used, at];
    [used, at] = [processorMs(), performance.now()];
    const busy = load.look(used - before, at - since);
    if (busy === compiles) return;
    compiles = busy;
    setCompilers(busy);
  }, LOOK_MS).unref();
}

/** Of all threads of this process: what compresses and what waits for the disk tell of a load as well. */
function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function setCompilers(on: boolean): void {
  for (const compiler of COMPILERS) setFlagsFromString(`--${on ? '' : 'no-'}${compiler}`);
}
