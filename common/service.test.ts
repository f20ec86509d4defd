import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { Running } from '../test/programs.ts';
import { tempDir } from '../test/tempdir.ts';

const PROGRAM = fileURLToPath(new URL('../test/slow-program.ts', import.meta.url));

/** A program on its way up, which gets there when `open` is called. */
async function starting() {
  const dir = tempDir();
  const [file, gate] = [join(dir, 'ndt.json'), join(dir, 'gate')];
  const configure = (experiment: string) => writeFileSync(file, JSON.stringify({ experiment_id: experiment }));
  configure('one');
  const env = { ...process.env, GATE: gate };
  const program = new Running({ command: [process.execPath, PROGRAM], env }, ['run', '--config', file]);
  onTestFinished(() => program.kill9());
  await program.says('starting');
  return { program, configure, open: () => writeFileSync(gate, '') };
}

test('a configuration that changes while a program starts is taken as soon as it has', async () => {
  const { program, configure, open } = await starting();
  configure('two');
  open();
  await program.says('goes over to two');
  expect(program.log).toMatch(/started[\s\S]*goes over to two/);
  expect(await program.stop()).toEqual({ code: 0, signal: null });
});

test('SIGHUP while a program starts is a reload, and not its end', async () => {
  const { program, open } = await starting();
  program.child.kill('SIGHUP');
  open();
  await program.says(/started[\s\S]*goes over to one/);
  await program.says('configuration reloaded (SIGHUP)');
  expect(await program.stop()).toEqual({ code: 0, signal: null });
});

// Without a listener a container's first process does not even hear it.
test('SIGTERM while a program starts ends it as soon as it has', async () => {
  const { program, open } = await starting();
  program.child.kill('SIGTERM');
  await program.says('stopping (SIGTERM)');
  program.child.kill('SIGHUP');
  open();
  expect(await program.exited).toEqual({ code: 0, signal: null });
  expect(program.log).toMatch(/started[\s\S]*stopped/);
  expect(program.log).not.toMatch(/reload/);
});

test('SIGTERM ends a program that does not get up', async () => {
  const { program } = await starting();
  expect(await program.stop()).toEqual({ code: 1, signal: null });
  expect(program.log).toContain('did not stop within 5 s');
});

test('a reload that does not end does not keep a program from its end', async () => {
  const { program, configure, open } = await starting();
  open();
  await program.says('started');
  configure('stuck');
  program.child.kill('SIGHUP');
  await program.says('goes over to stuck');
  expect(await program.stop()).toEqual({ code: 1, signal: null });
  expect(program.log).toContain('did not stop within 5 s');
});

test('a program that has stopped and does not end is ended', async () => {
  const { program, configure, open } = await starting();
  open();
  await program.says('started');
  configure('leak');
  await program.says('goes over to leak');
  expect(await program.stop()).toEqual({ code: 1, signal: null });
  expect(program.log).toMatch(/"stopped"[\s\S]*did not stop within 5 s/);
});
