/** What an agent is started with is the same wherever it is started. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { template } from '../scripts/deb/layout.ts';
import { PACKAGED, PROGRAMS } from '../scripts/package/programs.ts';
import { workloads } from '../test/kubernetes-policy.ts';
import type { Manifest } from '../test/real/kubernetes.ts';
import { AGENT_ENVIRONMENT } from './node-flags.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (file: string) => readFileSync(join(root, file), 'utf8');

/** `A=1 B=2` behind each line's beginning, as an object. */
function variablesOf(text: string, begins: RegExp): { [name: string]: string } {
  const assigned = [...text.matchAll(new RegExp(`^\\s*${begins.source} (.*)$`, 'gm'))].flatMap(([, rest]) => (rest ?? '').split(' '));
  return Object.fromEntries(assigned.map((one) => [one.slice(0, one.indexOf('=')), one.slice(one.indexOf('=') + 1)]));
}

for (const name of PROGRAMS)
  test(`${name}: every service sets the same environment`, () => {
    const { environment } = PACKAGED[name];
    for (const value of Object.values(environment)) expect(value).toMatch(/^[\w.-]+$/);
    expect(variablesOf(read(`systemd/${name}.service`).replaceAll(/^Environment=/gm, 'Environment '), /Environment/)).toEqual(environment);
    expect(variablesOf(template(root, name, 'openrc'), /export/)).toEqual(environment);
    expect(variablesOf(template(root, name, 'procd'), /procd_set_param env/)).toEqual(environment);
  });

test('ndt-agent: so do the image and its manifest', () => {
  expect(variablesOf(read('packaging/docker/ndt-agent.Dockerfile'), /ENV/)).toMatchObject(AGENT_ENVIRONMENT);
  const manifests = parseAllDocuments(read('k8s/base/agent.yaml')).map((document) => document.toJS() as Manifest);
  const [agent] = workloads(manifests).flatMap(({ pod }) => pod.containers);
  expect(Object.fromEntries(agent?.env?.map(({ name, value }) => [name, value]) ?? [])).toMatchObject(AGENT_ENVIRONMENT);
});
