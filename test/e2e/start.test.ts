import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { expect, it, onTestFinished } from 'vitest';
import { tempDir } from '../tempdir.ts';
import { until } from '../until.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** `npm start` as a person types it. */
function npmStart(dir: string, ...args: string[]) {
  const child = spawn('npm', ['start', '--', '--data', dir, ...args], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  onTestFinished(() => {
    try {
      process.kill(-(child.pid ?? 0), 'SIGKILL');
    } catch {
      // Ended long ago.
    }
  });
  const run = { child, out: '', ended: new Promise<number | null>((resolve) => child.once('close', resolve)) };
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (run.out += chunk.toString()));
  return run;
}

const figure = (out: string, name: string) => Number(new RegExp(`^ {2}${name} +(\\d+)`, 'm').exec(out)?.[1]);
const inventories = (out: string) => Number(/^ {2}inferred +\d+; (\w+) more/m.exec(out)?.[1]?.replace('one', '1') ?? 0);
const numbers = (dir: string, file: string, sql: string) => {
  const db = new Database(`${dir}/${file}`, { readonly: true });
  try {
    return db.prepare(sql).pluck().all() as number[];
  } finally {
    db.close();
  }
};

it('shows what flows, sums up, and goes on where it was when started again', async () => {
  const dir = tempDir();
  const started = performance.now();
  const first = npmStart(dir, '--for', '9s');
  await until(() => first.out.includes('ndt watches'), 'the first line');
  // 3 s on a quiet machine; here other tests run beside it.
  expect(performance.now() - started).toBeLessThan(9000);
  expect(await first.ended, first.out).toBe(0);
  expect(first.out).toMatch(/page +http:\/\/127\.0\.0\.1:\d+\//);
  expect(first.out).toContain(`data      ${dir}`);
  expect(first.out).toMatch(/: [\d.]+ packets\/s, average \d+ B, occupation [\d.]+ %, power [\d.]+ W, counter to inference \d+ ms/);
  expect(first.out).toContain('nothing is missing');
  const produced = figure(first.out, 'produced');
  expect(produced).toBeGreaterThanOrEqual(4);
  expect([
    figure(first.out, 'delivered'),
    figure(first.out, 'inferred'),
    figure(first.out, 'dropped'),
    figure(first.out, 'duplicates removed'),
  ]).toEqual([produced, produced - inventories(first.out), 0, 0]);
  expect(inventories(first.out)).toBe(1);

  const second = npmStart(dir);
  await until(() => (second.out.match(/packets\/s/g) ?? []).length >= 3, 'live figures');
  // A terminal sends Ctrl-C to everyone in it.
  process.kill(-(second.child.pid ?? 0), 'SIGINT');
  await second.ended;
  expect(second.out, second.out).toContain('this run:');
  const again = figure(second.out, 'produced');
  expect(figure(second.out, 'inferred')).toBe(again - inventories(second.out));
  const ofInventories = numbers(
    dir,
    'aggregator/bus.db',
    "SELECT json_extract(l.headers, '$.\"ndt-seq\"') FROM log l JOIN topics t ON t.id = l.topic WHERE t.name = 'ndt.inventory'",
  ).map(Number);
  expect(ofInventories).toHaveLength(inventories(first.out) + inventories(second.out));
  const seqs = [...numbers(dir, 'aggregator/store.db', 'SELECT seq FROM records WHERE stage = 1 ORDER BY seq'), ...ofInventories].sort(
    (a, b) => a - b,
  );
  expect(seqs).toEqual(Array.from({ length: produced + again }, (_, i) => (seqs[0] ?? 0) + i));
}, 60_000);

it('tells that it runs already', async () => {
  const dir = tempDir();
  const first = npmStart(dir);
  await until(() => first.out.includes('packets/s'), 'live figures');
  const second = npmStart(dir);
  expect(await second.ended).not.toBe(0);
  expect(second.out).toContain('another ndt aggregator is running');
  process.kill(-(first.child.pid ?? 0), 'SIGINT');
  await first.ended;
}, 60_000);

it('refuses a duration that is none', async () => {
  const run = npmStart(tempDir(), '--for', 'ever');
  expect(await run.ended).toBe(64);
  expect(run.out).toContain('--for ever: expected a duration such as 20s, 5m or 1h');
});
