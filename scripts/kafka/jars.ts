/** The broker's jars: brought from Maven Central once, by the pinned versions of kafka/pom.xml, into `.ndt/kafka/`. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { NdtError } from '../../common/errors.ts';
import { findProgram } from '../programs.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
export const KAFKA_DIR: string = join(root, '.ndt', 'kafka');
const JAVA = 17;

export interface Jvm {
  java: string;
  classPath: string;
}

/** The command `java`. @throws NdtError UNAVAILABLE where it is missing or too old */
export async function findJava(): Promise<string> {
  const java = findProgram('java');
  if (java === undefined)
    throw new NdtError(
      'UNAVAILABLE',
      `Apache Kafka needs Java ${JAVA} or newer, and there is none: apt-get install openjdk-17-jre-headless`,
    );
  const { stderr } = await promisify(execFile)(java, ['-version']);
  const version = Number(/version "(\d+)/.exec(stderr)?.[1] ?? 0);
  if (version < JAVA)
    throw new NdtError(
      'UNAVAILABLE',
      `Apache Kafka needs Java ${JAVA} or newer, and ${java} is ${version}: apt-get install openjdk-17-jre-headless`,
    );
  return java;
}

/** Java and the jars, brought first where they are missing. @throws NdtError UNAVAILABLE, saying what to install */
export async function ensureJars(): Promise<Jvm> {
  const java = await findJava();
  const pom = join(root, 'kafka', 'pom.xml');
  const stamp = createHash('sha256').update(readFileSync(pom)).digest('hex').slice(0, 12);
  const jars = join(KAFKA_DIR, `jars-${stamp}`);
  const classPath = `${join(root, 'kafka')}:${join(jars, '*')}`;
  if (existsSync(jars)) return { java, classPath };
  const mvn = findProgram('mvn');
  if (mvn === undefined)
    throw new NdtError('UNAVAILABLE', 'Maven brings the jars of Apache Kafka, and it is not installed: apt-get install maven');
  mkdirSync(KAFKA_DIR, { recursive: true });
  const fetched = mkdtempSync(join(KAFKA_DIR, 'fetching-'));
  try {
    await promisify(execFile)(mvn, ['-B', '-q', '-f', pom, 'dependency:copy-dependencies', `-DoutputDirectory=${fetched}`], {
      maxBuffer: 16 * 1024 * 1024,
    });
    // Whoever else fetched them meanwhile has the same: pinned versions.
    if (!existsSync(jars)) renameSync(fetched, jars);
  } catch (error) {
    if (existsSync(jars)) return { java, classPath };
    const said = error instanceof Error && 'stdout' in error ? String(error.stdout) : String(error);
    const why = /\[ERROR\] (.*)/.exec(said)?.[1] ?? said;
    throw new NdtError(
      'UNAVAILABLE',
      `Maven could not bring the jars of Apache Kafka (${why}): check that Maven Central is reachable and run the command again`,
    );
  } finally {
    rmSync(fetched, { recursive: true, force: true });
  }
  return { java, classPath };
}
