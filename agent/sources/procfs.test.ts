import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { countersOf } from '../../common/rates.ts';
import type { MetricFamily } from '../../common/record.ts';
import { routerWith, sourceOptionsWith } from '../../test/router.ts';
import { tempDir } from '../../test/tempdir.ts';
import { SourceError } from '../source.ts';
import { ProcfsSource, parseNetDev } from './procfs.ts';

const FIXTURES = join(import.meta.dirname, '../../test/fixtures/procfs');
const onLinux = process.platform === 'linux';
const signal = new AbortController().signal;

function sourceOf(settings: Parameters<typeof routerWith>[0], options: Parameters<typeof sourceOptionsWith>[0] = {}): ProcfsSource {
  return new ProcfsSource(routerWith({ source: 'procfs', ...settings }), sourceOptionsWith(options));
}

function fixture(name: string): string {
  return readFileSync(join(FIXTURES, name, 'net/dev'), 'utf8');
}

/** `{ eth0: '1', … }` of one family. */
function valuesOf(families: readonly MetricFamily[], statistic: string): { [device: string]: string } | undefined {
  const family = families.find((candidate) => candidate.name === `node_network_${statistic}_total`);
  return family && Object.fromEntries(family.values.map(({ labels, value }) => [labels[0]?.value, value]));
}

describe('parseNetDev', () => {
  test('names, descriptions and types are node_exporter’s', () => {
    const families = parseNetDev(fixture('linux-6-large'));
    expect(families.map((family) => family.name)).toEqual([
      'node_network_receive_bytes_total',
      'node_network_receive_packets_total',
      'node_network_receive_errs_total',
      'node_network_receive_drop_total',
      'node_network_receive_fifo_total',
      'node_network_receive_frame_total',
      'node_network_receive_compressed_total',
      'node_network_receive_multicast_total',
      'node_network_transmit_bytes_total',
      'node_network_transmit_packets_total',
      'node_network_transmit_errs_total',
      'node_network_transmit_drop_total',
      'node_network_transmit_fifo_total',
      'node_network_transmit_colls_total',
      'node_network_transmit_carrier_total',
      'node_network_transmit_compressed_total',
    ]);
    expect(families[0]).toMatchObject({ description: 'Network device statistic receive_bytes.', type: 'counter' });
    expect(families[0]?.values[1]).toEqual({ labels: [{ name: 'device', value: 'ens1f0np0' }], value: '18446744073709551615' });
  });

  test('64-bit counters keep every digit, and a last line without newline counts', () => {
    const families = parseNetDev(fixture('linux-6-large'));
    const received = valuesOf(families, 'receive_bytes');
    expect(received).toMatchObject({
      lo: '9007199254740993',
      ens1f0np0: '18446744073709551615',
      'wg-ü': '12',
      veth0000012c: '300000900',
      eth9: '77',
    });
    expect(Object.keys(received ?? {})).toHaveLength(305);
    expect(valuesOf(families, 'transmit_packets')).toMatchObject({ ens1f0np0: '18446744073709551612', eth9: '8' });
    expect(countersOf(families)?.ens1f0np0).toEqual({ bytes: '18446744073709551615', packets: '18446744073709551614' });
  });

  test('numbers glued to the colon, aliases, VLANs, devices without statistics', () => {
    const families = parseNetDev(fixture('linux-2.4-aliases'));
    expect(valuesOf(families, 'receive_bytes')).toEqual({
      lo: '388390',
      eth0: '4294967295',
      'eth0:1': '1200',
      'eth0:27': '1201',
      'vlan1000.100': '1234567890',
    });
    const of = (statistic: string) => valuesOf(families, statistic)?.eth0;
    expect(
      ['receive_packets', 'receive_errs', 'receive_drop', 'receive_fifo', 'receive_frame', 'receive_compressed', 'receive_multicast'].map(
        of,
      ),
    ).toEqual(['4123456789', '11', '22', '33', '44', '55', '66']);
    expect(
      [
        'transmit_bytes',
        'transmit_packets',
        'transmit_errs',
        'transmit_drop',
        'transmit_fifo',
        'transmit_colls',
        'transmit_carrier',
        'transmit_compressed',
      ].map(of),
    ).toEqual(['3456789012', '2345678901', '1', '2', '3', '4', '5', '6']);
  });

  test('the oldest layout has no bytes: its columns are found by name', () => {
    const families = parseNetDev(fixture('linux-2.0'));
    expect(valuesOf(families, 'receive_bytes')).toBeUndefined();
    expect(valuesOf(families, 'receive_packets')).toEqual({ lo: '2', eth0: '3154', ppp0: '26619' });
    expect(valuesOf(families, 'receive_frame')?.eth0).toBe('3');
    expect(valuesOf(families, 'transmit_packets')?.eth0).toBe('2553');
    expect(valuesOf(families, 'transmit_colls')?.eth0).toBe('7');
  });

  test('only wanted families are read', () => {
    const families = parseNetDev(fixture('linux-2.4-aliases'), new Set(['node_network_transmit_errs_total', 'node_load1']));
    expect(families).toHaveLength(1);
    expect(valuesOf(families, 'transmit_errs')?.eth0).toBe('1');
  });

  test.each([
    ['', 'line 2: expected the column names'],
    ['<html>\n<body>\n', 'line 2: expected the column names'],
    ['Inter-| Receive\n face |bytes packets\n', 'line 2: expected the column names'],
    ['Inter-|\n face |bytes|packets\n eth0 1 2\n', 'line 3: expected "interface: numbers"'],
    ['Inter-|\n face |bytes|packets\n eth0: 1 2\n eth1: 1\n', 'line 4: expected 2 numbers, found 1'],
    ['Inter-|\n face |bytes|packets\n eth0:\n', 'line 3: expected 2 numbers, found none'],
    ['Inter-|\n face |bytes|packets\n eth0: 1 -2\n', 'line 3: expected a counter, found "-2"'],
    ['Inter-|\n face |bytes|packets\n eth0: 1e5 2\n', 'line 3: expected a counter, found "1e5"'],
  ])('%j is refused with its line', (text, message) => {
    expect(() => parseNetDev(text)).toThrow(message);
  });
});

describe('ProcfsSource', () => {
  test('a poll gives wanted families of monitored interfaces, a collection gives everything', async () => {
    const source = sourceOf({ procfsRoot: join(FIXTURES, 'linux-6-large'), interfaces: ['*', 'eth7'] });
    const polled = await source.poll(signal);
    expect(polled.interfaces).toEqual(['ens1f0np0', 'wg-ü', 'eth9']);
    expect(polled.missing).toEqual(['eth7']);
    expect(polled.testMetrics).toBe(false);
    expect(polled.families.map((family) => [family.name, family.values.length])).toEqual([
      ['node_network_receive_bytes_total', 3],
      ['node_network_receive_packets_total', 3],
    ]);
    const collected = await source.collect(signal);
    expect(collected.families).toHaveLength(16);
    expect(collected.families[0]?.values).toHaveLength(305);
    expect(collected.interfaces).toEqual(['ens1f0np0', 'wg-ü', 'eth9']);
  });

  test('the time is taken at the read, from the given clocks', async () => {
    const clock = { nowMicros: () => 1_745_233_635_217_227, monotonicNs: () => 42n };
    const sample = await sourceOf({ procfsRoot: `${join(FIXTURES, 'linux-6-large')}/` }, { clock }).poll(signal);
    expect(sample).toMatchObject({ readAtMicros: 1_745_233_635_217_227, monotonicNs: 42n });
  });

  test.skipIf(!onLinux)('this machine’s own counters, which needs Linux', async () => {
    const source = sourceOf({ interfaces: ['lo'] });
    const before = countersOf(parseNetDev(readFileSync('/proc/net/dev', 'utf8')))?.lo;
    const read = countersOf((await source.poll(signal)).families)?.lo;
    const after = countersOf(parseNetDev(readFileSync('/proc/net/dev', 'utf8')))?.lo;
    expect(before).toBeDefined();
    expect(BigInt(read?.bytes ?? -1)).toBeGreaterThanOrEqual(BigInt(before?.bytes ?? 0));
    expect(BigInt(read?.bytes ?? -1)).toBeLessThanOrEqual(BigInt(after?.bytes ?? 0));
    // Another reader of the same file: awk finds the same interfaces.
    const names = execFileSync('awk', ['-F:', 'NR > 2 { gsub(/ /, "", $1); print $1 }', '/proc/net/dev'], { encoding: 'utf8' })
      .trim()
      .split('\n');
    const offered = (await source.collect(signal)).families[0]?.values.map((value) => value.labels[0]?.value);
    expect(offered).toEqual(names);
  });

  test.skipIf(!onLinux)('the counters of another process’ network, as a DaemonSet reads its host’s, which needs Linux', async () => {
    const { families } = await sourceOf({ procfsRoot: `/proc/${process.ppid}`, interfaces: ['lo'] }).poll(signal);
    expect(countersOf(families)?.lo).toBeDefined();
  });

  async function failure(source: ProcfsSource): Promise<SourceError> {
    const error: unknown = await source.poll(signal).catch((reason: unknown) => reason);
    if (error instanceof SourceError) return error;
    throw new Error(`expected a SourceError, got ${String(error)}`);
  }

  test('a root without net/dev says which roots there are', async () => {
    const error = await failure(sourceOf({ procfsRoot: join(tempDir(), 'none') }));
    expect(error.reason).toBe('unreadable');
    expect(error.message).toMatch(/^r1: there is no .*\/none\/net\/dev: /);
    if (onLinux) expect(error.message).toContain('/host/proc/1');
  });

  test('a file that is something else', async () => {
    const root = tempDir();
    mkdirSync(join(root, 'net'));
    writeFileSync(join(root, 'net/dev'), 'hello\nworld\n');
    const error = await failure(sourceOf({ procfsRoot: root }));
    expect(error.reason).toBe('unreadable');
    expect(error.message).toBe(
      `r1: ${root}/net/dev: line 2: expected the column names of /proc/net/dev (" face |bytes packets …|bytes packets …"): is procfs_root the root of a proc file system?`,
    );
  });

  test('a folder in its place', async () => {
    const root = tempDir();
    mkdirSync(join(root, 'net/dev'), { recursive: true });
    const error = await failure(sourceOf({ procfsRoot: root }));
    expect(error).toMatchObject({ reason: 'unreadable', message: expect.stringContaining('EISDIR') });
  });

  test('none of the monitored interfaces is there', async () => {
    const procfsRoot = join(FIXTURES, 'linux-2.4-aliases');
    const named = await failure(sourceOf({ procfsRoot, interfaces: ['eth7', 'wan0'] }));
    expect(named.reason).toBe('no_interface');
    expect(named.message).toContain(
      'there is no eth7, wan0; it has lo, eth0, eth0:1, eth0:27, vlan1000.100: set the router\'s "interfaces"',
    );
    const excluded = await failure(sourceOf({ procfsRoot, interfaces: ['*'] }, { excludeInterfaces: ['*'] }));
    expect(excluded.message).toContain('none of its interfaces is monitored');
  });

  test('none of the wanted families is there', async () => {
    const error = await failure(sourceOf({ procfsRoot: join(FIXTURES, 'linux-2.0') }, { families: new Set(['node_load1']) }));
    expect(error).toMatchObject({ reason: 'not_metrics', message: expect.stringContaining('has none of the families node_load1') });
  });

  test('an aborted poll ends with the reason of the abort', async () => {
    await expect(sourceOf({}).poll(AbortSignal.abort(new Error('stop')))).rejects.toThrow('stop');
  });
});
