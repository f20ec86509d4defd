/**
 * Kubernetes' own words on manifests, without a cluster: kustomize, built once from its sources where Go is at hand, and the OpenAPI
 * schemas of one version, from a Python package that carries them.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { parseAllDocuments } from 'yaml';
import { findProgram } from '../../scripts/programs.ts';

const KUSTOMIZE = '5.7.1';
/** The package's version is the newest version of Kubernetes that it knows. */
const KUBERNETES = '1.37.0';
const DIR = fileURLToPath(new URL('../../.ndt/kubernetes', import.meta.url));
const BUILT = join(DIR, `kustomize-${KUSTOMIZE}`);
const SCHEMAS = join(DIR, `schemas-${KUBERNETES}`);
const GO = findProgram('go', `${process.env.PATH ?? ''}:/usr/local/go/bin:/usr/lib/go/bin`);
const PYTHON = findProgram('python3');

export const hasKubernetes: boolean = (existsSync(BUILT) || GO !== undefined) && (existsSync(SCHEMAS) || PYTHON !== undefined);
export const NEEDS_KUBERNETES = hasKubernetes ? '' : ' (skipped: needs Go, to build kustomize, and Python with pip)';

const run = promisify(execFile);

export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: { [name: string]: string } };
  // What else there is depends on the kind, and the schema has been asked.
  spec?: { [field: string]: unknown };
  data?: { [name: string]: string };
}

/** Builds it when that was not done yet: a minute, and the modules from the Go proxy. */
export async function buildKustomize(): Promise<void> {
  if (existsSync(BUILT)) return;
  mkdirSync(DIR, { recursive: true });
  // What was downloaded and compiled takes a gigabyte, and is of no use once the program is there.
  const work = mkdtempSync(join(DIR, 'build-'));
  try {
    const env = {
      ...process.env,
      GOBIN: join(work, 'bin'),
      GOPATH: join(work, 'path'),
      GOCACHE: join(work, 'cache'),
      GOFLAGS: '-modcacherw',
    };
    await run(GO ?? 'go', ['install', `sigs.k8s.io/kustomize/kustomize/v5@v${KUSTOMIZE}`], { env, timeout: 600_000 });
    renameSync(join(work, 'bin/kustomize'), BUILT);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** What `kubectl apply -k` would apply. */
export async function render(folder: string): Promise<Manifest[]> {
  const { stdout } = await run(BUILT, ['build', folder], { maxBuffer: 16 * 1024 * 1024 });
  return parseManifests(stdout);
}

export function parseManifests(text: string): Manifest[] {
  return parseAllDocuments(text).map((document) => document.toJS() as Manifest);
}

const UNPACK = `
import sys, zipfile
wheel, prefix, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        if name.startswith(prefix) and name.endswith('.json'):
            with open(target + '/' + name[len(prefix):], 'wb') as file: file.write(archive.read(name))
`;

/** Fetches the schemas when that was not done yet: 22 MB. */
export async function fetchSchemas(): Promise<void> {
  if (existsSync(SCHEMAS)) return;
  mkdirSync(DIR, { recursive: true });
  const work = mkdtempSync(join(DIR, 'schemas-'));
  try {
    const python = PYTHON ?? 'python3';
    const args = ['-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', '--dest', work];
    await run(python, [...args, `kubernetes-validate==${KUBERNETES}`], { timeout: 300_000 });
    const wheel = readdirSync(work).find((name) => name.endsWith('.whl'));
    if (wheel === undefined) throw new Error('pip brought no wheel');
    const unpacked = join(work, 'unpacked');
    mkdirSync(unpacked);
    const prefix = `kubernetes_validate/kubernetes-json-schema/v${KUBERNETES}-local-strict/`;
    await run(python, ['-c', UNPACK, join(work, wheel), prefix, unpacked]);
    renameSync(unpacked, SCHEMAS);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Holds manifests against the schemas; a field that Kubernetes does not know is a fault as well. */
export class Schemas {
  private readonly ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false });
  private readonly compiled = new Map<string, ValidateFunction>();

  constructor() {
    this.ajv.addSchema(JSON.parse(readFileSync(join(SCHEMAS, '_definitions.json'), 'utf8')) as object, '/api/_definitions.json');
  }

  /** What is wrong with a manifest; empty when nothing is. */
  faults(manifest: Manifest): string[] {
    const { kind, apiVersion } = manifest;
    const file = `${kind}-${apiVersion.replace('.k8s.io', '').replaceAll('/', '-')}.json`.toLowerCase();
    let validate = this.compiled.get(file);
    if (validate === undefined) {
      const path = join(SCHEMAS, file);
      if (!existsSync(path)) return [`${kind}: Kubernetes ${KUBERNETES} has no ${kind} of ${apiVersion}`];
      validate = this.ajv.compile(JSON.parse(readFileSync(path, 'utf8')) as object);
      this.compiled.set(file, validate);
    }
    const valid: boolean = validate(manifest);
    if (valid) return [];
    const where = `${kind} ${manifest.metadata.namespace ?? ''}/${manifest.metadata.name}`;
    return (validate.errors ?? []).map(
      ({ instancePath, message, params }) => `${where}${instancePath}: ${message} ${JSON.stringify(params)}`,
    );
  }
}
