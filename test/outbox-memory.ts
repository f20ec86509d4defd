/**
 * How much memory an outbox takes, in a process of its own: prints `{before, after, …}` [MB of anonymous memory] as JSON.
 *
 * `outage DIR RECORDS`: nothing is sent while so many records come in, one a second by a simulated clock.
 * `start DIR`: opens a file that is there, reads and settles a little of it.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { Outbox } from '../agent/outbox.ts';

const [what, dir = '', count = '0'] = process.argv.slice(2);

/** Of what is in use: V8 gives back what an ordinary collection frees in its own time, which made 27 MB here or there. */
async function anonymousMb(): Promise<number> {
  for (let i = 0; i < 3; i += 1) {
    globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    await turn();
  }
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024;
}

let seconds = 0;
const open = (file: string) =>
  new Outbox({
    file,
    agentId: 'a1',
    boot: 'b1',
    noticeTopic: 'ndt.notices',
    maxBytes: 2 ** 34,
    maxAgeMs: 7 * 86_400_000,
    // What is measured is memory: waiting for the disk 86,400 times would only take time.
    durability: 'normal',
    nowMs: () => 1_700_000_000_000 + seconds * 1000,
    monotonicMs: () => seconds * 1000,
    kernelBoot: 'k1',
  });
const body = JSON.stringify({ node_exporter: 'r1:9100', filler: 'x'.repeat(900) });
const second = (outbox: Outbox) => {
  seconds += 1;
  outbox.append(
    [{ topic: 'TP_r1', key: 'r1', body }],
    new Map([['r1', { epoch: String(seconds), devices: { eth0: { bytes: String(seconds), packets: '1' } } }]]),
  );
  outbox.maintain();
};
const settle = (outbox: Outbox, n: number) => outbox.settle({ acked: outbox.read('all', n).map(({ seq }) => seq), rejected: [] });

/** A second of an outage: the uplink tries now and then, and fails. */
async function outageSecond(outbox: Outbox, i: number): Promise<void> {
  second(outbox);
  // What is no longer used is given back between two turns of the event loop.
  await turn();
  if (i % 15 !== 0) return;
  outbox.read('fresh', 500);
  outbox.read('backlog', 500);
  outbox.markReplayed();
}

// What the code itself takes: each path was walked before, and back.
const warm = open(join(dir, 'warm.db'));
for (let i = 0; i < 3000; i += 1) await outageSecond(warm, i);
while (warm.ledger().pending > 0) settle(warm, 500);
warm.close();

const before = await anonymousMb();
const started = performance.now();
const outbox = open(join(dir, 'outbox.db'));
const openedMs = performance.now() - started;
if (what === 'outage') {
  for (let i = 0; i < Number(count); i += 1) await outageSecond(outbox, i);
} else {
  settle(outbox, 1000);
  for (let i = 0; i < 20; i += 1) second(outbox);
  outbox.stats();
}
const after = await anonymousMb();
console.log(JSON.stringify({ before, after, openedMs, pending: outbox.ledger().pending }));
outbox.close();
