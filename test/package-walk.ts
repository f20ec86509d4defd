/** The way of a record through two packaged programs. */
import { spawnSync } from 'node:child_process';
import { expect } from 'vitest';
import type { Origin, Pair } from './programs.ts';
import { until } from './until.ts';

/** A router that counts what this machine receives, also from itself. */
export const ROUTER = { polling_interval: 1, routers: [{ r1: { interfaces: ['*', 'lo'] } }] };

interface Inferred {
  record: { output_ml_metrics: Array<{ name: string; value: number[] | number }> };
}

/** From a counter over MQTT to an inference, as the API tells it. */
export async function walk(pair: Pair): Promise<void> {
  await pair.aggregator();
  await pair.agent();
  const records = await until(
    async () => {
      const response = await fetch(`${pair.url}/api/v1/records?router=r1&stage=inferred&limit=1000`);
      if (!response.ok) return undefined;
      const { records } = (await response.json()) as { records: Inferred[] };
      return records.length >= 3 ? records : undefined;
    },
    'three inferred records',
    60_000,
  );
  for (const { record } of records) {
    const power = record.output_ml_metrics.find(({ name }) => name === 'node_network_power_consumption_wats')?.value;
    // Of a router of type A: 700 W, and a little less for long packets.
    expect(Array.isArray(power) ? power[0] : undefined).toBeGreaterThan(690);
  }
}

/** Runs a binary to its end, with nothing of our environment. */
export function runBinary(origin: string | Origin, args: string[], options: { input?: string; cwd?: string } = {}) {
  const { command, env } = typeof origin === 'string' ? { command: [origin], env: {} } : origin;
  const [file = '', ...before] = command;
  const { status, stdout, stderr } = spawnSync(file, [...before, ...args], { env, encoding: 'utf8', timeout: 60_000, ...options });
  return { status, stdout, stderr };
}
