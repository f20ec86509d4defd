/** Everything that the doctor looks at. */
import { join } from 'node:path';
import { agentIdOf, type Loaded, loadConfig } from '../../common/config.ts';
import { NdtError } from '../../common/errors.ts';
import { type AgentState, askAgent, bufferDir } from '../buffer/running.ts';
import { countOf, durationText } from '../buffer/text.ts';
import { checkBuffer } from './buffer.ts';
import { checkClock } from './clock.ts';
import { checkConfiguration } from './configuration.ts';
import { checkDisk } from './disk.ts';
import { type Finding, fail, ok, warning } from './finding.ts';
import { checkSources } from './sources.ts';
import { checkUplink } from './uplink.ts';

export interface Examination {
  findings: Finding[];
  /** Its id, where the configuration is valid. */
  agent: string | undefined;
}

/** Findings in the order in which one thing depends on another. */
export async function examine(configFile: string | undefined): Promise<Examination> {
  let loaded: Loaded;
  try {
    loaded = loadConfig(configFile);
  } catch (error) {
    if (!(error instanceof NdtError)) throw error;
    return { findings: error.message.split('\n').map((text) => fail('configuration', text)), agent: undefined };
  }
  const dir = bufferDir(loaded);
  const agent = await askAgent(loaded);
  const buffer = checkBuffer(join(dir, 'outbox.db'), loaded, agent);
  const [sources, uplink, clock] = await Promise.all([
    checkSources(loaded),
    checkUplink(loaded, agent),
    checkClock(loaded, {
      newestAt: buffer.newestAt,
      steps: agent.state === 'running' ? agent.figures.get('ndt_clock_steps_total') : undefined,
    }),
  ]);
  const findings = [
    ...checkConfiguration(loaded),
    checkAgent(agent, dir),
    ...sources,
    ...uplink,
    ...clock,
    ...checkDisk(dir, loaded.config.agent.buffer.max_bytes, buffer.bytes),
    ...buffer.findings,
  ];
  return { findings, agent: agentIdOf(loaded.config) };
}

/** Who has the data folder. */
function checkAgent(agent: AgentState, dir: string): Finding {
  const check = 'agent';
  if (agent.state === 'hidden') return fail(check, agent.why);
  if (agent.state === 'silent') return warning(check, `an agent holds ${dir}, but cannot be asked how it is`, agent.why);
  if (agent.state === 'stopped') return ok(check, `none runs on ${dir}`);
  const { figures, url } = agent;
  const since = figures.get('process_start_time_seconds');
  const up = since === undefined ? '' : ` for ${durationText(Math.max(0, Date.now() - since * 1000))}`;
  const skipped = figures.get('ndt_polls_skipped_total') ?? 0;
  const text = `runs at ${url}${up}`;
  return skipped === 0
    ? ok(check, text)
    : ok(check, `${text}; ${countOf(skipped, 'poll')} left out since, because the one before took too long`);
}
