/** What is packaged: the programs, what each binary holds beside its code, and how Node is set in it. */
import { AGENT_ENVIRONMENT, AGENT_FLAGS } from '../../agent/node-flags.ts';
import { SHIPPED } from '../../common/shipped.ts';

export const ARCHITECTURES = ['x64', 'arm64'] as const;
export type Architecture = (typeof ARCHITECTURES)[number];

export const PROGRAMS = ['ndt-agent', 'ndt-aggregator'] as const;
export type ProgramName = (typeof PROGRAMS)[number];

export interface PackagedProgram {
  summary: string;
  /** Its source, from the project's folder. */
  entry: string;
  /** Files inside, by the names under which the program asks for them; the addon comes on top. */
  shipped: readonly string[];
  /** Options of Node and V8. V8 takes most of them only when it starts. */
  flags: readonly string[];
  /** Variables that its service is started with; values without blanks or quotes. */
  environment: { readonly [variable: string]: string };
  /** Other names of the same program: it does what it is called. */
  links: readonly string[];
}

export const PACKAGED: { readonly [name in ProgramName]: PackagedProgram } = {
  'ndt-agent': {
    summary: 'edge agent: reads routers’ counters, works the rates out and ships every record',
    entry: 'binary/agent.ts',
    shipped: [SHIPPED.schema],
    flags: AGENT_FLAGS,
    environment: { NODE_ENV: 'production', ...AGENT_ENVIRONMENT },
    links: [],
  },
  'ndt-aggregator': {
    summary: 'aggregator: takes agents’ records in, keeps, infers and shows them',
    entry: 'binary/aggregator.ts',
    shipped: [SHIPPED.schema, SHIPPED.models, ...SHIPPED.page, ...SHIPPED.charts],
    // SIGUSR1 would open a debugger.
    flags: ['--disable-sigusr1'],
    environment: { NODE_ENV: 'production' },
    links: ['ndt-ml'],
  },
};
