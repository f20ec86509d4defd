import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { expect, it } from 'vitest';
import { freePort } from './ports.ts';

const MODULE = new URL('ports.ts', import.meta.url).href;

it('gives each process ports of its own', async () => {
  const mine = [await freePort(), await freePort()];
  const script = `import { freePort } from '${MODULE}'; console.log(JSON.stringify([await freePort(), await freePort()]));`;
  const other = () => JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })) as number[];
  expect(new Set([...mine, ...other()]).size).toBe(4);
});

it('gives none that the kernel hands out, and none that is listened on', async () => {
  const [first = 0] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').split(/\s+/).map(Number);
  const taken = await freePort();
  const server = createServer().listen(taken, '127.0.0.1');
  try {
    const round = new Set<number>();
    for (let i = 0; i < 98; i += 1) round.add(await freePort());
    expect(round.size).toBe(98);
    expect(round).not.toContain(taken);
    // A machine where the kernel hands out nearly all ports leaves no choice.
    if (first >= 12_000) expect(Math.max(...round)).toBeLessThan(first);
    await freePort();
    expect(round).toContain(await freePort());
  } finally {
    server.close();
  }
});
