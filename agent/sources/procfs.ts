/**
 * Counters of this machine from `/proc/net/dev`, under node_exporter's names.
 *
 * The second header line names the columns, and families are named after it as node_exporter does, so that the layouts of all kernels
 * since 2.0 are understood. Counters have up to 64 bits and stay the kernel's own digits.
 */
import { readFileSync } from 'node:fs';
import type { Router } from '../../common/config.ts';
import { codeOf, messageOf } from '../../common/errors.ts';
import type { Label, MetricFamily } from '../../common/record.ts';
import { keepAll, keepMonitored, type Monitored } from '../families.ts';
import { InterfaceFilter } from '../interfaces.ts';
import { type CounterSample, type Source, SourceError, type SourceOptions } from '../source.ts';
import { fastest, type LinkSpeed } from '../sysfs.ts';

/** Links are asked for their speed when other interfaces are monitored than before, and this often [ns]. */
const ASK_LINKS_NS = 60_000_000_000n;

export class ProcfsSource implements Source {
  readonly name: string;
  private readonly router: Router;
  private readonly options: SourceOptions;
  private readonly file: string;
  private readonly filter: InterfaceFilter;
  private links: { devices: string; speed: LinkSpeed | undefined; askedNs: bigint } | undefined;

  constructor(router: Router, options: SourceOptions) {
    this.name = router.name;
    this.router = router;
    this.options = options;
    this.file = `${router.procfsRoot.replace(/\/+$/, '')}/net/dev`;
    this.filter = new InterfaceFilter(router.interfaces, options.excludeInterfaces);
  }

  async poll(signal: AbortSignal): Promise<CounterSample> {
    const { families } = this.options;
    return this.read(signal, families, (found) => keepMonitored(found, families, this.filter, `${this.name}: ${this.file}`));
  }

  async collect(signal: AbortSignal): Promise<CounterSample> {
    return this.read(signal, undefined, (found) => keepAll(found, this.filter));
  }

  close(): void {}

  private read(signal: AbortSignal, want: ReadonlySet<string> | undefined, keep: (families: MetricFamily[]) => Monitored): CounterSample {
    signal.throwIfAborted();
    const { clock } = this.options;
    const readAtMicros = clock.nowMicros();
    const monotonicNs = clock.monotonicNs();
    let text: string;
    try {
      text = readFileSync(this.file, 'utf8');
    } catch (error) {
      throw new SourceError('unreadable', `${this.name}: ${whyUnreadable(this.file, error)}`);
    }
    let families: MetricFamily[];
    try {
      families = parseNetDev(text, want);
    } catch (error) {
      throw new SourceError(
        'unreadable',
        `${this.name}: ${this.file}: ${messageOf(error)}: is procfs_root the root of a proc file system?`,
      );
    }
    const kept = keep(families);
    const sample: CounterSample = { router: this.router, readAtMicros, monotonicNs, ...kept, testMetrics: false };
    return this.router.throughputConfigured ? sample : this.withCapacity(sample);
  }

  /** The fastest of the monitored links stands for a capacity that nobody configured. */
  private withCapacity(sample: CounterSample): CounterSample {
    const devices = sample.interfaces.join(' ');
    if (this.links === undefined || this.links.devices !== devices || sample.monotonicNs - this.links.askedNs >= ASK_LINKS_NS) {
      const speed = fastest(this.router.procfsRoot, sample.interfaces);
      // A link that is down tells no speed: until it is up again, it is what it was.
      const last = this.links?.speed;
      const kept = speed ?? (last !== undefined && sample.interfaces.includes(last.device) ? last : undefined);
      this.links = { devices, speed: kept, askedNs: sample.monotonicNs };
    }
    const { speed } = this.links;
    if (speed === undefined) return { ...sample, linkSpeed: null };
    return { ...sample, router: { ...sample.router, maxThroughputMbps: speed.mbps }, linkSpeed: speed };
  }
}

function whyUnreadable(file: string, error: unknown): string {
  const code = codeOf(error);
  if (code === 'ENOENT' && process.platform !== 'linux')
    return `there is no ${file}: the source procfs needs Linux, so give this router the "url" of a node exporter`;
  if (code === 'ENOENT')
    return `there is no ${file}: set procfs_root to /proc, or to /host/proc/1 in a container that has its host's /proc mounted at /host/proc`;
  if (code === 'EACCES' || code === 'EPERM')
    return `${file} may not be read by this user (${code}): run the agent as a user that may, or without hidepid on that mount`;
  return `${file} cannot be read (${messageOf(error)})`;
}

interface Column {
  /** Place among a line's numbers. */
  index: number;
  family: MetricFamily;
}

/**
 * The families of a `/proc/net/dev`, in the order of its columns.
 * @param want names of the families to return; all if left out
 * @throws Error with the line that is not in the format
 */
export function parseNetDev(text: string, want?: ReadonlySet<string>): MetricFamily[] {
  const lines = text.split('\n');
  const { columns, width } = readHeader(lines[1], want);
  for (let i = 2; i < lines.length; i += 1) {
    const line = lines[i] ?? '';
    if (line.trim() === '') continue;
    // The last colon: an alias of an old kernel has one in its name (eth0:1), and the first number may follow it without a blank.
    const colon = line.lastIndexOf(':');
    if (colon < 0) throw new Error(`line ${i + 1}: expected "interface: numbers"`);
    const rest = line.slice(colon + 1).trim();
    if (/^no statistics available\.?$/i.test(rest)) continue;
    const numbers = rest.split(/\s+/);
    const labels: Label[] = [{ name: 'device', value: line.slice(0, colon).trim() }];
    if (numbers.length < width) throw new Error(`line ${i + 1}: expected ${width} numbers, found ${rest === '' ? 'none' : numbers.length}`);
    for (const { index, family } of columns) {
      const value = numbers[index] ?? '';
      if (!/^\d+$/.test(value)) throw new Error(`line ${i + 1}: expected a counter, found "${value.slice(0, 20)}"`);
      family.values.push({ labels, value });
    }
  }
  return columns.map((column) => column.family);
}

/** ` face |bytes packets … |bytes packets …`: first what was received, then what was sent. */
function readHeader(line: string | undefined, want: ReadonlySet<string> | undefined): { columns: Column[]; width: number } {
  const [face, received, sent, ...more] = (line ?? '').split('|');
  if (face?.trim() !== 'face' || received === undefined || sent === undefined || more.length > 0) {
    throw new Error('line 2: expected the column names of /proc/net/dev (" face |bytes packets …|bytes packets …")');
  }
  const statistics = [...words(received).map((name) => `receive_${name}`), ...words(sent).map((name) => `transmit_${name}`)];
  const columns = statistics.flatMap((statistic, index) => {
    const name = `node_network_${statistic}_total`;
    if (want !== undefined && !want.has(name)) return [];
    return [{ index, family: { name, description: `Network device statistic ${statistic}.`, type: 'counter', values: [] } }];
  });
  return { columns, width: statistics.length };
}

function words(text: string): string[] {
  return text.trim().split(/\s+/);
}
