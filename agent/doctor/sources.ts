/** Whether each router can be read, and has the interfaces that are to be watched. */
import type { Loaded, Router } from '../../common/config.ts';
import { messageOf, NdtError } from '../../common/errors.ts';
import { durationText } from '../buffer/text.ts';
import { type CounterSample, type Source, SourceError, systemClock } from '../source.ts';
import { createSource } from '../sources.ts';
import { type Finding, fail, failedBy, ok, warning } from './finding.ts';

/** Routers polled at once: of a thousand dead ones, each takes the whole time-out. */
const AT_ONCE = 32;
/** A collector’s clock this far from ours [s]. */
const CLOCK_S = 5;

/** Polls every router once. */
export async function checkSources(loaded: Loaded): Promise<Finding[]> {
  const findings = new Array<Finding[]>(loaded.routers.length);
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < loaded.routers.length; i = next++) {
      const router = loaded.routers[i];
      if (router !== undefined) findings[i] = await checkSource(router, loaded);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return findings.flat();
}

async function checkSource(router: Router, loaded: Loaded): Promise<Finding[]> {
  const check = `source ${router.name}`;
  let source: Source;
  try {
    source = createSource(router, loaded);
  } catch (error) {
    return [failedBy(check, error)];
  }
  const started = performance.now();
  try {
    const sample = await source.poll(new AbortController().signal);
    return judge(check, router, sample, performance.now() - started);
  } catch (error) {
    if (error instanceof SourceError || error instanceof NdtError) return [fail(check, withoutName(messageOf(error), router))];
    throw error;
  } finally {
    source.close();
  }
}

/** The router's name stands before the text already. */
function withoutName(message: string, { name }: Router): string {
  return message.startsWith(`${name}: `) ? message.slice(name.length + 2) : message;
}

function judge(check: string, router: Router, sample: CounterSample, tookMs: number): Finding[] {
  const { interfaces, missing } = sample;
  const names = interfaces.length > 6 ? `${interfaces.slice(0, 6).join(', ')} and ${interfaces.length - 6} more` : interfaces.join(', ');
  const seen = `${router.source} answers in ${durationText(tookMs)}: ${names === '' ? 'no interfaces' : names}`;
  const found: Finding[] = [];
  if (missing.length > 0) {
    found.push(warning(check, `${seen}; there is no ${missing.join(', ')}`, `bring it up, or take it out of the router’s "interfaces"`));
  }
  if (tookMs > router.pollingIntervalS * 1000) {
    found.push(
      warning(
        check,
        `${router.source} took ${durationText(tookMs)}, longer than the polling interval of ${router.pollingIntervalS} s: polls are left out`,
        'raise polling_interval, or find out why the router is slow',
      ),
    );
  }
  const ahead = sample.readAtMicros / 1e6 - systemClock.nowMicros() / 1e6;
  if (router.source === 'collector' && Math.abs(ahead) > CLOCK_S + router.pollingIntervalS) {
    const side = ahead > 0 ? 'ahead of' : 'behind';
    found.push(
      warning(
        check,
        `the collector’s record is ${durationText(Math.abs(ahead) * 1000)} ${side} this machine’s clock`,
        'set the clock of the collector, or of this machine: time counts as the collector writes it',
      ),
    );
  }
  return found.length > 0 ? found : [ok(check, seen)];
}
