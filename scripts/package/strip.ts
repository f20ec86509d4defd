/**
 * Takes symbols and debugging sections out of a 64-bit ELF program, as `strip` does: everything behind the last section that is loaded.
 * Our own, because binutils would have to be there for each architecture, and each of their versions writes other bytes.
 */
import { NdtError } from '../../common/errors.ts';

/** Offsets in the header of a file, and in a section's header: ELF-64 Object File Format, version 1.5. */
const FILE = { sectionsAt: 0x28, sectionSize: 0x3a, sectionCount: 0x3c, namesIndex: 0x3e };
const SECTION = { type: 0x04, flags: 0x08, offset: 0x18, size: 0x20, link: 0x28, bytes: 0x40 };
const NOBITS = 8;
const ALLOCATED = 2n;

interface Section {
  header: Buffer;
  loaded: boolean;
  offset: number;
  size: number;
  link: number;
}

/** @throws NdtError DATA where a file is laid out in another way than Node's own binaries are */
export function strip(elf: Buffer, name: string): Buffer {
  // Magic number, 64 bit, little endian.
  if (elf.toString('latin1', 0, 6) !== '\x7fELF\x02\x01') throw refused(name, 'it is no 64-bit little-endian ELF file');
  const sections = sectionsOf(elf);
  const names = sections[elf.readUInt16LE(FILE.namesIndex)];
  const last = sections.findLastIndex((section) => section.loaded);
  const kept = sections.slice(0, last + 1);
  if (names === undefined || kept.length < 2 || kept.some(({ link }) => link > last))
    throw refused(name, 'what is loaded does not stand before what is not');
  const end = Math.max(...kept.map(({ offset, size }) => offset + size));
  if (sections.slice(last + 1).some(({ offset, size }) => size > 0 && offset < end))
    throw refused(name, 'its sections are not in the order of its section headers');

  const namesText = elf.subarray(names.offset, names.offset + names.size);
  const sectionsAt = Math.ceil((end + names.size) / 8) * 8;
  const namesHeader = Buffer.from(names.header);
  namesHeader.writeBigUInt64LE(BigInt(end), SECTION.offset);
  const stripped = Buffer.alloc(sectionsAt + (kept.length + 1) * SECTION.bytes);
  elf.copy(stripped, 0, 0, end);
  namesText.copy(stripped, end);
  Buffer.concat([...kept.map(({ header }) => header), namesHeader]).copy(stripped, sectionsAt);
  stripped.writeBigUInt64LE(BigInt(sectionsAt), FILE.sectionsAt);
  stripped.writeUInt16LE(kept.length + 1, FILE.sectionCount);
  stripped.writeUInt16LE(kept.length, FILE.namesIndex);
  return stripped;
}

function sectionsOf(elf: Buffer): Section[] {
  const at = Number(elf.readBigUInt64LE(FILE.sectionsAt));
  const bytes = elf.readUInt16LE(FILE.sectionSize);
  return Array.from({ length: elf.readUInt16LE(FILE.sectionCount) }, (_, i) => {
    const header = elf.subarray(at + i * bytes, at + (i + 1) * bytes);
    return {
      header,
      // The first one is none, and stays.
      loaded: i === 0 || (header.readBigUInt64LE(SECTION.flags) & ALLOCATED) !== 0n,
      offset: Number(header.readBigUInt64LE(SECTION.offset)),
      size: header.readUInt32LE(SECTION.type) === NOBITS ? 0 : Number(header.readBigUInt64LE(SECTION.size)),
      link: header.readUInt32LE(SECTION.link),
    };
  });
}

function refused(name: string, why: string): NdtError {
  return new NdtError('DATA', `${name} cannot be stripped (${why}): build with the Node that package.json pins`);
}
