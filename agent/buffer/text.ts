/** Figures as people read them: numbers, sizes and times of a buffer. */

/** `12,345` */
export function countText(n: number): string {
  return n.toLocaleString('en-US', { maximumFractionDigits: 0 });
}

/** `1 record`, `12,345 records` */
export function countOf(n: number, one: string, many = `${one}s`): string {
  return `${countText(n)} ${n === 1 ? one : many}`;
}

const UNITS = ['KiB', 'MiB', 'GiB', 'TiB'];

/** `512 bytes`, `1.5 MiB` */
export function bytesText(bytes: number): string {
  if (bytes < 1024) return `${Math.round(bytes)} bytes`;
  let value = bytes;
  let unit = 'bytes';
  for (const next of UNITS) {
    if (value < 1024) break;
    value /= 1024;
    unit = next;
  }
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ${unit}`;
}

/** `12 s`, `3 min 20 s`, `5 h 12 min`, `12 days 3 h` */
export function durationText(ms: number): string {
  if (!Number.isFinite(ms)) return 'for ever';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const pair = (big: number, bigUnit: string, small: number, smallUnit: string) =>
    `${countText(big)} ${bigUnit}${small === 0 ? '' : ` ${small} ${smallUnit}`}`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return pair(minutes, 'min', seconds % 60, 's');
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return pair(hours, 'h', minutes % 60, 'min');
  const days = Math.floor(hours / 24);
  return pair(days, 'days', hours % 24, 'h');
}

/** `2026-05-04T12:00:00Z`; what is no time at all stays a number. */
export function timeText(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? `${ms}` : date.toISOString().replace(/\.\d+Z$/, 'Z');
}

/** `buffer_full 120, age 3`, or `none`. */
export function reasonsText(counts: { [reason: string]: number }): string {
  const entries = Object.entries(counts).filter(([, n]) => n > 0);
  return entries.length === 0 ? 'none' : entries.map(([reason, n]) => `${reason} ${countText(n)}`).join(', ');
}

export function sum(counts: { [reason: string]: number }): number {
  return Object.values(counts).reduce((total, n) => total + n, 0);
}
