/** `ndt-agent inventory`: what this machine is made of, as JSON. The agent itself asks a process of this command, once a day. */
import { type Args, type Command, textOption } from '../../common/cli.ts';
import { EXIT } from '../../common/errors.ts';

async function run(args: Args): Promise<number> {
  const { readMachine, standBack } = await import('./machine.ts');
  standBack();
  const machine = await readMachine(textOption(args, 'procfs-root') ?? '/proc');
  process.stdout.write(`${JSON.stringify(machine, null, process.stdout.isTTY ? 2 : 0)}\n`);
  return EXIT.ok;
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
