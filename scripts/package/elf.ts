/** The sections of a 64-bit ELF program, by ELF-64 Object File Format, version 1.5. */
import { NdtError } from '../../common/errors.ts';

/** Offsets in the header of a file, and in a section's header. */
export const FILE = { sectionsAt: 0x28, sectionSize: 0x3a, sectionCount: 0x3c, namesIndex: 0x3e };
export const SECTION = { type: 0x04, flags: 0x08, address: 0x10, offset: 0x18, size: 0x20, link: 0x28, bytes: 0x40 };
/** Types of sections. */
const NOBITS = 8;
export const SYMBOLS = 2;
const ALLOCATED = 2n;

export interface Section {
  header: Buffer;
  type: number;
  loaded: boolean;
  /** Where it is in memory. */
  address: number;
  /** Where it is in the file, and its bytes there. */
  offset: number;
  size: number;
  /** Of another section that belongs to it, such as the names of symbols. */
  link: number;
}

/** @throws NdtError DATA where it is no such file */
export function sectionsOf(elf: Buffer, name: string): Section[] {
  // Magic number, 64 bit, little endian.
  if (elf.toString('latin1', 0, 6) !== '\x7fELF\x02\x01')
    throw new NdtError('DATA', `${name} is no 64-bit little-endian ELF file: build with the Node that package.json pins`);
  const at = Number(elf.readBigUInt64LE(FILE.sectionsAt));
  const bytes = elf.readUInt16LE(FILE.sectionSize);
  return Array.from({ length: elf.readUInt16LE(FILE.sectionCount) }, (_, i) => {
    const header = elf.subarray(at + i * bytes, at + (i + 1) * bytes);
    const type = header.readUInt32LE(SECTION.type);
    return {
      header,
      type,
      // The first one is none, and stays.
      loaded: i === 0 || (header.readBigUInt64LE(SECTION.flags) & ALLOCATED) !== 0n,
      address: Number(header.readBigUInt64LE(SECTION.address)),
      offset: Number(header.readBigUInt64LE(SECTION.offset)),
      size: type === NOBITS ? 0 : Number(header.readBigUInt64LE(SECTION.size)),
      link: header.readUInt32LE(SECTION.link),
    };
  });
}
