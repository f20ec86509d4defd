/** Numbers as people read them: a figure of few digits, and its unit. */

import type { RouterDetailBody } from '../api-schemas.ts';

export interface Reading {
  text: string;
  unit: string;
}

const NONE: Reading = { text: '–', unit: '' };
const SCALES: ReadonlyArray<readonly [number, string]> = [
  [1e12, 'T'],
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
];

/** Three digits, and k, M, G or T from a thousand on. */
export function quantity(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size < 0.01) return String(Number(value.toPrecision(2)));
  // What rounds up to a thousand is one.
  const scale = SCALES.find(([least]) => size >= least * 0.9995);
  if (scale !== undefined) return `${digits(value / scale[0])}${scale[1]}`;
  return digits(value);
}

function digits(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

export function packetRate(value: number | null): Reading {
  return value === null ? NONE : { text: quantity(value), unit: 'packets/s' };
}

export function packetLength(value: number | null): Reading {
  return value === null ? NONE : { text: value.toFixed(value < 99.95 && value !== Math.round(value) ? 1 : 0), unit: 'bytes' };
}

export function percentage(value: number | null): Reading {
  if (value === null) return NONE;
  if (value === 0) return { text: '0', unit: '%' };
  if (value < 0.0001) return { text: '<0.0001', unit: '%' };
  const places = value >= 9.995 ? 1 : value >= 0.1 ? 2 : 4;
  return { text: value.toFixed(places), unit: '%' };
}

export function watts(value: number | null): Reading {
  if (value === null) return NONE;
  return Math.abs(value) < 9999.5 ? { text: value.toFixed(2), unit: 'W' } : { text: (value / 1000).toFixed(2), unit: 'kW' };
}

/** What a router is made of, in a line; nothing where that is not known. */
export function machine(inventory: RouterDetailBody['inventory']): string {
  if (inventory === null) return '';
  const { system, os, cpu, memory } = inventory;
  const words = (...parts: Array<string | null>) => parts.filter((part) => part !== null).join(' ');
  const cores = cpu.cores === null ? null : `${cpu.cores} ${cpu.cores === 1 ? 'thread' : 'threads'}`;
  return [
    words(system.manufacturer, system.model, system.virtual === true ? '(virtual)' : null),
    [words(cpu.manufacturer, cpu.brand), cores].filter((part) => part !== '' && part !== null).join(', '),
    memory.total_bytes === null ? '' : `${quantity(memory.total_bytes).replace(/[kMGT]?$/, ' $&')}B`,
    words(os.distribution, os.release),
    words(os.kernel === null ? null : 'kernel', os.kernel),
  ]
    .filter((part) => part !== '')
    .join(' · ');
}

/** Milliseconds, or what is readable above a second. */
export function duration(ms: number | null): Reading {
  if (ms === null) return NONE;
  const size = Math.abs(ms);
  if (size < 99.95) return { text: ms.toFixed(1), unit: 'ms' };
  if (size < 999.5) return { text: ms.toFixed(0), unit: 'ms' };
  if (size < 99_950) return { text: (ms / 1000).toFixed(size < 9995 ? 2 : 1), unit: 's' };
  return age(ms / 1000);
}

/** How long ago [s]: one unit, no more digits than it takes. */
export function age(seconds: number): Reading {
  // Clocks that differ by a moment are no news from the future.
  const size = seconds < 0 && seconds > -2 ? 0 : seconds;
  if (Math.abs(size) < 9.95) return { text: size.toFixed(1), unit: 's' };
  if (Math.abs(size) < 99.5) return { text: size.toFixed(0), unit: 's' };
  if (Math.abs(size) < 5970) return { text: (size / 60).toFixed(0), unit: 'min' };
  if (Math.abs(size) < 171_000) return { text: (size / 3600).toFixed(0), unit: 'h' };
  return { text: (size / 86_400).toFixed(0), unit: 'd' };
}

const WHOLE = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** Every digit, in groups of three: counts have to be exact. */
export function count(value: number): string {
  return WHOLE.format(value);
}

/** Marks of an axis: all at one scale, with the decimals that their distance needs. */
export function ticks(values: readonly number[], distance: number): string[] {
  const most = Math.max(...values.map(Math.abs), 0);
  const [factor, letter] = SCALES.find(([least]) => most >= least && distance >= least / 1000) ?? [1, ''];
  const places = Math.max(0, Math.min(8, Math.ceil(-Math.log10(distance / factor) - 1e-9)));
  return values.map((value) => (value === 0 ? '0' : `${(value / factor).toFixed(places)}${letter}`));
}

/** Time of day of a Unix time [s], with the date when it is not today's. */
export function clock(seconds: number, withSeconds: boolean, now = Date.now()): string {
  const date = new Date(seconds * 1000);
  const two = (n: number) => String(n).padStart(2, '0');
  const time = `${two(date.getHours())}:${two(date.getMinutes())}${withSeconds ? `:${two(date.getSeconds())}` : ''}`;
  if (date.toDateString() === new Date(now).toDateString()) return time;
  return `${date.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' })} ${time}`;
}

/** Ranges of numbers in few words: `7, 9–12 and 3 more`. */
export function ranges(list: ReadonlyArray<{ from: number; to: number }>, shown = 4): string {
  const first = list.slice(0, shown).map(({ from, to }) => (from === to ? count(from) : `${count(from)}–${count(to)}`));
  return list.length > shown ? `${first.join(', ')} and ${list.length - shown} more` : first.join(', ');
}
