import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { busOn } from '../test/kafka-bus.ts';
import { freePort } from '../test/ports.ts';
import { canStartKafka, NEEDS_OWN_KAFKA } from '../test/real/kafka.ts';
import { tempDir } from '../test/tempdir.ts';
import { freePort as nextFreePort } from './start/child.ts';

const program = fileURLToPath(new URL('kafka.ts', import.meta.url));

/** Runs `npm run kafka -- …`; what it said, and its exit code. */
async function kafka(args: string[], env: NodeJS.ProcessEnv = process.env): Promise<{ code: number; out: string; err: string }> {
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [program, ...args], { env, timeout: 60_000 });
    return { code: 0, out: stdout, err: stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, out: stdout, err: stderr };
  }
}

describe.skipIf(!canStartKafka)(`npm run kafka${NEEDS_OWN_KAFKA}`, () => {
  it('starts a broker that serves, lists its topics, and stops it; its data is there the next time', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'ndt-kafka-cli-'));
    const data = ['--data', dir];
    const port = await freePort();
    try {
      expect(await kafka(['status', ...data])).toMatchObject({ code: 69, out: 'Kafka does not run\n' });
      const started = await kafka(['start', ...data, '--port', String(port), '--set', 'num.partitions=3']);
      expect(started).toMatchObject({ code: 0, out: expect.stringContaining(`Kafka serves at 127.0.0.1:${port} `) });
      const bus = busOn(`127.0.0.1:${port}`, { kafka: { topics: { create: true, partitions: -1, replication: -1, retention_ms: 0 } } });
      await bus.append(['1', '2'].map((text) => ({ topic: 'TP_r1', key: 'r1', headers: {}, value: Buffer.from(text) })));
      await bus.close();
      expect((await kafka(['start', ...data])).out).toMatch(
        new RegExp(`^Kafka runs already \\(process \\d+\\): 127\\.0\\.0\\.1:${port}$`, 'm'),
      );
      expect((await kafka(['start', '--data', `${dir}/other`, '--port', String(port)])).err).toMatch(
        /something listens on port \d+ already/,
      );
      expect((await kafka(['stop', ...data])).code).toBe(0);
      expect(await kafka(['topics', ...data])).toMatchObject({ code: 69, err: 'ndt-kafka: Kafka does not run: npm run kafka -- start\n' });
      expect((await kafka(['start', ...data, '--port', String(port)])).code).toBe(0);
      expect((await kafka(['topics', ...data])).out).toMatch(/^TP_r1 +3 +2$/m);
    } finally {
      await kafka(['stop', ...data]);
      rmSync(dir, { recursive: true, force: true });
    }
  }, 90_000);
});

it('chooses ports up to the last one there is', async () => {
  expect(await nextFreePort(65_535)).toBe(65_535);
  await expect(nextFreePort(65_535)).rejects.toThrow('no port of 127.0.0.1 from 65535 to 65535 can be had');
});

it.skipIf(!canStartKafka)(
  `serves on the last port as well${NEEDS_OWN_KAFKA}`,
  async () => {
    const data = ['--data', tempDir()];
    try {
      expect(await kafka(['start', ...data, '--port', '65535'])).toMatchObject({
        code: 0,
        out: expect.stringContaining('Kafka serves at 127.0.0.1:65535 '),
      });
    } finally {
      await kafka(['stop', ...data]);
    }
  },
  90_000,
);

it('says what is missing, and what it does not understand', async () => {
  const bare = { ...process.env, PATH: dirname(process.execPath) };
  const { code, err } = await kafka(['start', '--data', join(tmpdir(), 'ndt-kafka-none')], bare);
  expect(code).toBe(69);
  expect(err).toMatch(/^ndt-kafka: Apache Kafka needs Java 17 or newer, and there is none: apt-get install openjdk-17-jre-headless\n$/);
  expect(await kafka(['start', '--port', 'x'])).toMatchObject({
    code: 64,
    err: 'ndt-kafka: --port x: expected a number from 1 to 65535\n',
  });
  expect(await kafka(['start', '--set', 'x'])).toMatchObject({ code: 64, err: expect.stringMatching(/--set x: expected NAME=VALUE/) });
});
