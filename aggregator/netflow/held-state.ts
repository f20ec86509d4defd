/**
 * What a stage holds, as key and value: after each batch of the bus only what changed is written, in the same commit as the records
 * and the position (`Outcome.state`), and after a restart all of it comes back.
 */
import type { LeafValue } from './leaves.ts';
import type { Flow } from './normalise.ts';

/** Something held, as JSON text. Asked for only when it is written. */
export type Pack = () => string;

/** The keys that changed since the last time they were taken. A key that is gone has null. */
export class Changes {
  private changed = new Map<string, Pack | null>();

  put(key: string, pack: Pack): void {
    this.changed.set(key, pack);
  }

  drop(key: string): void {
    this.changed.set(key, null);
  }

  take(): Map<string, Buffer | null> {
    const taken = new Map([...this.changed].map(([key, pack]) => [key, pack === null ? null : Buffer.from(pack())]));
    this.changed = new Map();
    return taken;
  }
}

/** JSON has no bigint and no undefined: a large integer is `["n", digits]`, what is not there is null. */
export function packFlow(flow: Flow): unknown {
  return { ...flow, values: flow.values.map((value) => (typeof value === 'bigint' ? ['n', String(value)] : (value ?? null))) };
}

/** The flow of what `packFlow` gave, read back from JSON. */
export function unpackFlow(packed: unknown): Flow {
  // Written by `packFlow`: not input of a user.
  const { values, startMs, endMs, receivedMs, tuple } = packed as Flow & { values: unknown[] };
  const unpack = (value: unknown): LeafValue | undefined => {
    if (Array.isArray(value)) return BigInt(String(value[1]));
    return typeof value === 'string' || typeof value === 'number' ? value : undefined;
  };
  return { values: values.map(unpack), tuple, startMs, endMs, receivedMs };
}
