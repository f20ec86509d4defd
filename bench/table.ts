/** What every benchmark gives back: the numbers measured, and whether they are where they must be. */
export interface BenchTable {
  name: string;
  rows: Array<Record<string, string | number>>;
  checks: Array<{ what: string; value: number; target: string; ok: boolean }>;
}

/** Prints a table and its checks; the process will exit with 1 if a check failed. */
export function printTable({ name, rows, checks }: BenchTable): void {
  console.log(name);
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cells = [columns, ...rows.map((row) => columns.map((column) => String(row[column] ?? '')))];
  const widths = columns.map((_, i) => Math.max(...cells.map((line) => line[i]?.length ?? 0)));
  for (const line of cells) console.log(`  ${line.map((cell, i) => align(cell, widths[i] ?? 0)).join('  ')}`.trimEnd());
  for (const { what, value, target, ok } of checks) console.log(`  ${ok ? 'ok  ' : 'MISS'} ${what}: ${value} (target ${target})`);
  if (checks.some(({ ok }) => !ok)) process.exitCode = 1;
}

/** Numbers to the right, words to the left. */
function align(cell: string, width: number): string {
  return /^-?[\d.]+%?$/.test(cell) ? cell.padStart(width) : cell.padEnd(width);
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** To three significant digits. */
export function rounded(value: number): number {
  return Number(value.toPrecision(3));
}
