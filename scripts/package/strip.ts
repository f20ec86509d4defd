/**
 * Takes symbols and debugging sections out of a 64-bit ELF program, as `strip` does: everything behind the last section that is loaded.
 * Our own, because binutils would have to be there for each architecture, and each of their versions writes other bytes.
 */
import { NdtError } from '../../common/errors.ts';
import { FILE, SECTION, sectionsOf } from './elf.ts';

/** @throws NdtError DATA where a file is laid out in another way than Node's own binaries are */
export function strip(elf: Buffer, name: string): Buffer {
  const sections = sectionsOf(elf, name);
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

function refused(name: string, why: string): NdtError {
  return new NdtError('DATA', `${name} cannot be stripped (${why}): build with the Node that package.json pins`);
}
