/** What a record keeps of a source's families: the wanted ones, with the monitored interfaces' values. */
import type { MetricFamily, MetricValue } from '../common/record.ts';
import type { InterfaceFilter } from './interfaces.ts';
import { SourceError } from './source.ts';

/** Only in these families is the label `device` an interface: elsewhere it is a disk, say. */
const OF_INTERFACES = /^node_network_/;

export interface Monitored {
  families: MetricFamily[];
  interfaces: string[];
  missing: string[];
}

/**
 * The wanted families, those about interfaces only with the monitored ones' values.
 * @param from the router and its source as errors name them: `r1: http://r1:9100/metrics`
 * @throws SourceError when the source has none of the wanted families, or none of the monitored interfaces
 */
export function keepMonitored(all: readonly MetricFamily[], want: ReadonlySet<string>, filter: InterfaceFilter, from: string): Monitored {
  const wanted = all.filter((family) => want.has(family.name) && family.values.length > 0);
  if (wanted.length === 0) {
    throw new SourceError(
      'not_metrics',
      `${from} has none of the families ${[...want].join(', ')}: is its netdev collector switched off, or "families" wrong?`,
    );
  }
  const offered = interfacesOf(wanted);
  const { chosen, missing } = filter.choose(offered);
  if (chosen.length === 0 && wanted.some((family) => OF_INTERFACES.test(family.name))) throw noInterface(from, offered, missing);
  const taken = new Set(chosen);
  const families = wanted.map((family) => ({
    ...family,
    values: OF_INTERFACES.test(family.name) ? ofDevices(family.values, taken) : family.values,
  }));
  return { families, interfaces: chosen, missing };
}

/** All families whole, with the monitored interfaces among them, be they none. */
export function keepAll(families: MetricFamily[], filter: InterfaceFilter): Monitored {
  const { chosen, missing } = filter.choose(interfacesOf(families));
  return { families, interfaces: chosen, missing };
}

/** That nothing is left to monitor, with what there would be. */
export function noInterface(from: string, offered: Iterable<string>, missing: readonly string[]): SourceError {
  const names = [...offered];
  const some =
    names.length === 0 ? 'none' : `${names.slice(0, 20).join(', ')}${names.length > 20 ? `, and ${names.length - 20} more` : ''}`;
  const asked = missing.length === 0 ? 'none of its interfaces is monitored' : `there is no ${missing.join(', ')}`;
  return new SourceError('no_interface', `${from}: ${asked}; it has ${some}: set the router's "interfaces", or "exclude_interfaces"`);
}

/** The interfaces that families tell of, in the order of their first values. */
function interfacesOf(families: readonly MetricFamily[]): Set<string> {
  const names = new Set<string>();
  for (const family of families) {
    if (!OF_INTERFACES.test(family.name)) continue;
    for (const value of family.values) {
      const device = deviceOf(value);
      if (device !== undefined) names.add(device);
    }
  }
  return names;
}

function ofDevices(values: readonly MetricValue[], devices: ReadonlySet<string>): MetricValue[] {
  return values.filter((value) => devices.has(deviceOf(value) ?? ''));
}

function deviceOf(value: MetricValue): string | undefined {
  return value.labels.find((label) => label.name === 'device')?.value;
}
