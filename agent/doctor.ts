/** `doctor`: looks at everything that an agent depends on, and says of each whether it is well and what to do. */
import { type Args, CONFIG_OPTIONS, type Command, textOption } from '../common/cli.ts';

export const doctorCommand: Command = {
  name: 'doctor',
  summary: 'look at configuration, sources, uplink, clock, disk and buffer; exit code 0: all is well, 1: something fails, 2: warnings only',
  options: {
    config: CONFIG_OPTIONS.config,
    json: { type: 'boolean', help: 'print the findings as JSON' },
  },
  run: doctor,
};

export const doctorExamples = ['ndt-agent doctor --config /etc/ndt/ndt.json', 'ndt-agent doctor --json --config /etc/ndt/ndt.json'];

async function doctor(args: Args): Promise<number> {
  // Loaded when it runs: the agent itself needs none of it.
  const [{ examine }, { exitCodeOf }, { asJson, coloured, line, summary }] = await Promise.all([
    import('./doctor/examine.ts'),
    import('./doctor/finding.ts'),
    import('./doctor/print.ts'),
  ]);
  const { findings, agent } = await examine(textOption(args, 'config'));
  if (args.values.json === true) process.stdout.write(`${asJson(findings, agent, Date.now())}\n`);
  else {
    const width = Math.max(...findings.map(({ check }) => check.length));
    const colour = coloured(process.stdout);
    process.stdout.write(`${findings.map((finding) => line(finding, width, colour)).join('\n')}\n\n${summary(findings)}\n`);
  }
  return exitCodeOf(findings);
}
