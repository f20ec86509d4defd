/** What is odd in a configuration that is valid. */
import { statSync } from 'node:fs';
import { agentIdOf, type Loaded } from '../../common/config.ts';
import { countOf } from '../buffer/text.ts';
import { type Finding, fail, ok, warning } from './finding.ts';

export function checkConfiguration(loaded: Loaded): Finding[] {
  const check = 'configuration';
  const { config, file, routers, warnings } = loaded;
  const named = file ?? 'defaults and environment variables';
  const findings: Finding[] = warnings.map((text) => warning(check, text, 'correct its name, or unset it'));
  if (routers.length === 0) findings.push(fail(check, `${named}: no routers, so the agent does not start`, 'add some to "routers"'));
  const secret = secretInPlace(loaded);
  if (file !== undefined && secret !== undefined && readableByAll(file)) {
    findings.push(
      warning(
        check,
        `${file} holds ${secret} and may be read by everyone`,
        `chmod o-r ${file}, or move it into a file of its own (${secret}_file)`,
      ),
    );
  }
  if (!findings.some(({ health }) => health === 'fail')) {
    findings.push(
      ok(check, `${named} is valid: agent "${agentIdOf(config)}", ${countOf(routers.length, 'router')}, uplink ${config.agent.uplink}`),
    );
  }
  return findings;
}

function secretInPlace({ config }: Loaded): string | undefined {
  const secrets: Array<[string, string | undefined]> = [
    ['mqtt.password', config.mqtt.password],
    ['kafka.sasl.password', config.kafka.sasl?.password],
    ['agent.http.token', config.agent.http.token],
  ];
  return secrets.find(([, value]) => value !== undefined)?.[0];
}

function readableByAll(file: string): boolean {
  const mode = statSync(file, { throwIfNoEntry: false })?.mode ?? 0;
  return (mode & 0o004) !== 0;
}
