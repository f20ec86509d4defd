/** Recordings of routers made for a test, and what is compared of the records that come of them. */
import { readFileSync } from 'node:fs';
import type { TelemetryRecord } from '../common/record.ts';

const seedRaw = readFileSync(new URL('./fixtures/records/seed-raw.json', import.meta.url), 'utf8');

/** A recording of a router: one raw record every 5 s, with a reset in the middle. */
export function recording(router: string, n: number): string[] {
  return Array.from({ length: n }, (_, i) => {
    const record = JSON.parse(seedRaw) as TelemetryRecord;
    record.node_exporter = `${router}:9100`;
    record.epoch_timestamp = String(1_745_233_000 + 5 * i);
    const since = i < n / 2 ? i : i - n / 2;
    for (const [family, each] of [record.metrics?.[0], record.metrics?.[1]].entries()) {
      for (const value of each?.values ?? []) value.value = String(since * (family === 0 ? 73_200 : 50));
    }
    return JSON.stringify(record);
  });
}

export const keyed = (key: string, values: string[]) => values.map((value) => ({ key, value }));

/** What a record says beside the times at which it was worked on. */
export function figures(text: string): { epoch_timestamp: string; input_ml_metrics: unknown; output_ml_metrics: unknown } {
  const { epoch_timestamp, input_ml_metrics, output_ml_metrics } = JSON.parse(text) as TelemetryRecord;
  return { epoch_timestamp, input_ml_metrics, output_ml_metrics };
}
