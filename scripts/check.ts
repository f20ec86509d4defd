/** `npm run check`: all that can be said about the sources without running them. Every step runs, also after a failed one. */
import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runChild } from './child.mjs';
import { findProgram } from './programs.ts';

interface Step {
  name: string;
  command: string;
  args: string[];
}

const NOT_OURS = new Set(['.git', '.ndt', 'coverage', 'dist', 'node_modules']);

const root = fileURLToPath(new URL('..', import.meta.url));
const files = listFiles('');
const failed: string[] = [];
for (const step of steps()) {
  const began = performance.now();
  const code = await runChild(step.command, step.args, { cwd: root });
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  console.log(`${code === 0 ? 'ok    ' : 'FAILED'} ${step.name} (${seconds} s)`);
  if (code > 128) process.exit(code);
  if (code !== 0) failed.push(step.name);
}
if (failed.length > 0) console.error(`check failed: ${failed.join(', ')}`);
process.exitCode = failed.length > 0 ? 1 : 0;

function* steps(): Generator<Step> {
  yield nodeStep('types', 'node_modules/typescript/bin/tsc', '-p', '.');
  const page = files.filter((file) => file.startsWith('aggregator/page/') && file.endsWith('.ts'));
  // tsc takes a configuration that matches no file for a mistake.
  if (page.some((file) => !file.endsWith('.test.ts'))) {
    yield nodeStep('types of the page', 'node_modules/typescript/bin/tsc', '-p', 'aggregator/page/tsconfig.json');
  }
  if (page.some((file) => file.endsWith('.test.ts'))) {
    yield nodeStep("types of the page's tests", 'node_modules/typescript/bin/tsc', '-p', 'aggregator/page/tsconfig.test.json');
  }
  yield nodeStep('format and lint', 'node_modules/@biomejs/biome/bin/biome', 'check', '--error-on-warnings');
  yield nodeStep('generated files', 'scripts/generate.ts', '--check');
  const shellcheck = findProgram('shellcheck');
  if (shellcheck === undefined) console.log('-      shell scripts (shellcheck is not installed)');
  else yield { name: 'shell scripts', command: shellcheck, args: files.filter(isShellScript) };
}

function nodeStep(name: string, script: string, ...args: string[]): Step {
  return { name, command: process.execPath, args: [script, ...args] };
}

/** Every file of ours, by its path from the root. */
function listFiles(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return NOT_OURS.has(entry.name) ? [] : listFiles(path);
    return entry.isFile() ? [path] : [];
  });
}

function isShellScript(file: string): boolean {
  if (file.endsWith('.sh')) return true;
  if (/\.[a-z]+$/.test(file)) return false;
  const start = Buffer.alloc(32);
  const descriptor = openSync(join(root, file), 'r');
  readSync(descriptor, start);
  closeSync(descriptor);
  return /^#!.*\b(ba|da)?sh\b/.test(start.toString('latin1'));
}
