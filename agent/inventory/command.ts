/** `ndt-agent inventory`: what this machine is made of, as JSON. The agent itself asks a process of this command, once a day. */
import { readFileSync } from 'node:fs';
import { type Args, type Command, textOption } from '../../common/cli.ts';
import { EXIT, messageOf, NdtError } from '../../common/errors.ts';

async function run(args: Args): Promise<number> {
  const procfsRoot = textOption(args, 'procfs-root') ?? '/proc';
  expectProcfs(procfsRoot);
  const { readMachine, standBack } = await import('./machine.ts');
  standBack();
  const machine = await readMachine(procfsRoot);
  process.stdout.write(`${JSON.stringify(machine, null, process.stdout.isTTY ? 2 : 0)}\n`);
  return EXIT.ok;
}

/** Without interfaces an inventory would say something that is not so. */
function expectProcfs(root: string): void {
  const file = `${root}/net/dev`;
  try {
    readFileSync(file);
  } catch (error) {
    throw new NdtError(
      'UNAVAILABLE',
      `${file} cannot be read (${messageOf(error)}): name the root of a proc file system, in the configuration as procfs_root`,
    );
  }
}

export const inventoryCommand: Command = {
  name: 'inventory',
  summary: 'print what this machine is made of (model, CPU, memory, system, interfaces) and end',
  options: {
    'procfs-root': { type: 'string', value: 'DIR', help: 'root of the proc file system to look at (/proc), such as /host/proc/1' },
  },
  run,
};

export const inventoryExamples = ['ndt-agent inventory'];
