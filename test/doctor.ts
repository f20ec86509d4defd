/** For tests of `agent doctor`: runs it, and looks at what it says. */
import type { Finding } from '../agent/doctor/finding.ts';
import { runOnce } from './programs.ts';

export interface Told {
  verdict: string;
  exit_code: number;
  checks: Finding[];
}

export const doctor = (config: string, env: NodeJS.ProcessEnv = {}) => runOnce('agent', ['doctor', '--json', '--config', config], { env });

export function examined(config: string, env: NodeJS.ProcessEnv = {}): Told & { status: number | null } {
  const { status, stdout, stderr } = doctor(config, env);
  if (stdout === '') throw new Error(`the doctor said nothing: ${stderr}`);
  return { status, ...(JSON.parse(stdout) as Told) };
}

/** All it says of one thing. */
export const lines = ({ checks }: { checks: Finding[] }, check: string) => checks.filter((finding) => finding.check === check);
export const bad = ({ checks }: Told) => checks.filter(({ health }) => health !== 'ok');
