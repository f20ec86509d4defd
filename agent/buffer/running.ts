/** Whether the agent of a data folder runs, and what it says of itself over HTTP. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { type Loaded, pathOf, secretOf } from '../../common/config.ts';
import { codeOf, messageOf } from '../../common/errors.ts';
import { parseExposition } from '../exposition.ts';

/** The agent's own metrics, by name and labels. */
export class Figures {
  private readonly families;

  constructor(exposition: string) {
    this.families = parseExposition(exposition);
  }

  /** The value of a series; of one whose labels are not all given, the sum. Undefined where there is none. */
  get(name: string, labels: { [name: string]: string } = {}): number | undefined {
    const values = this.series(name).filter((series) => Object.entries(labels).every(([label, value]) => series.labels[label] === value));
    return values.length === 0 ? undefined : values.reduce((sum, { value }) => sum + value, 0);
  }

  series(name: string): Array<{ labels: { [name: string]: string }; value: number }> {
    const family = this.families.find((candidate) => candidate.name === name);
    return (family?.values ?? [])
      .filter((value) => (value.name ?? name) === name)
      .map(({ labels, value }) => ({ labels: Object.fromEntries(labels.map((label) => [label.name, label.value])), value: Number(value) }));
  }
}

export type AgentState =
  /** Nobody holds the folder. */
  | { state: 'stopped' }
  | { state: 'running'; figures: Figures; url: string }
  /** The folder is held, and nothing answers that could tell more. */
  | { state: 'silent'; why: string }
  /** The folder cannot be looked into. */
  | { state: 'hidden'; why: string };

/** The folder of the agent's buffer. */
export function bufferDir(loaded: Loaded): string {
  return join(pathOf(loaded, loaded.config.data_dir), 'agent');
}

/** Whether an agent holds the folder. Leaves everything as it is: the lock is asked for as a reader, for a moment. */
export function isHeld(dir: string): boolean {
  const file = join(dir, 'agent.lock');
  if (!isThere(file)) return false;
  let db: Database.Database | undefined;
  try {
    db = new Database(file, { readonly: true, timeout: 0 });
    db.prepare('SELECT count(*) FROM sqlite_schema').get();
    return false;
  } catch (error) {
    if (codeOf(error) === 'SQLITE_BUSY') return true;
    throw error;
  } finally {
    db?.close();
  }
}

/** @throws the system's error where that cannot be known */
function isThere(file: string): boolean {
  try {
    statSync(file);
    return true;
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return false;
    throw error;
  }
}

/** Looks at the lock, and asks the agent that holds it. */
export async function askAgent(loaded: Loaded, timeoutMs = 2000): Promise<AgentState> {
  const dir = bufferDir(loaded);
  let held: boolean;
  try {
    held = isHeld(dir);
  } catch (error) {
    const why = codeOf(error) ?? messageOf(error);
    return { state: 'hidden', why: `${join(dir, 'agent.lock')} cannot be read (${why}): run this as the agent’s user` };
  }
  const answer = await askHttp(loaded, timeoutMs);
  if (held) return answer;
  // An agent whose disk takes nothing runs without the lock. Another one may have this port as well, but not with that fault.
  return answer.state === 'running' && diskFault(answer.figures) !== undefined ? answer : { state: 'stopped' };
}

/** Why an agent keeps records in memory only, where it is not configured so: `full`, `read_only`, `io`, … */
export function diskFault(figures: Figures): string | undefined {
  return figures.series('ndt_outbox_memory').find(({ labels, value }) => value === 1 && labels.cause !== 'chosen')?.labels.cause;
}

async function askHttp(loaded: Loaded, timeoutMs: number): Promise<AgentState> {
  const { http } = loaded.config.agent;
  if (http.port === 0) return { state: 'silent', why: 'its address is not known, because agent.http.port is 0: set a port' };
  const url = baseUrl(http.host, http.port);
  try {
    const token = secretOf(loaded, http.token, http.token_file, 'agent.http.token_file');
    const response = await fetch(`${url}/metrics`, {
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(timeoutMs),
      redirect: 'manual',
    });
    const text = await response.text();
    if (response.status === 401) {
      return { state: 'silent', why: `${url} asks for another token: set agent.http.token_file to the one that the agent has` };
    }
    const figures = response.ok ? new Figures(text) : undefined;
    if (figures?.get('ndt_build_info', { program: 'ndt-agent' }) === undefined) {
      return { state: 'silent', why: `what answers at ${url} is no ndt agent: check agent.http` };
    }
    return { state: 'running', figures, url };
  } catch (error) {
    const why = error instanceof Error && error.name === 'TimeoutError' ? `no answer within ${timeoutMs / 1000} s` : messageOf(error);
    return { state: 'silent', why: `${url} does not answer (${why}): is agent.http the one that it was started with?` };
  }
}

function baseUrl(host: string, port: number): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}
