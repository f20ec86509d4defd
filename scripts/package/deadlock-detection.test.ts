import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import pkg from '../../package.json' with { type: 'json' };
import { tempDir } from '../../test/tempdir.ts';
import { turnOffDeadlockDetection, VARIABLE } from './deadlock-detection.ts';
import { FILE, SECTION, sectionsOf } from './elf.ts';
import { strip } from './strip.ts';

const node = fileURLToPath(new URL(`../../.ndt/node-v${pkg.ndt.node.version}/linux-${process.arch}/bin/node`, import.meta.url));
const isThere = existsSync(node);

describe.skipIf(!isThere)(`the Node of binaries${isThere ? '' : ' (skipped: npm run package brings it)'}`, () => {
  test('one value changes, and a second time none', () => {
    const before = readFileSync(node);
    const after = Buffer.from(before);
    turnOffDeadlockDetection(after, 'node');
    const changed = differences(before, after);
    expect(changed).toHaveLength(1);
    expect([before[changed[0] ?? 0], after[changed[0] ?? 0]]).toEqual([2, 0]);
    const again = Buffer.from(after);
    turnOffDeadlockDetection(again, 'node');
    expect(again.equals(after)).toBe(true);
    expect(() => turnOffDeadlockDetection(strip(before, 'node'), 'node')).toThrow(/there is no such variable/);
  });

  test('runs, in less memory', () => {
    const elf = readFileSync(node);
    turnOffDeadlockDetection(elf, 'node');
    const file = join(tempDir(), 'node');
    writeFileSync(file, elf, { mode: 0o755 });
    const memory = (binary: string) => Math.min(...Array.from({ length: 5 }, () => anonymousKb(binary)));
    const [before, after] = [memory(node), memory(file)];
    console.log(`anonymous memory of Node: ${before} kB, ${after} kB without the search for deadlocks`);
    expect(before - after).toBeGreaterThan(500);
  });
});

const REFUSED: Array<[string, Partial<Variable>, RegExp]> = [
  ['without the variable', { name: 'another' }, /there is no such variable/],
  ['with one of another size', { size: 8n }, /has 8 bytes instead of 4/],
  ['with one that begins otherwise', { value: 7 }, /begins as 7 instead of 2/],
  ['with one outside of its section', { address: 0x2000n }, /does not stand in the file/],
];

for (const [what, variable, why] of REFUSED)
  test(`a Node ${what} is refused, and stays as it was`, () => {
    const elf = program(variable);
    const before = Buffer.from(elf);
    expect(() => turnOffDeadlockDetection(elf, 'Node for x64')).toThrow(why);
    expect(() => turnOffDeadlockDetection(elf, 'Node for x64')).toThrow(/^Node for x64 is another than .*: see whether/);
    expect(elf.equals(before)).toBe(true);
  });

test('what is no program for Linux is refused', () => {
  expect(() => turnOffDeadlockDetection(Buffer.from('#!/bin/sh\n'), 'it')).toThrow('it is no 64-bit little-endian ELF file');
});

test('the value is found where its section is, not where it is in memory', () => {
  const elf = program({});
  const at = sectionsOf(elf, 'it')[1]?.offset ?? 0;
  expect(elf.readInt32LE(at + 4)).toBe(2);
  turnOffDeadlockDetection(elf, 'it');
  expect(differences(program({}), elf)).toEqual([at + 4]);
});

interface Variable {
  name: string;
  size: bigint;
  value: number;
  address: bigint;
}

/** A program of three sections: data at 0x1000 in memory, symbols, and their names. */
function program({ name = VARIABLE, size = 4n, value = 2, address = 0x1004n }: Partial<Variable>): Buffer {
  const data = Buffer.alloc(16, 0xff);
  data.writeInt32LE(value, 4);
  const symbols = Buffer.alloc(3 * 24);
  // The first symbol is none, the second another one.
  symbols.writeUInt32LE(1, 24);
  symbols.writeUInt32LE(7, 48);
  symbols.writeUInt16LE(1, 48 + 6);
  symbols.writeBigUInt64LE(address, 48 + 8);
  symbols.writeBigUInt64LE(size, 48 + 16);
  const names = Buffer.from(`\0other\0${name}\0`);
  const at = { data: 64, symbols: 80, names: 80 + symbols.length };
  const headers = Buffer.alloc(4 * SECTION.bytes);
  const section = (i: number, type: number, offset: number, bytes: number, link: number, address: number) => {
    headers.writeUInt32LE(type, i * SECTION.bytes + SECTION.type);
    headers.writeBigUInt64LE(BigInt(address), i * SECTION.bytes + SECTION.address);
    headers.writeBigUInt64LE(BigInt(offset), i * SECTION.bytes + SECTION.offset);
    headers.writeBigUInt64LE(BigInt(bytes), i * SECTION.bytes + SECTION.size);
    headers.writeUInt32LE(link, i * SECTION.bytes + SECTION.link);
  };
  section(1, 1, at.data, data.length, 0, 0x1000);
  section(2, 2, at.symbols, symbols.length, 3, 0);
  section(3, 3, at.names, names.length, 0, 0);
  const head = Buffer.alloc(64);
  head.write('\x7fELF\x02\x01', 'latin1');
  head.writeBigUInt64LE(BigInt(at.names + names.length), FILE.sectionsAt);
  head.writeUInt16LE(SECTION.bytes, FILE.sectionSize);
  head.writeUInt16LE(4, FILE.sectionCount);
  return Buffer.concat([head, data, symbols, names, headers]);
}

function differences(one: Buffer, other: Buffer): number[] {
  const found: number[] = [];
  const PAGE = 65_536;
  for (let page = 0; page < one.length; page += PAGE) {
    if (one.subarray(page, page + PAGE).equals(other.subarray(page, page + PAGE))) continue;
    for (let at = page; at < Math.min(page + PAGE, one.length); at += 1) if (one[at] !== other[at]) found.push(at);
  }
  return found;
}

function anonymousKb(binary: string): number {
  const script = "console.log(/RssAnon:\\s+(\\d+)/.exec(require('node:fs').readFileSync('/proc/self/status', 'utf8'))[1])";
  return Number(execFileSync(binary, ['-e', script], { encoding: 'utf8', env: {} }));
}
