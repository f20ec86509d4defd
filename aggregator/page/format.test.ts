import { describe, expect, it } from 'vitest';
import { inventoryWith } from '../../test/inventory.ts';
import { age, clock, count, duration, machine, packetLength, packetRate, percentage, quantity, ranges, ticks, watts } from './format.ts';

const told = ({ text, unit }: { text: string; unit: string }) => `${text} ${unit}`.trim();

describe('figures', () => {
  it.each([
    [0, '0'],
    [0.001768, '0.0018'],
    [1.234, '1.23'],
    [9.996, '10.0'],
    [12.34, '12.3'],
    [99.96, '100'],
    [301.97, '302'],
    [999.4, '999'],
    [999.6, '1.00k'],
    [12_345, '12.3k'],
    [999_600, '1.00M'],
    [1_234_567, '1.23M'],
    [8e9, '8.00G'],
    [-1500, '-1.50k'],
  ])('writes %d as %s', (value, text) => {
    expect(quantity(value)).toBe(text);
  });

  it('has three digits at most, and no thousand before its k, for any size', () => {
    for (let value = 0.01; value < 1e14; value *= 1.0037) expect(quantity(value)).toMatch(/^(\d\.\d\d|\d\d\.\d|\d{3})[kMGT]?$/);
  });

  it('says what a number is of', () => {
    expect(told(packetRate(12_345))).toBe('12.3k packets/s');
    expect(told(packetLength(1464))).toBe('1464 bytes');
    expect(told(packetLength(71.26))).toBe('71.3 bytes');
    expect(told(percentage(0.0017683))).toBe('0.0018 %');
    expect(told(percentage(0.00000012))).toBe('<0.0001 %');
    expect(told(percentage(42.137))).toBe('42.1 %');
    expect(told(watts(698.8288))).toBe('698.83 W');
    expect(told(watts(12_345))).toBe('12.35 kW');
    for (const read of [packetRate, packetLength, percentage, watts, duration]) expect(told(read(null))).toBe('–');
  });

  it('writes times in one unit', () => {
    expect([8.24, 99.9, 123.4, 999.7, 12_340, 250_000].map((ms) => told(duration(ms)))).toEqual([
      '8.2 ms',
      '99.9 ms',
      '123 ms',
      '1.00 s',
      '12.3 s',
      '4 min',
    ]);
    expect([0.44, -0.5, 12.2, 99.7, 600, 7200, 400_000].map((s) => told(age(s)))).toEqual([
      '0.4 s',
      '0.0 s',
      '12 s',
      '2 min',
      '10 min',
      '2 h',
      '5 d',
    ]);
  });

  it('writes counts out', () => {
    expect(count(1_763_234_567_890)).toBe('1,763,234,567,890');
  });

  it('names ranges in few words', () => {
    expect(
      ranges([
        { from: 7, to: 7 },
        { from: 1009, to: 1012 },
      ]),
    ).toBe('7, 1,009–1,012');
    expect(ranges([1, 3, 5, 7, 9, 11].map((n) => ({ from: n, to: n })))).toBe('1, 3, 5, 7 and 2 more');
  });
});

describe('axes', () => {
  it.each<[number[], number, string[]]>([
    [[0, 10_000, 20_000], 10_000, ['0', '10k', '20k']],
    [[0, 500, 1000, 1500], 500, ['0', '0.5k', '1.0k', '1.5k']],
    [[699.6, 699.7, 699.8], 0.1, ['699.6', '699.7', '699.8']],
    [[12_000.01, 12_000.02], 0.01, ['12000.01', '12000.02']],
    [[0, 0.002, 0.004], 0.002, ['0', '0.002', '0.004']],
    [[0, 1], 1, ['0', '1']],
  ])('marks %j', (values, distance, marks) => {
    expect(ticks(values, distance)).toEqual(marks);
  });

  it('writes the time of day, and the date of another day', () => {
    const noon = new Date(2026, 4, 7, 12, 3, 9).getTime();
    expect(clock(noon / 1000, true, noon)).toBe('12:03:09');
    expect(clock(noon / 1000, false, noon)).toBe('12:03');
    expect(clock(noon / 1000, false, noon + 86_400_000)).toBe('7 May 12:03');
  });
});

describe('what a router is made of', () => {
  const { type: _, router: __, collected_at, ...told } = inventoryWith({});
  const inventory = { at: Number(collected_at), ...told };

  it('is a line, without what is not known', () => {
    expect(machine(inventory)).toBe('PC Engines apu2 · AMD GX-412TC SOC, 4 threads · 4.00 GB · Debian GNU/Linux 12 · kernel 6.1.0');
    const os = { distribution: null, release: null, kernel: '6.1.0', arch: null, hostname: null };
    const cpu = { manufacturer: null, brand: null, physical_cores: null, cores: 1, speed_ghz: null };
    const system = { manufacturer: null, model: null, virtual: true };
    expect(machine({ ...inventory, system, cpu, os, memory: { total_bytes: null } })).toBe('(virtual) · 1 thread · kernel 6.1.0');
    expect(machine(null)).toBe('');
  });
});
