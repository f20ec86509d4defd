/** What the API answers, as schemas: they are the OpenAPI document, and the types the routes are checked against. */
import Type, { type TSchema } from 'typebox';

const closed = { additionalProperties: false } as const;
const at = (description: string) => Type.Number({ description: `${description} [Unix s]`, examples: [1745233635.217227] });
const count = (description: string) => Type.Integer({ minimum: 0, description });
const orNull = <T extends TSchema>(schema: T, description: string) => Type.Union([schema, Type.Null()], { description });
const number = () => Type.Number();

const measured = {
  rate: orNull(number(), 'Packets received [packets/s], the multiplier in it'),
  length: orNull(number(), 'Average length of a received packet [bytes]; 0 when none came'),
  occupation: orNull(number(), 'Occupation of the router’s capacity [%]'),
  power: orNull(number(), 'Estimated power [W]; null where there is no inference'),
};

export const Latest = Type.Object(
  {
    router: Type.String({ examples: ['r1'] }),
    at: at('When the counters were read'),
    ...measured,
    latency_ms: orNull(number(), 'From reading the counters to the inference [ms]; null where the record does not tell'),
  },
  {
    ...closed,
    description: 'The latest figures of a router',
    examples: [
      {
        router: 'r1',
        at: 1745233728.759537,
        rate: 301.9684264999918,
        length: 1464,
        occupation: 0.0017683271055839516,
        power: 698.83,
        latency_ms: 11.2,
      },
    ],
  },
);

const Latency = Type.Object(
  {
    collected_ms: orNull(number(), 'Until the collector had the counters [ms]'),
    processed_ms: orNull(number(), 'Until the rates were worked out [ms]'),
    inferred_ms: orNull(number(), 'Until the inference was made [ms]'),
  },
  { ...closed, description: 'Time since the counters were read; negative where clocks differ' },
);

const StageFigures = Type.Object(
  {
    at: at('When the counters were read'),
    ...measured,
    latency: Latency,
    replayed: Type.Boolean({ description: 'The record waited out an outage before it was delivered' }),
  },
  { ...closed, description: 'Figures of the last record of a stage' },
);

const routerFields = {
  router: Type.String({ description: 'The host part of `node_exporter`', examples: ['r1'] }),
  latest: Latest,
  processed: orNull(StageFigures, 'The last processed record'),
  inferred: orNull(StageFigures, 'The last inferred record'),
};

export const Routers = Type.Object({ routers: Type.Array(Type.Object(routerFields, closed), { description: 'By name' }) }, closed);

const Quantiles = Type.Object(
  {
    count: count('Records seen'),
    p50_ms: Type.Number({ description: 'Median [ms]' }),
    p99_ms: Type.Number({ description: '99th percentile [ms], by nearest rank' }),
  },
  closed,
);

const maybe = {
  text: (description: string) => orNull(Type.String(), description),
  number: (description: string) => orNull(Type.Number({ exclusiveMinimum: 0 }), description),
  flag: (description: string) => orNull(Type.Boolean(), description),
};

export const InventorySchema = Type.Object(
  {
    at: at('When it was taken'),
    agent: Type.String({ description: 'The agent that took it' }),
    system: Type.Object(
      { manufacturer: maybe.text('Maker'), model: maybe.text('Model'), virtual: maybe.flag('Whether it is a virtual machine') },
      closed,
    ),
    os: Type.Object(
      {
        distribution: maybe.text('Distribution'),
        release: maybe.text('Its release'),
        kernel: maybe.text('Version of the kernel'),
        arch: maybe.text('Architecture, as Node names it'),
        hostname: maybe.text('Host name'),
      },
      closed,
    ),
    cpu: Type.Object(
      {
        manufacturer: maybe.text('Maker'),
        brand: maybe.text('Name'),
        physical_cores: maybe.number('Cores'),
        cores: maybe.number('Threads that run at once'),
        speed_ghz: maybe.number('Clock rate [GHz]'),
      },
      closed,
    ),
    memory: Type.Object({ total_bytes: maybe.number('Memory that the kernel has [bytes]') }, closed),
    interfaces: Type.Array(
      Type.Object(
        {
          name: Type.String(),
          mac: maybe.text('Hardware address'),
          ip4: maybe.text('First IPv4 address'),
          ip4_subnet: maybe.text('Its mask'),
          ip6: maybe.text('First IPv6 address'),
          ip6_subnet: maybe.text('Its mask'),
          speed_mbps: maybe.number('Speed of the link [Mbit/s]'),
          mtu: maybe.number('Largest packet [bytes]'),
          state: maybe.text('As the kernel names it: `up`, `down`, …'),
          virtual: maybe.flag('Whether no device is behind it'),
        },
        closed,
      ),
      { description: 'All interfaces, not only the monitored ones', maxItems: 1000 },
    ),
    interfaces_left_out: count('Interfaces beyond the first 1000'),
    ndt: Type.Object({ version: Type.String({ description: 'Of the agent' }), node: Type.String({ description: 'Of its Node' }) }, closed),
  },
  { ...closed, description: 'What a router is made of. What could not be told is null' },
);

export const RouterDetail = Type.Object(
  {
    ...routerFields,
    oldest_at: at('Event time of the oldest record in the store'),
    latencies: Type.Object(
      {
        window_s: Type.Number({ description: 'Seconds looked back from now' }),
        collected: orNull(Quantiles, 'From reading the counters to having them'),
        processed: orNull(Quantiles, 'From reading the counters to the rates'),
        inferred: orNull(Quantiles, 'From reading the counters to the inference'),
      },
      { ...closed, description: 'How long the stages took, without records that waited out an outage' },
    ),
    inventory: orNull(InventorySchema, 'The newest inventory; null where no agent on the router has sent one'),
  },
  closed,
);

export const Series = Type.Object(
  {
    router: Type.String(),
    metric: Type.Enum(['rate', 'length', 'occupation', 'power']),
    name: Type.String({ description: 'The metric’s name in the record', examples: ['node_network_receive_packets_total_rate'] }),
    unit: Type.String({ examples: ['packets/s'] }),
    from: at('Begin of the range, inclusive'),
    to: at('End of the range, exclusive'),
    step: Type.Number({ description: 'Length of a step [s]', examples: [3] }),
    points: Type.Array(
      Type.Object(
        {
          at: at('Begin of the step, a multiple of `step`'),
          average: Type.Number(),
          min: Type.Number(),
          max: Type.Number(),
          count: Type.Integer({ minimum: 1, description: 'Records in the step' }),
        },
        closed,
      ),
      { description: 'Steps that have a value, in order; a step without one is left out' },
    ),
  },
  { ...closed, description: 'Average, least and greatest value by step' },
);

const cursor = (description: string) => orNull(Type.String({ examples: ['1745233635217227-42'] }), description);

export const Records = Type.Object(
  {
    router: Type.String(),
    stage: Type.Enum(['processed', 'inferred']),
    records: Type.Array(
      Type.Object(
        {
          at: at('Event time'),
          agent: Type.String({ description: 'The agent that shipped it; `bus:TOPIC/PARTITION` for a producer that numbers nothing' }),
          seq: Type.Integer({ description: 'The agent’s sequence number; the offset for a producer that numbers nothing' }),
          cursor: Type.String({ description: 'Its place: for `before` and `after`' }),
          record: Type.Object({}, { additionalProperties: true, description: 'The record as it came' }),
        },
        closed,
      ),
    ),
    before: cursor('Give it as `before` for the records before these; null when these are none'),
    after: cursor('Give it as `after` for the records after these; null when these are none'),
  },
  closed,
);

const Ranges = (description: string) =>
  Type.Object(
    {
      count: count('How many numbers'),
      ranges: Type.Array(Type.Object({ from: Type.Integer(), to: Type.Integer() }, closed), {
        description: 'From and to, both inclusive; the first 100',
        maxItems: 100,
      }),
    },
    { ...closed, description },
  );
const Reasons = (description: string) =>
  Type.Record(Type.String(), Type.Integer({ minimum: 0 }), { description, examples: [{ buffer_full: 12 }] });

export const LedgerSchema = Type.Object(
  {
    agents: Type.Array(
      Type.Object(
        {
          agent: Type.String(),
          state: Type.Enum(['complete', 'missing', 'unknown'], {
            description:
              '`complete`: all that the agent delivered is here. `missing`: it is not. `unknown`: the agent has sent no ledger yet',
          }),
          difference: orNull(Type.Integer({ minimum: 0 }), 'Records that the agent delivered and that are not here; null without a ledger'),
          ledger: orNull(
            Type.Object(
              {
                at: at('When the agent wrote it'),
                boot: Type.String({ description: 'Identity of the agent’s start' }),
                first: Type.Integer({ description: 'First sequence number' }),
                last: Type.Integer({ description: 'Last sequence number given out' }),
                produced: count('Records made'),
                delivered: count('Records confirmed by the receiving side'),
                pending: count('Records that wait at the agent'),
                dropped: Reasons('Records dropped because a bound forced it, by reason'),
                rejected: Reasons('Records refused for good, kept in the agent’s dead letters, by reason'),
              },
              closed,
            ),
            'The agent’s own last account: produced = delivered + pending + dropped + rejected',
          ),
          received: Type.Object(
            {
              records: count('Records that arrived here, each counted once'),
              duplicates: count('Records that arrived again and were removed'),
              highest: orNull(Type.Integer(), 'Highest sequence number that arrived'),
            },
            { ...closed, description: 'What arrived here, since this aggregator’s bus was set up' },
          ),
          missing: Ranges('Sequence numbers that have not arrived; those above the agent’s last ledger are in flight and not in it'),
          unexplained: Ranges('Those of them that no gap notice explains: on their way when `difference` is 0, lost otherwise'),
          gaps: Type.Array(
            Type.Object(
              {
                from: Type.Integer(),
                to: Type.Integer(),
                count: count('Records dropped'),
                reason: Type.String(),
                at: at('When the agent dropped the last of them'),
              },
              closed,
            ),
            { description: 'Gap notices of the agent; the last 100', maxItems: 100 },
          ),
        },
        closed,
      ),
    ),
  },
  closed,
);

export const ProblemSchema = Type.Object(
  {
    type: Type.Literal('about:blank'),
    title: Type.String({ examples: ['Bad Request'] }),
    status: Type.Integer({ examples: [400] }),
    detail: Type.String({ description: 'What is wrong and what was expected' }),
    parameter: Type.Optional(Type.String({ description: 'The parameter that is wrong', examples: ['metric'] })),
  },
  { ...closed, description: 'RFC 9457 problem details' },
);

export const ReadinessSchema = Type.Object(
  { ready: Type.Boolean(), reasons: Type.Array(Type.String(), { description: 'Why it is not ready yet' }) },
  closed,
);

export type LatestBody = Type.Static<typeof Latest>;
export type RoutersBody = Type.Static<typeof Routers>;
export type RouterDetailBody = Type.Static<typeof RouterDetail>;
export type SeriesBody = Type.Static<typeof Series>;
export type LedgerBody = Type.Static<typeof LedgerSchema>;
