/** The routers' capacities in force: what nobody configured is the speed of a link, where the kernel tells it. */
import { readFileSync } from 'node:fs';
import type { Loaded, Router } from '../common/config.ts';
import { InterfaceFilter } from './interfaces.ts';
import { fastest, namesIn } from './sysfs.ts';

/** The routers' settings, with `max_throughput_mbps` where a link's speed stands for it now. */
export function routersInForce({ config, routers }: Pick<Loaded, 'config' | 'routers'>): Loaded['config']['routers'] {
  const byName = new Map(routers.map((router) => [router.name, router]));
  return config.routers.map((entry) =>
    Object.fromEntries(
      Object.entries(entry).map(([name, settings]) => {
        const router = byName.get(name);
        const mbps = router === undefined ? undefined : linkCapacity(router, config.exclude_interfaces);
        return [name, mbps === undefined ? settings : { ...settings, max_throughput_mbps: mbps }];
      }),
    ),
  );
}

/** [Mbit/s]; undefined where a link's speed does not count, or none is told. */
function linkCapacity(router: Router, excluded: readonly string[]): number | undefined {
  if (router.throughputConfigured || router.source !== 'procfs') return undefined;
  try {
    const names = namesIn(readFileSync(`${router.procfsRoot}/net/dev`, 'utf8'));
    return fastest(router.procfsRoot, new InterfaceFilter(router.interfaces, excluded).choose(names).chosen)?.mbps;
  } catch {
    // The first poll says what is wrong with it.
    return undefined;
  }
}
