/** Files that ship with the programs: beside the sources, or inside the released binary. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { getRawAsset, isSea } from 'node:sea';

/** Paths from the project's folder, and of packages by their names, that a program reads when it runs: the binary holds these. */
export const SHIPPED = {
  schema: 'config/ndt.schema.json',
  models: 'config/power-models.json',
  page: ['aggregator/page/index.html', 'aggregator/page/page.js', 'aggregator/page/page.css', 'aggregator/page/favicon.svg'],
  charts: ['uplot/dist/uPlot.iife.min.js', 'uplot/dist/uPlot.min.css'],
} as const;

export type ShippedFile = typeof SHIPPED.schema | typeof SHIPPED.models | (typeof SHIPPED.page)[number] | (typeof SHIPPED.charts)[number];

/** The content of a shipped file. */
export function readShipped(file: ShippedFile): Buffer {
  if (isSea()) return Buffer.from(getRawAsset(file));
  return readFileSync(shippedPath(file));
}

/** Where a shipped file is in a copy of the project. */
export function shippedPath(file: ShippedFile): string | URL {
  return file.startsWith('uplot/') ? createRequire(import.meta.url).resolve(file) : new URL(`../${file}`, import.meta.url);
}
