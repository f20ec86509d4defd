/** The configuration that `npm start` writes for this machine, once; after that it is the user's. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { InterfaceFilter } from '../../agent/interfaces.ts';
import { loadConfig } from '../../common/config.ts';

export interface StartConfig {
  file: string;
  /** What is watched, for people: `eth0 and wlan0`. */
  describe: string;
}

/** Makes `ndt.json` in the data folder where there is none. */
export function ensureConfig(dir: string): StartConfig {
  const file = `${dir}/ndt.json`;
  if (!existsSync(file)) {
    const name =
      hostname()
        .replace(/[^A-Za-z0-9._-]/g, '-')
        .replace(/^[^A-Za-z0-9]+/, '') || 'router';
    const settings = {
      experiment_id: 'local',
      polling_interval: 1,
      routers: [{ [name]: { source: 'procfs', interfaces: ['*'] } }],
    };
    writeFileSync(file, `${JSON.stringify(settings, null, 2)}\n`, { flag: 'wx' });
  }
  const { config, routers } = loadConfig(file);
  const present = readdirSync('/sys/class/net');
  const watched = new Set(
    routers
      .filter(({ source }) => source === 'procfs')
      .flatMap((router) => new InterfaceFilter(router.interfaces, config.exclude_interfaces).choose(present).chosen),
  );
  return { file, describe: watched.size === 0 ? 'the configured routers' : [...watched].join(', ') };
}
