/**
 * The examples, as their README has them. A block marked `sh test` is run as it stands, in the repository's folder, and has to succeed; where a
 * block marked `text output` follows, it has to print that. A block may say what it needs: `sh test needs=yanglint`.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { findProgram } from '../../scripts/programs.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = join(root, 'examples');
const BLOCK = /```sh test(?: needs=(\S+))?\n([\s\S]*?)```(?:\s*```text output\n([\s\S]*?)```)?/g;

describe.each(readdirSync(folder))('examples/%s', (name) => {
  const file = join(folder, name, 'README.md');
  const readme = existsSync(file) ? readFileSync(file, 'utf8') : '';
  const blocks = [...readme.matchAll(BLOCK)].map(([, needs, commands = '', output]) => ({ needs, commands, output }));

  it('has a README with commands to run, and its links lead somewhere', () => {
    expect(blocks.length).toBeGreaterThan(0);
    for (const [, target = ''] of readme.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g))
      expect(existsSync(join(folder, name, target)), target).toBe(true);
  });

  for (const { needs, commands, output } of blocks) {
    const missing = (needs ?? '').split(',').filter((program) => program !== '' && findProgram(program) === undefined);
    it.skipIf(missing.length > 0)(
      `${commands.trim()}${missing.length > 0 ? ` (skipped: needs ${missing.join(', ')})` : ''}`,
      () => {
        const { status, stdout, stderr } = spawnSync('sh', ['-ec', commands], { cwd: root, encoding: 'utf8', timeout: 60_000 });
        expect({ status, stderr }).toEqual({ status: 0, stderr: expect.any(String) });
        if (output !== undefined) expect(stdout).toBe(output);
      },
      60_000,
    );
  }
});
