/**
 * Node 24 carries abseil's search for deadlocks, an aid for debugging that V8's build leaves on: it keeps a graph of all locks, a megabyte
 * from the first lock on, and goes through it at each. abseil turns it off by a call, which nobody in Node makes; here the variable that
 * the call sets begins with that value.
 */
import { NdtError } from '../../common/errors.ts';
import { type Section, SYMBOLS, sectionsOf } from './elf.ts';

/** `absl::(anonymous namespace)::synch_deadlock_detection`, in absl/synchronization/mutex.cc: an atomic enum of 4 bytes. */
export const VARIABLE = '_ZN4absl12_GLOBAL__N_124synch_deadlock_detectionE';
const BYTES = 4;
/** absl::OnDeadlockCycle. */
const IGNORE = 0;
const ABORT = 2;

/** Offsets in the entry of a symbol. */
const SYMBOL = { name: 0x00, section: 0x06, address: 0x08, size: 0x10, bytes: 0x18 };

/**
 * Writes into the program, which must still have its symbols.
 *
 * @param name of the program, for errors
 * @throws NdtError DATA where the variable is not what it was in the Node that this was made for: then somebody has to look
 */
export function turnOffDeadlockDetection(elf: Buffer, name: string): void {
  const sections = sectionsOf(elf, name);
  const symbol = findSymbol(elf, sections, VARIABLE);
  if (symbol === undefined) throw changed(name, 'there is no such variable');
  const size = Number(symbol.readBigUInt64LE(SYMBOL.size));
  if (size !== BYTES) throw changed(name, `it has ${size} bytes instead of ${BYTES}`);
  const section = sections[symbol.readUInt16LE(SYMBOL.section)];
  const within = Number(symbol.readBigUInt64LE(SYMBOL.address)) - (section?.address ?? 0);
  if (section === undefined || within < 0 || within + BYTES > section.size) throw changed(name, 'its value does not stand in the file');
  const value = elf.readInt32LE(section.offset + within);
  if (value !== ABORT && value !== IGNORE) throw changed(name, `it begins as ${value} instead of ${ABORT}`);
  elf.writeInt32LE(IGNORE, section.offset + within);
}

function findSymbol(elf: Buffer, sections: readonly Section[], wanted: string): Buffer | undefined {
  const table = sections.find(({ type }) => type === SYMBOLS);
  const names = sections[table?.link ?? -1];
  if (table === undefined || names === undefined) return undefined;
  const text = Buffer.from(`${wanted}\0`);
  for (let at = table.offset; at < table.offset + table.size; at += SYMBOL.bytes) {
    const began = names.offset + elf.readUInt32LE(at + SYMBOL.name);
    if (elf.subarray(began, began + text.length).equals(text)) return elf.subarray(at, at + SYMBOL.bytes);
  }
  return undefined;
}

function changed(name: string, what: string): NdtError {
  return new NdtError(
    'DATA',
    `${name} is another than scripts/package/deadlock-detection.ts knows (${VARIABLE}: ${what}): see whether it still looks for deadlocks, and change or remove that step`,
  );
}
