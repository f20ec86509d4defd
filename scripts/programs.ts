/** Programs of Debian's packages that tests run against: real counterparts, where a mock would only repeat what we believe. */
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';

export interface Program {
  /** The Debian package, which is also what a message tells to install. */
  readonly package: string;
  /** Its name; the whole path of a library. */
  readonly command: string;
  /** What is not tested without it. */
  readonly tests: string;
}

export const TEST_PROGRAMS: readonly Program[] = [
  { package: 'prometheus-node-exporter', command: 'prometheus-node-exporter', tests: 'scraping a real node exporter' },
  { package: 'prometheus', command: 'prometheus', tests: 'pods’ metrics from a real Prometheus' },
  { package: 'mosquitto', command: 'mosquitto', tests: 'delivery to an MQTT broker that is not ours' },
  { package: 'chromium', command: 'chromium', tests: 'the page in a browser' },
  { package: 'openjdk-17-jre-headless', command: 'java', tests: 'a real Apache Kafka' },
  { package: 'maven', command: 'mvn', tests: 'a real Apache Kafka (its jars)' },
  { package: 'libyang2-tools', command: 'yanglint', tests: 'flows against their YANG model' },
  { package: 'kcat', command: 'kcat', tests: 'Kafka’s topics as others see them' },
  { package: 'softflowd', command: 'softflowd', tests: 'NetFlow of real traffic' },
  { package: 'qemu-user-static', command: 'qemu-aarch64-static', tests: 'the binaries for arm64' },
  { package: 'libstdc++6-arm64-cross', command: '/usr/aarch64-linux-gnu/lib/libstdc++.so.6', tests: 'the binaries for arm64' },
  { package: 'systemd', command: 'systemd-analyze', tests: 'how exposed the systemd units are, and what they tell systemd' },
  { package: 'systemd-container', command: 'systemd-nspawn', tests: 'the Debian packages on a machine that is booted' },
  { package: 'debootstrap', command: 'debootstrap', tests: 'the Debian packages on a machine that is booted' },
  { package: 'lintian', command: 'lintian', tests: 'the Debian packages against Debian’s policy' },
  { package: 'shellcheck', command: 'shellcheck', tests: 'the shell scripts' },
  { package: 'python3', command: 'python3', tests: 'messages to systemd on a real socket, and Kubernetes’ schemas (pip)' },
  { package: 'openssl', command: 'openssl', tests: 'certificates, for TLS' },
  { package: 'iproute2', command: 'ip', tests: 'several hosts on one machine' },
  { package: 'nftables', command: 'nft', tests: 'a network that loses packets' },
  { package: 'strace', command: 'strace', tests: 'kill -9 at a chosen write, and a disk that fails' },
  { package: 'faketime', command: 'faketime', tests: 'a clock that steps' },
];

/** Debian puts servers where the PATH of a plain user does not lead. */
export const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** The full path of a command on PATH or in the system's folders, or undefined. */
export function findProgram(command: string, path = process.env.PATH ?? ''): string | undefined {
  if (isAbsolute(command)) return existsSync(command) ? command : undefined;
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
