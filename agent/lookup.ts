/**
 * Host names looked up once at a time. Where the name server does not answer, a look-up takes many seconds, and a request that gives up
 * does not end it: Node has two of them at work, and all that are asked for meanwhile wait behind those. So who wants the same as one
 * under way waits for that one.
 */
import type { LookupFunction } from 'node:net';

type Answer = Parameters<LookupFunction>[2];

/** @param resolve asks a name server, as `dns.lookup` does; it never answers before it has returned */
export function lookupOnce(resolve: LookupFunction = systemLookup): LookupFunction {
  const underWay = new Map<string, Answer[]>();
  return (host, options, answer) => {
    const what = JSON.stringify([host, options]);
    const waiting = underWay.get(what);
    if (waiting !== undefined) {
      waiting.push(answer);
      return;
    }
    const askers = [answer];
    resolve(host, options, (...found) => {
      underWay.delete(what);
      for (const asker of askers) asker(...found);
    });
    underWay.set(what, askers);
  };
}

/** Loaded when used, as Node itself does it. */
const systemLookup: LookupFunction = (host, options, answer) => process.getBuiltinModule('node:dns').lookup(host, options, answer);
