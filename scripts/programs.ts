/** Programs of Debian's packages that tests run against: real counterparts, where a mock would only repeat what we believe. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

export interface Program {
  /** The Debian package, which is also what a message tells to install. */
  readonly package: string;
  readonly command: string;
  /** What is not tested without it. */
  readonly tests: string;
}

export const TEST_PROGRAMS: readonly Program[] = [
  { package: 'prometheus-node-exporter', command: 'prometheus-node-exporter', tests: 'scraping a real node exporter' },
  { package: 'mosquitto', command: 'mosquitto', tests: 'delivery to an MQTT broker that is not ours' },
  { package: 'chromium', command: 'chromium', tests: 'the page in a browser' },
  { package: 'openjdk-17-jre-headless', command: 'java', tests: 'a real Apache Kafka' },
  { package: 'maven', command: 'mvn', tests: 'a real Apache Kafka (its jars)' },
  { package: 'libyang2-tools', command: 'yanglint', tests: 'flows against their YANG model' },
  { package: 'iproute2', command: 'ip', tests: 'several hosts on one machine' },
];

/** Debian puts servers where the PATH of a plain user does not lead. */
export const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** The full path of a command on PATH or in the system's folders, or undefined. */
export function findProgram(command: string, path = process.env.PATH ?? ''): string | undefined {
  const folders = [...path.split(delimiter).filter((folder) => folder !== ''), ...SYSTEM_FOLDERS];
  return folders.map((folder) => join(folder, command)).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
