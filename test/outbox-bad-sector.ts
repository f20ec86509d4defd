/** Opens an outbox by a clock of its own until the disk is used again, and prints its ledger as JSON: `DIR`. Run under strace, see its test. */
import { join } from 'node:path';
import { Outbox } from '../agent/outbox.ts';

const [dir = ''] = process.argv.slice(2);
let monotonic = 0;
const outbox = new Outbox({
  file: join(dir, 'outbox.db'),
  agentId: 'a1',
  boot: 'b1',
  noticeTopic: 'ndt.notices',
  maxBytes: 2 ** 30,
  maxAgeMs: 0,
  kernelBoot: 'k1',
  fallbackMark: join(dir, 'fallback.seq'),
  monotonicMs: () => monotonic,
});
const first = outbox.whereabouts();
for (let i = 0; i < 10 && outbox.whereabouts().where === 'memory'; i += 1) {
  monotonic += 60_000;
  outbox.maintain();
}
process.stdout.write(JSON.stringify({ first, last: outbox.whereabouts(), ledger: outbox.ledger(), repairs: outbox.stats().repairs }));
outbox.close();
