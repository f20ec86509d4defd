/** Whether the buffer is well, as far as a look tells; `buffer verify` reads all of it. */
import { statSync } from 'node:fs';
import { agentIdOf, type Loaded } from '../../common/config.ts';
import { codeOf, NdtError } from '../../common/errors.ts';
import { type Outage, outage } from '../buffer/outage.ts';
import { BufferFile, remainder } from '../buffer/reader.ts';
import { type AgentState, diskFault } from '../buffer/running.ts';
import { outageText } from '../buffer/status.ts';
import { bytesText, countOf, countText, durationText, reasonsText, sum } from '../buffer/text.ts';
import { aside } from '../buffer/verify.ts';
import { type Finding, fail, ok, warning } from './finding.ts';

/** An outage shorter than this is nothing unusual [ms]. */
const SHORT_OUTAGE = 4 * 3_600_000;
/** Of the cap. */
const NEARLY_FULL = 0.8;

export interface BufferHealth {
  findings: Finding[];
  /** Bytes on disk. */
  bytes: number;
  /** When the newest record came in, Unix ms. */
  newestAt: number | undefined;
}

export function checkBuffer(path: string, loaded: Loaded, agent: AgentState): BufferHealth {
  const there = isThere(path);
  if (there instanceof Error) {
    const text = `${path} cannot be looked at (${codeOf(there) ?? there.message})`;
    return { findings: [fail('buffer', text, 'run this as the agent’s user')], bytes: 0, newestAt: undefined };
  }
  if (!there) {
    const lasts = outage(loaded, undefined, agent);
    return { findings: [ok('buffer', 'there is none yet'), outageFinding(lasts)], bytes: 0, newestAt: undefined };
  }
  let file: BufferFile;
  try {
    file = new BufferFile(path);
  } catch (error) {
    if (error instanceof NdtError) return { findings: [fail('buffer', error.message)], bytes: 0, newestAt: undefined };
    throw error;
  }
  try {
    return file.snapshot(() => {
      const findings = [...contents(file, loaded, agent), outageFinding(outage(loaded, file, agent)), ...aside(path)];
      return { findings, bytes: file.bytes(), newestAt: file.newest()?.at };
    });
  } catch (error) {
    if (error instanceof NdtError) return { findings: [fail('buffer', error.message)], bytes: file.bytes(), newestAt: undefined };
    throw error;
  } finally {
    file.close();
  }
}

function isThere(path: string): boolean | Error {
  try {
    statSync(path);
    return true;
  } catch (error) {
    const code = codeOf(error);
    return code !== 'ENOENT' && code !== 'ENOTDIR' && error instanceof Error ? error : false;
  }
}

function contents(file: BufferFile, { config }: Loaded, agent: AgentState): Finding[] {
  const ledger = file.ledger();
  const { first, last, skipped, produced, delivered, pending, memory, dropped, rejected } = ledger;
  const off = remainder(ledger) - pending;
  if (off !== 0 || produced + memory !== last - first + 1 - skipped) {
    return [
      fail(
        'buffer',
        `its account does not balance (off by ${countText(off === 0 ? produced + memory - (last - first + 1 - skipped) : off)})`,
        'look closer with buffer verify',
      ),
    ];
  }
  const [of, now] = [file.label('agent'), agentIdOf(config)];
  const [bytes, maxBytes] = [file.usedBytes(), config.agent.buffer.max_bytes];
  const lost = sum(dropped) === 0 ? '' : `; dropped so far: ${reasonsText(dropped)}`;
  const refused = sum(rejected) === 0 ? '' : `; rejected so far: ${reasonsText(rejected)}`;
  const text = `${countOf(pending + memory, 'record')} waiting, ${countText(delivered)} delivered, ${bytesText(bytes)} of ${bytesText(maxBytes)}${lost}${refused}`;
  const cause = agent.state === 'running' ? diskFault(agent.figures) : undefined;
  if (cause !== undefined)
    return [
      fail(
        'buffer',
        `the agent keeps new records in memory only: its disk does not take them (${cause}); ${text}`,
        'see what is said of the disk here, and the agent’s log',
      ),
    ];
  if (bytes > maxBytes * NEARLY_FULL && pending > 0) {
    return [
      warning(
        'buffer',
        `${text}: nearly full`,
        `see why nothing goes out, or raise agent.buffer.max_bytes; ${config.agent.buffer.max_bytes} now`,
      ),
    ];
  }
  if (of !== undefined && of !== now && pending + memory > 0) {
    return [
      warning(
        'buffer',
        `${text}; they are of agent "${of}", and the configuration says "${now}": they go out under the new name`,
        'set agent.id back, or empty the buffer first',
      ),
    ];
  }
  return [ok('buffer', text)];
}

function outageFinding(lasts: Outage): Finding {
  const text = outageText(lasts);
  if (lasts.lastsMs >= SHORT_OUTAGE) return ok('outage', text);
  return warning('outage', `${text} (less than ${durationText(SHORT_OUTAGE)})`, 'raise agent.buffer.max_bytes, or poll less often');
}
