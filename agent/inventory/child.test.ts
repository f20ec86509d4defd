import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findProgram } from '../../scripts/programs.ts';
import { inventoryWith } from '../../test/inventory.ts';
import { tempDir } from '../../test/tempdir.ts';
import { until } from '../../test/until.ts';
import { askChild } from './child.ts';

const STRACE = findProgram('strace');
const forever = new AbortController().signal;

/** A program of the test's own in place of ours; it gets our arguments. */
function program(script: string): { command: string[]; dir: string } {
  const dir = tempDir();
  const file = join(dir, 'program');
  writeFileSync(file, `#!/bin/sh\ncd ${dir}\n${script}\n`);
  chmodSync(file, 0o755);
  return { command: [file], dir };
}

const gone = (pid: string) => !existsSync(`/proc/${pid.trim()}`);

describe('the process that reads the machine', () => {
  it('is this program, and its answer is taken', async () => {
    expect((await askChild('/proc', forever)).cpu.cores).toBeGreaterThan(0);
  }, 30_000);

  it('is told where to look, and nothing of our environment but the way to the commands', async () => {
    const { type: _, router, agent, collected_at, ndt, ...machine } = inventoryWith({});
    const { command, dir } = program(`echo "$*" > args; env > env; echo '${JSON.stringify(machine)}'; echo noise >&2`);
    expect(await askChild('/host/proc/1', forever, { command })).toEqual(machine);
    expect(readFileSync(join(dir, 'args'), 'utf8')).toBe('inventory --procfs-root /host/proc/1\n');
    const names = readFileSync(join(dir, 'env'), 'utf8').match(/^\w+(?==)/gm);
    expect(names?.filter((name) => !['PWD', 'OLDPWD', '_', 'SHLVL'].includes(name)).sort()).toEqual(['PATH', 'RES_OPTIONS']);
    expect([router, agent, collected_at, ndt]).not.toContain(undefined);
  });

  it.each([
    ['ended badly', 'echo first >&2; echo "no such thing" >&2; exit 3', 'it ended with code 3: no such thing'],
    ['was killed', 'kill -9 $$', 'it ended by SIGKILL'],
    ['told nothing', 'true', 'what it told cannot be used (not JSON'],
    ['told something else', 'echo "{}"', 'what it told cannot be used (system: expected an object)'],
    ['told no end of it', 'while :; do echo 0123456789012345678901234567890123456789; done', 'it told more than 1048576 bytes'],
  ])('%s: the error says so', async (_, script, message) => {
    await expect(askChild('/proc', forever, { command: program(script).command })).rejects.toThrow(message);
  });

  it('is not there: the error says so', async () => {
    await expect(askChild('/proc', forever, { command: ['/nowhere/ndt-agent'] })).rejects.toThrow(
      'it could not be started (spawn /nowhere/ndt-agent ENOENT)',
    );
  });

  it('does not end: it is ended, with the command that hangs in it', async () => {
    const { command, dir } = program('sleep 600 & echo $! > hangs; echo $$ > own; wait');
    await expect(askChild('/proc', forever, { command, timeoutMs: 300 })).rejects.toThrow('it did not end within 0.3 s');
    for (const file of ['own', 'hangs']) await until(() => gone(readFileSync(join(dir, file), 'utf8')), `${file} to be gone`);
  });

  it('ends when the agent does', async () => {
    const { command, dir } = program('echo $$ > own; sleep 600');
    const stop = new AbortController();
    const asking = askChild('/proc', stop.signal, { command });
    await until(() => existsSync(join(dir, 'own')) && readFileSync(join(dir, 'own'), 'utf8') !== '', 'it to run');
    stop.abort();
    await expect(asking).rejects.toThrow('the agent stops');
    await until(() => gone(readFileSync(join(dir, 'own'), 'utf8')), 'it to be gone');
  });

  it.skipIf(STRACE === undefined)(
    `is the first to go where memory runs out, also where the service may set no priorities${STRACE === undefined ? ' (skipped: needs strace)' : ''}`,
    () => {
      const script = `import { readFileSync } from 'node:fs'; import { standBack } from '${new URL('machine.ts', import.meta.url).href}';
        standBack(); process.stdout.write(readFileSync('/proc/self/oom_score_adj', 'utf8'));`;
      const refused = ['-f', '-qq', '-o', '/dev/null', '-e', 'inject=setpriority:error=EPERM'];
      const node = [process.execPath, '--input-type=module', '-e', script];
      expect(execFileSync(STRACE ?? '', [...refused, ...node], { encoding: 'utf8' })).toBe('1000\n');
    },
  );
});
