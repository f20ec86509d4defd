/** Durations as Prometheus writes them. */

const UNIT_MS: { [unit: string]: number } = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/** `20s`, `1m30s`, `0.5` (seconds) in ms, whole; undefined where a text is no duration or none of at least 1 ms. */
export function prometheusMs(text: string): number | undefined {
  let ms = Number.NaN;
  if (/^\d+(\.\d+)?$/.test(text)) ms = Number(text) * 1000;
  else if (/^(\d+(ms|[smhdw]))+$/.test(text)) {
    ms = [...text.matchAll(/(\d+)(ms|[smhdw])/g)].reduce((sum, [, count, unit = '']) => sum + Number(count) * (UNIT_MS[unit] ?? 0), 0);
  }
  ms = Math.round(ms);
  return Number.isSafeInteger(ms) && ms >= 1 ? ms : undefined;
}
