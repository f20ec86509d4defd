import fc from 'fast-check';
import { expect, it, onTestFinished, vi } from 'vitest';
import type { Delivered, Message, Stage } from '../../common/bus.ts';
import { HEADER } from '../../common/bus.ts';
import { EmbeddedBus } from '../../common/bus-embedded.ts';
import { loadConfig } from '../../common/config.ts';
import { Metrics } from '../../common/metrics.ts';
import type { Config } from '../../common/schema.ts';
import { topicsOf } from '../../common/topics.ts';
import { tempDir } from '../../test/tempdir.ts';
import { until } from '../../test/until.ts';
import { NETFLOW_GROUP, NetflowStage } from './stage.ts';

const T = 1_646_564_400;
const settingsWith = (settings: Partial<Config['netflow']> = {}): Config['netflow'] => ({
  ...loadConfig(undefined, {}).config.netflow,
  ...settings,
});

interface Out {
  'src-port'?: number;
  'bytes-in'?: number;
  aggregate?: { flows: number; 'window-start': number };
  reverse?: { 'bytes-in': number };
}
const recordOf = ({ value }: Message): Out =>
  (JSON.parse(value.toString()) as { 'netflow-v9:netflow': { 'export-packet': { 'flow-data-record': [Out] } } })['netflow-v9:netflow'][
    'export-packet'
  ]['flow-data-record'][0];
const lead = (message: Message) => recordOf(message)['bytes-in'];

function flow(fields: object = {}, key: string | null = 'r1'): Message {
  const all = {
    SamplerAddress: '192.0.2.1',
    SrcAddr: '10.0.0.1',
    DstAddr: '10.0.0.2',
    SrcPort: 1000,
    DstPort: 80,
    Proto: 6,
    TimeFlowStart: T,
    TimeFlowEnd: T + 1,
    ...fields,
  };
  return { topic: 'flows', key, headers: {}, value: Buffer.from(JSON.stringify(all)) };
}

/** A bus in a file, closed and opened again as the test wants, with the stage on it. */
class Rig {
  bus: EmbeddedBus;
  metrics = new Metrics();
  readonly faults: string[] = [];
  settings: Config['netflow'];
  private readonly file: string;
  private readonly batch: number;
  private stop = new AbortController();
  private running: Promise<void> | undefined;

  constructor(settings: Partial<Config['netflow']> = {}, { batch = 500, file = `${tempDir()}/bus.db` } = {}) {
    this.settings = settingsWith(settings);
    this.file = file;
    this.batch = batch;
    this.bus = this.open();
    onTestFinished(() => this.close());
  }

  start(wrap: (stage: NetflowStage) => Stage = (stage) => stage): void {
    this.stop = new AbortController();
    this.metrics = new Metrics();
    const stage = wrap(new NetflowStage(this.settings, this.metrics));
    this.running = this.bus.consume(NETFLOW_GROUP, topicsOf(this.settings.input), stage, this.stop.signal);
  }

  async close(): Promise<void> {
    this.stop.abort();
    await this.running;
    await this.bus.close();
  }

  async restart(wrap?: (stage: NetflowStage) => Stage): Promise<void> {
    await this.close();
    this.bus = this.open();
    this.start(wrap);
  }

  /** Resolves when the stage has committed all there is. */
  async done(): Promise<void> {
    await until(
      () => {
        const mine = this.bus.log.lag().filter(({ group }) => group === NETFLOW_GROUP);
        return mine.length > 0 && mine.every(({ lag }) => lag === 0);
      },
      `all flows to be handled; ${this.faults.slice(-2).join(' | ')}`,
    );
  }

  /** All that a topic holds. */
  async read(topic: string): Promise<Delivered[]> {
    const id = this.bus.log.topics().find(({ name }) => name === topic)?.id;
    if (id === undefined) return [];
    return this.bus.log.read(id, topic, 0, 100_000).map(({ offset, ...row }) => ({ ...row, partition: 0, offset: String(offset) }));
  }

  private open(): EmbeddedBus {
    return new EmbeddedBus({ file: this.file, batch: this.batch, onFault: (message) => this.faults.push(message) });
  }
}

it('gives one record for each flow, with its key and in its order', async () => {
  const rig = new Rig({}, { batch: 7 });
  rig.start();
  for (let i = 0; i < 20; i += 1)
    await rig.bus.append(Array.from({ length: 5 }, (_, j) => flow({ BytesIn: i * 5 + j }, j === 4 ? null : `r${j % 2}`)));
  await rig.done();
  const out = await rig.read('netflow-output');
  for (const [key, mine] of [
    ['r0', [0, 2]],
    ['r1', [1, 3]],
    [null, [4]],
  ] as const) {
    const wanted = Array.from({ length: 100 }, (_, i) => i).filter((i) => mine.some((m) => m === i % 5));
    expect(out.filter((message) => message.key === key).map(lead)).toEqual(wanted);
  }
  expect(out).toHaveLength(100);
  expect(await rig.read('netflow-errors')).toEqual([]);
});

it('keys by the exporter where the key of a flow is no text', async () => {
  const rig = new Rig();
  rig.start();
  await rig.bus.append([flow({}, Buffer.from([0x9d, 0xfe, 1, 2]).toString()), flow({ SamplerAddress: '2001:db8::1' }, '\ufffd')]);
  await rig.done();
  expect((await rig.read('netflow-output')).map(({ key }) => key)).toEqual(['192.0.2.1', '2001:db8::1']);
});

it('puts aside what is no flow, with the reason and where it came from, and goes on', async () => {
  const rig = new Rig();
  rig.start();
  const deep = `{"SrcAddr":${'['.repeat(20_000)}${']'.repeat(20_000)},"DstAddr":"10.0.0.1"}`;
  const bad = ['{"SrcAddr":', '{"SrcAddr":"10.0.0.1"}', '[]', '', deep];
  const headers = { traceparent: 'x' };
  await rig.bus.append([
    flow({ BytesIn: 1 }),
    ...bad.map((text) => ({ topic: 'flows', key: 'r1', headers, value: Buffer.from(text) })),
    flow({ BytesIn: 2, SrcPort: 70_000 }),
  ]);
  await rig.done();
  expect((await rig.read('netflow-output')).map(lead)).toEqual([1, 2]);
  const errors = await rig.read('netflow-errors');
  expect(errors.map(({ value }) => value.toString())).toEqual(bad);
  expect(errors.map((message) => message.headers[HEADER.reason])).toEqual([
    expect.stringMatching(/^bad JSON: /),
    'no destination address (DstAddr)',
    expect.stringMatching(/./),
    expect.stringMatching(/./),
    'source address is no IP address: a list',
  ]);
  for (const { key, headers } of errors)
    expect({ key, headers }).toMatchObject({ key: 'r1', headers: { 'ndt-origin': 'flows', traceparent: 'x' } });
  const exposition = rig.metrics.print();
  for (const line of [
    'ndt_netflow_flows_total{result="normalised"} 2',
    'ndt_netflow_flows_total{result="bad"} 5',
    'ndt_netflow_shapes_total{shape="seed"} 2',
    'ndt_netflow_records_total 2',
    'ndt_netflow_values_left_out_total{leaf="src-port"} 1',
    'ndt_netflow_late_flows_total 0',
    'ndt_netflow_held_flows 0',
  ])
    expect(exposition.split('\n')).toContain(line);
  expect(exposition).toMatch(/ndt_netflow_batch_duration_seconds_count [1-9]/);
  // A scrape is no event.
  expect(rig.metrics.print().replace(/^.*_seconds.*$/gm, '')).toBe(exposition.replace(/^.*_seconds.*$/gm, ''));
});

it('goes on with the flows that it held when it is stopped and started again', async () => {
  const now = Math.floor(Date.now() / 1000);
  const rig = new Rig({ aggregate: 60, bidirectional: true });
  const there = { TimeFlowStart: now, TimeFlowEnd: now, BytesIn: 10 };
  const back = { ...there, SrcAddr: '10.0.0.2', DstAddr: '10.0.0.1', SrcPort: 80, DstPort: 1000, TimeFlowStart: now + 1, BytesIn: 7 };
  rig.start();
  await rig.bus.append([flow(there), flow({ ...there, SrcPort: 5, BytesIn: 3 })]);
  await rig.done();
  expect(rig.metrics.print()).toContain('\nndt_netflow_held_flows 2\n');
  await rig.restart();
  await rig.bus.append([flow(back), flow(there)]);
  await rig.done();
  expect(await rig.read('netflow-output')).toEqual([]);
  await rig.restart();
  // A later window of the exporter ends this one.
  await rig.bus.append([flow({ SrcPort: 9, TimeFlowStart: now + 200, TimeFlowEnd: now + 200 }, 'other')]);
  await rig.done();
  const out = await rig.read('netflow-output');
  expect(out.map(({ key }) => key)).toEqual(['192.0.2.1', '192.0.2.1']);
  expect(out.map(recordOf)).toEqual([
    expect.objectContaining({
      'bytes-in': 20,
      reverse: expect.objectContaining({ 'bytes-in': 7 }),
      aggregate: expect.objectContaining({ flows: 2 }),
    }),
    expect.objectContaining({ 'bytes-in': 3, aggregate: expect.objectContaining({ flows: 1 }) }),
  ]);
});

it('writes what it held when it is started with other settings', async () => {
  const now = Math.floor(Date.now() / 1000);
  const rig = new Rig({ aggregate: 60 });
  rig.start();
  await rig.bus.append([flow({ TimeFlowStart: now, TimeFlowEnd: now, BytesIn: 10 })]);
  await rig.done();
  rig.settings = settingsWith({ aggregate: 0 });
  await rig.restart();
  await rig.bus.append([flow({ BytesIn: 1 }), flow({ BytesIn: 2 })]);
  await rig.done();
  expect((await rig.read('netflow-output')).map(lead)).toEqual([10, 1, 2]);
  expect(rig.bus.log.state(NETFLOW_GROUP).size).toBe(0);
});

it.each<[string, Partial<Config['netflow']>]>([
  ['as they come', {}],
  ['summed up', { aggregate: 60 }],
  ['merged', { bidirectional: true }],
  ['summed up and merged', { aggregate: 60, bidirectional: true }],
])(
  'gives the same, flows %s, whatever fails and restarts on the way',
  async (_, settings) => {
    // The bus's time is the test's: windows end at the same flow in every run.
    vi.useFakeTimers({ toFake: ['Date'] });
    onTestFinished(() => void vi.useRealTimers());
    const some = fc.record({
      SrcPort: fc.integer({ min: 1, max: 3 }),
      SamplerAddress: fc.constantFrom('192.0.2.1', '192.0.2.2'),
      BytesIn: fc.integer({ min: 1, max: 1000 }),
      back: fc.boolean(),
      /** How late it comes, and how long after the one before [s]. */
      late: fc.integer({ min: 0, max: 60 }),
      step: fc.integer({ min: 0, max: 40 }),
      /** What happens to the stage before or with this flow. */
      event: fc.constantFrom('nothing', 'nothing', 'restart', 'throw', 'lost'),
    });
    type Some = typeof some extends fc.Arbitrary<infer F> ? F : never;
    const dir = tempDir();
    let runs = 0;
    const written = async (flows: Some[], faults: boolean) => {
      runs += 1;
      const rig = new Rig(settings, { file: `${dir}/${runs}.db` });
      let failing = '';
      /** Fails before it has an outcome, or after: as a commit would. */
      const flaky = (stage: NetflowStage): Stage => ({
        restore: (state) => stage.restore(state),
        handle: (batch) => {
          const how = failing;
          failing = '';
          if (how === 'throw') throw new Error('before');
          const outcome = stage.handle(batch);
          if (how === 'lost') throw new Error('the commit failed');
          return outcome;
        },
      });
      rig.start(flaky);
      let now = T;
      for (const { back, event, late, step, ...fields } of flows) {
        now += step;
        vi.setSystemTime(now * 1000);
        if (faults && event === 'restart') await rig.restart(flaky);
        else if (faults) failing = event;
        const other = { ...fields, SrcAddr: '10.0.0.2', DstAddr: '10.0.0.1', SrcPort: 80, DstPort: fields.SrcPort };
        await rig.bus.append([flow({ ...(back ? other : fields), TimeFlowStart: now - late, TimeFlowEnd: now - late })]);
        await rig.done();
      }
      const out = (await rig.read('netflow-output')).map(({ key, value }) => `${key} ${value}`);
      // How those that wait are numbered says only which came first.
      const state = [...rig.bus.log.state(NETFLOW_GROUP)].map(([key, value]) => `${key} ${String(value).replace(/,"number":\d+/, '')}`);
      await rig.close();
      // The order in which a window's records go out is that in which they are held, which a restart may change.
      return { out: 'aggregate' in settings || 'bidirectional' in settings ? out.sort() : out, state: state.sort() };
    };
    await fc.assert(
      fc.asyncProperty(fc.array(some, { minLength: 4, maxLength: 16 }), async (flows) => {
        expect(await written(flows, true)).toEqual(await written(flows, false));
      }),
      { numRuns: 8, endOnFailure: true },
    );
  },
  60_000,
);

it('holds the flows of each partition apart, so that a new owner takes over those of its share alone', () => {
  const settings = settingsWith({ aggregate: 60, lateness: 30 });
  const now = 1_646_564_400_000;
  const delivered = (partition: number, atMs: number, fields: object): Delivered => ({
    ...flow({ SamplerAddress: `192.0.2.${partition}`, TimeFlowStart: atMs / 1000, TimeFlowEnd: atMs / 1000, ...fields }),
    partition,
    offset: '0',
    timestamp: atMs,
  });
  const state = new Map<string, Buffer>();
  const commit = ({ state: changes = new Map<string, Buffer | null>() }: ReturnType<NetflowStage['handle']>) => {
    for (const [key, value] of changes) value === null ? state.delete(key) : state.set(key, value);
  };
  const one = new NetflowStage(settings, new Metrics(), () => 0);
  one.restore(new Map());
  commit(one.handle([delivered(0, now, { BytesIn: 1 }), delivered(1, now, { BytesIn: 2 })]));

  // Another joins and takes partition 1.
  const two = new NetflowStage(settings, new Metrics(), () => 0);
  one.restore(new Map(state));
  two.restore(new Map(state));
  const first = one.handle([delivered(0, now + 200_000, { BytesIn: 3 })]);
  const second = two.handle([delivered(1, now + 200_000, { BytesIn: 4 })]);
  expect(first.append?.map(lead)).toEqual([1]);
  expect(second.append?.map(lead)).toEqual([2]);
  commit(first);
  commit(second);

  // And leaves again.
  one.restore(new Map(state));
  const both = one.handle([delivered(0, now + 400_000, { BytesIn: 5 }), delivered(1, now + 400_000, { BytesIn: 6 })]);
  expect(both.append?.map(lead)).toEqual([3, 4]);
});

it.each<[string, Partial<Config['netflow']>]>([
  ['windows', { aggregate: 60, lateness: 30 }],
  ['waiting for the other direction', { bidirectional: true, lateness: 30 }],
])('goes on with its %s when a clock was ahead for a while', (_, settings) => {
  const metrics = new Metrics();
  const stage = new NetflowStage(settingsWith(settings), metrics, () => 0);
  const sent = (atS: number) => {
    const message = flow({ SrcPort: 1000 + (atS % 1000), TimeReceived: T + atS, TimeFlowStart: T + atS, TimeFlowEnd: T + atS });
    return stage.handle([{ ...message, partition: 0, offset: '0', timestamp: (T + atS) * 1000 }]).append?.length;
  };
  const year = 365 * 86_400;
  stage.restore(new Map());
  expect(sent(0)).toBe(0);
  sent(year);
  sent(1);
  expect([2, 3, 4, 5].map(sent)).toEqual([0, 0, 0, 0]);
  expect(metrics.print()).toContain('\nndt_netflow_held_flows 4\n');
  expect(sent(200)).toBe(4);
});

it.each<[string, Partial<Config['netflow']>]>([
  ['windows', { aggregate: 60, lateness: 30 }],
  ['waiting for the other direction', { bidirectional: true, lateness: 30 }],
])('goes on with its %s when the collector’s clock was ahead for a flow, and the bus’s was not', (_, settings) => {
  const stage = new NetflowStage(settingsWith(settings), new Metrics(), () => 0);
  const sent = (atS: number, aheadS = 0) => {
    const flowS = T + atS + aheadS;
    const message = flow({ SrcPort: 1000 + atS, TimeReceived: flowS, TimeFlowStart: flowS, TimeFlowEnd: flowS });
    return stage.handle([{ ...message, partition: 0, offset: '0', timestamp: (T + atS) * 1000 }]).append?.length;
  };
  stage.restore(new Map());
  expect([sent(0), sent(1, 365 * 86_400), sent(2), sent(3), sent(4)]).toEqual([0, 0, 0, 0, 0]);
  expect(sent(200)).toBe(5);
});

it('takes a partition that is behind for behind, and one without flows for silent', () => {
  let clock = 0;
  const metrics = new Metrics();
  const stage = new NetflowStage(settingsWith({ aggregate: 60, lateness: 30 }), metrics, () => clock);
  const delivered = (partition: number, atS: number): Delivered => ({
    ...flow({ SamplerAddress: `192.0.2.${partition}`, TimeFlowStart: T + atS, TimeFlowEnd: T + atS }),
    partition,
    offset: '0',
    timestamp: (T + atS) * 1000,
  });
  stage.restore(new Map());
  expect(stage.handle([delivered(0, 0), delivered(1, 0)]).append).toHaveLength(0);
  // Partition 0 comes further first: nothing of 1 is late for that.
  clock = 1000;
  expect(stage.handle([delivered(0, 1000)]).append).toHaveLength(1);
  clock = 2000;
  expect(stage.handle([delivered(1, 1)]).append).toHaveLength(0);
  expect(metrics.print()).toContain('\nndt_netflow_late_flows_total 0\n');
  // Then nothing comes of 1 any more.
  clock = 33_000;
  expect(stage.handle([delivered(0, 1001)]).append?.map(recordOf)).toEqual([
    expect.objectContaining({ aggregate: expect.objectContaining({ flows: 2 }) }),
  ]);
});
