/** Which file a command is about: the buffer of the configuration's agent, or any other by name. */
import { realpathSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { type Args, textOption } from '../../common/cli.ts';
import { agentIdOf, type Loaded, loadConfig } from '../../common/config.ts';
import { NdtError } from '../../common/errors.ts';
import { BufferFile } from './reader.ts';
import { type AgentState, askAgent, bufferDir } from './running.ts';

export interface Target {
  file: string;
  /** The folder whose lock an agent would hold that has this file in use. */
  dir: string;
  loaded: Loaded;
  /** Whether it is the file of the configuration's own agent. */
  own: boolean;
  /** Whose records it holds, where the file does not say. */
  agentId: string | undefined;
  /** Who was named with --agent. */
  named: string | undefined;
}

export function targetOf(args: Args): Target {
  const loaded = loadConfig(textOption(args, 'config'));
  const ownFile = join(bufferDir(loaded), 'outbox.db');
  const named = textOption(args, 'file');
  const file = named === undefined ? ownFile : resolve(named);
  const own = named === undefined || real(file) === real(ownFile);
  // Another file is of another agent perhaps: only an id that somebody wrote down counts there, not the name of this host.
  const id = textOption(args, 'agent');
  const agentId = id ?? (own ? agentIdOf(loaded.config) : loaded.config.agent.id);
  return { file, dir: dirname(file), loaded, own, agentId, named: id };
}

/** What the agent of this file says of itself. Nobody is asked about a copy. */
export async function agentOf({ own, loaded }: Target): Promise<AgentState> {
  return own ? await askAgent(loaded) : { state: 'stopped' };
}

/**
 * Whose records are in the file: it says so itself, unless it is of an older ndt.
 * @throws NdtError USAGE where nothing tells, or where --agent says otherwise
 */
export function agentIn(file: BufferFile, { agentId, named }: Target): string {
  const label = file.label('agent');
  if (label !== undefined && named !== undefined && label !== named) {
    throw new NdtError('USAGE', `--agent ${named}: the records in ${file.file} are of agent "${label}"`);
  }
  const id = label ?? agentId;
  if (id === undefined) {
    throw new NdtError(
      'USAGE',
      `whose records are in ${file.file}? Name the agent with --agent ID, or its configuration with --config FILE`,
    );
  }
  return id;
}

/** As `agentIn`, of a file that is not open. */
export function agentInFile(target: Target): string {
  const file = new BufferFile(target.file);
  try {
    return agentIn(file, target);
  } finally {
    file.close();
  }
}

function real(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return resolve(file);
  }
}
