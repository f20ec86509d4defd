import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CONTAINER } from '../../test/pods.ts';
import { DEFAULT_METRICS } from './default-metrics.ts';
import { byContainer, lossOf, plain, podMessages, timestampText } from './messages.ts';

const at = (text: string) => Date.parse(text);

it('is the seed’s message, to the letter', () => {
  const times = ['2019-02-13T10:14:32.897Z', '2019-02-13T10:15:02.897Z', '2019-02-13T10:15:32.897Z'].map(at);
  const metric = DEFAULT_METRICS.find(({ name }) => name === 'container_cpu_system_seconds_total');
  if (metric === undefined) throw new Error('the seed’s metric is not in the list');
  const containers = new Map([[CONTAINER, new Map(times.map((ms) => [ms, '0.21000000000000016']))]]);
  const point = (timestamp: string) =>
    `{"type":"counter","name":"container_cpu_system_seconds_total","timestamp":"${timestamp}","unit":"seconds","value":"0.21000000000000016"}`;
  expect(JSON.stringify(podMessages(metric, containers))).toBe(
    `[{"container_id":"959a1de912ce454a9a1de912ce654ae9","metric_type":"container_cpu_system_seconds_total","data":[${[
      '2019-02-13T10:14:32.897000Z',
      '2019-02-13T10:15:02.897000Z',
      '2019-02-13T10:15:32.897000Z',
    ]
      .map(point)
      .join(',')}]}]`,
  );
});

it('writes times in UTC with microseconds', () => {
  expect(timestampText(at('2019-02-13T10:14:32Z'))).toBe('2019-02-13T10:14:32.000000Z');
});

describe('the loss', () => {
  const one = (...values: Array<[number, string]>) => new Map([['c', new Map(values)]]);
  it('is dropped x 100 / total, 0 when total is 0', () => {
    expect(lossOf(one([1, '0.5'], [2, '0'], [3, '0'], [4, '7']), one([1, '4'], [2, '4'], [3, '0'], [4, '0']))).toEqual(
      one([1, '12.5'], [2, '0'], [3, '0'], [4, '0']),
    );
  });
  it('is nothing where one of them is not known', () => {
    expect(lossOf(one([1, '1'], [2, '1']), one([2, '4']))).toEqual(one([2, '25']));
    expect(lossOf(one([1, '1']), new Map())).toEqual(new Map());
    expect(lossOf(new Map(), one([1, '1']))).toEqual(new Map());
  });
  it('is never infinite', () => {
    expect(lossOf(one([1, '1e300']), one([1, '1e-300']))).toEqual(new Map());
  });
});

it('writes numbers without an exponent and without loss', () => {
  expect([0, 12.5, 1e-7, 1.5e-9, -2.25e-8, 1e21, 1.25e22].map(plain)).toEqual([
    '0',
    '12.5',
    '0.0000001',
    '0.0000000015',
    '-0.0000000225',
    '1000000000000000000000',
    '12500000000000000000000',
  ]);
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
      const text = plain(value);
      expect(text).toMatch(/^-?\d+(\.\d+)?$/);
      expect(Number(text) + 0).toBe(value + 0);
    }),
  );
});

describe('the container’s id', () => {
  const ID = 'ab'.repeat(32);
  const STATIC = 'c'.repeat(32);
  const idOf = (label: string) => {
    const pattern = /(?:^|[/:-])([0-9a-f]{32,64})(?:[.]scope)?$/u;
    const found = byContainer(
      [{ labels: { id: label }, values: [{ atMs: 1, value: '1' }], histograms: 0 }],
      'id',
      pattern,
      { startMs: 1, endMs: 1 },
      () => {},
    );
    return [...found.keys()][0];
  };
  it.each([
    [`/kubepods/burstable/pod5f0c2a1e-8f0b-4f57-9a44-0d8a3b1c7e01/${ID}`, ID],
    [`/kubepods.slice/kubepods-pod5f0c2a1e_8f0b.slice/cri-containerd-${ID}.scope`, ID],
    [`/kubepods.slice/kubepods-pod5f0c2a1e_8f0b.slice/crio-${ID}.scope`, ID],
    [`/docker/${ID}`, ID],
    [`containerd://${ID}`, ID],
    [ID, ID],
    ['/', undefined],
    ['/kubepods/burstable/pod5f0c2a1e-8f0b-4f57-9a44-0d8a3b1c7e01', undefined],
    // The pod of a static manifest: its id has the form of a container's.
    [`/kubepods/burstable/pod${STATIC}`, undefined],
    [`/kubepods.slice/kubepods-burstable-pod${STATIC}.slice`, undefined],
    ['/system.slice/kubelet.service', undefined],
  ])('%s', (label, id) => {
    expect(idOf(label)).toBe(id);
  });
});
