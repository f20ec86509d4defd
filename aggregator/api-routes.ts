/** The routes under /api/v1, each with what it takes and what it answers. */
import type { FastifyInstance, FastifyReply } from 'fastify';
import Type, { type TSchema } from 'typebox';
import type { AgentSeqs } from '../common/dedupe.ts';
import { inventoryBody, latenciesBody, ledgerBody, recordsText, routerBody, seriesBody } from './api-answers.ts';
import { Problem, Query } from './api-query.ts';
import { Latest, LedgerSchema, ProblemSchema, Records, RouterDetail, Routers, Series } from './api-schemas.ts';
import { METRIC_NAMES, METRICS } from './figures.ts';
import { accounts } from './ledger.ts';
import { type Live, streamEvents } from './live.ts';
import type { Store } from './store.ts';

export interface RouteContext {
  store: Store;
  live: Live;
  /** What has arrived, by agent. */
  ledger: () => AgentSeqs[];
  /** Aborts when the API ends. */
  signal: AbortSignal;
  nowMicros: () => number;
  heartbeatMs?: number;
}

const DEFAULT_RANGE = 15 * 60 * 1e6;
const LATENCY_WINDOW_S = 15 * 60;
const MOST_POINTS = 5000;
/** A series that asks for no step gets about this many points at most. */
const WANTED_POINTS = 300;
const LEAST_STEP = 100_000;
const MOST_WATCHERS = 256;
/** Steps that people count in [s]. */
const STEPS = [1, 2, 3, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400];

/** The shortest step people count in that gives no more than 300 points [µs]. */
export function defaultStep(rangeMicros: number): number {
  const least = rangeMicros / 1e6 / WANTED_POINTS;
  return (STEPS.find((step) => step >= least) ?? Math.ceil(least / 86_400) * 86_400) * 1e6;
}

export const problem = (description: string) => ({ description, content: { 'application/problem+json': { schema: ProblemSchema } } });

/** Answers that every route shares. */
const refusals = {
  400: problem('A parameter is wrong: the answer names it and says what is expected'),
  401: problem('The bearer token is missing or wrong'),
};

const parameter = (description: string, examples: string[], more: object = {}) =>
  Type.Optional(Type.String({ description, examples, ...more }));
const time = (description: string) =>
  parameter(`${description}. Unix seconds, fraction allowed, or ISO 8601 with its zone`, ['1745233635.21']);
const RouterName = Type.Object({ router: Type.String({ description: 'Name of the router', examples: ['r1'] }) });
const wanted = (query: TSchema) => Object.keys((query as { properties?: object }).properties ?? {});

const NoQuery = Type.Object({});
const SeriesQuery = Type.Object({
  metric: Type.String({
    description: `What is asked for: ${METRIC_NAMES.map((m) => `\`${m}\` [${METRICS[m].unit}]`).join(', ')}; the names in the records work as well`,
    examples: ['rate'],
  }),
  from: time('Begin of the range, inclusive; 15 minutes before `to` when missing'),
  to: time('End of the range, exclusive; now when missing'),
  step: parameter(`Length of a step: seconds, or 500ms, 10s, 5m, 1h, 1d. When missing, one that gives at most ${WANTED_POINTS} points`, [
    '10s',
  ]),
});
const RecordsQuery = Type.Object({
  router: Type.String({ description: 'Name of the router', examples: ['r1'] }),
  stage: parameter('`processed` or `inferred`', ['inferred'], { enum: ['processed', 'inferred'], default: 'inferred' }),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 100, description: 'Most records in the answer' })),
  from: time('Only records from this event time on'),
  to: time('Only records before this event time'),
  before: parameter('A cursor: the records before it, newest first', ['1745233635217227-42']),
  after: parameter('A cursor: the records after it, oldest first; `0-0` begins with the oldest', ['0-0']),
});

export function apiRoutes(app: FastifyInstance, { store, live, ledger, signal, nowMicros, heartbeatMs }: RouteContext): void {
  const unknownRouter = (name: string) =>
    new Problem(404, `no record of a router "${name}" is in the store: GET /api/v1/routers lists those there are`, 'router');
  const responses = (description: string, schema: TSchema) => ({
    200: { description, content: { 'application/json': { schema } } },
    ...refusals,
  });
  const notFound = { 404: problem('There is no such router') };

  app.get(
    '/api/v1/routers',
    {
      schema: {
        operationId: 'routers',
        summary: 'All routers with their latest figures',
        description: 'Every router that has a record in the store, with the last record of each stage by event time.',
        response: responses('The routers', Routers),
      },
    },
    ({ query }) => {
      new Query(query, wanted(NoQuery));
      return { routers: store.history.routers(nowMicros()).map(routerBody) };
    },
  );

  app.get<{ Params: { router: string } }>(
    '/api/v1/routers/:router',
    {
      schema: {
        operationId: 'router',
        summary: 'One router',
        description: 'The router’s latest figures, how long the stages took over the last 15 minutes, and what it is made of.',
        params: RouterName,
        response: { ...responses('The router', RouterDetail), ...notFound },
      },
    },
    ({ params, query }) => {
      new Query(query, wanted(NoQuery));
      const now = nowMicros();
      const state = store.history.router(params.router, now);
      const oldest = store.history.oldest(params.router);
      if (state === undefined || oldest === undefined) throw unknownRouter(params.router);
      const latencies = latenciesBody(LATENCY_WINDOW_S, store.history.latencies(params.router, now - LATENCY_WINDOW_S * 1e6));
      return { ...routerBody(state), oldest_at: oldest / 1e6, latencies, inventory: inventoryBody(store.inventories.of(params.router)) };
    },
  );

  app.get<{ Params: { router: string } }>(
    '/api/v1/routers/:router/series',
    {
      schema: {
        operationId: 'series',
        summary: 'A metric over time',
        description: [
          'Average, least and greatest value of each step of `[from, to)` by event time. Steps begin at multiples of `step` since 1970',
          '(UTC), so the first and the last may be cut by the range; only records within it count. A step without a record is left out.',
          `At most ${MOST_POINTS} steps fit into an answer.`,
        ].join(' '),
        params: RouterName,
        querystring: SeriesQuery,
        response: { ...responses('The series', Series), ...notFound },
      },
    },
    ({ params, query: given }) => {
      const query = new Query(given, wanted(SeriesQuery));
      const metric = query.metric();
      const range = query.range();
      const to = range.to ?? nowMicros();
      const from = range.from ?? Math.max(0, to - DEFAULT_RANGE);
      query.ordered(from, to);
      const step = query.duration('step', LEAST_STEP) ?? defaultStep(to - from);
      const points = Math.ceil(to / step) - Math.floor(from / step);
      if (points > MOST_POINTS) {
        const least = Math.ceil((to - from) / (MOST_POINTS - 1) / 1e6);
        throw new Problem(
          400,
          `step: ${step / 1e6} s would give ${points} points, more than ${MOST_POINTS}: expected ${least} s or more, or a shorter range`,
          'step',
        );
      }
      if (store.history.router(params.router, nowMicros()) === undefined) throw unknownRouter(params.router);
      return seriesBody(params.router, metric, { from, to, step }, store.history.buckets(params.router, metric, from, to, step));
    },
  );

  app.get(
    '/api/v1/records',
    {
      schema: {
        operationId: 'records',
        summary: 'Records of a router',
        description: [
          'The records as they came, in the order of their event times: newest first, or oldest first after a cursor. To read all of them,',
          'begin with `after=0-0` and go on with the answer’s `after` until it is null. Records that arrive late take their place by event',
          'time, which may lie before a cursor that was given out.',
        ].join(' '),
        querystring: RecordsQuery,
        response: { ...responses('The records', Records), ...notFound },
      },
    },
    ({ query: given }, reply) => {
      const query = new Query(given, wanted(RecordsQuery));
      const router = query.required('router', 'the name of a router');
      const stage = query.stage('inferred');
      const limit = query.whole('limit', 100, 1, 1000);
      const before = query.cursor('before');
      const after = query.cursor('after');
      const range = { ...query.range(), ...(before === undefined ? {} : { before }), ...(after === undefined ? {} : { after }) };
      if (store.history.router(router, nowMicros()) === undefined) throw unknownRouter(router);
      return reply
        .type('application/json; charset=utf-8')
        .send(recordsText(router, stage, store.history.records(router, stage, limit, range)));
    },
  );

  app.get(
    '/api/v1/ledger',
    {
      schema: {
        operationId: 'ledger',
        summary: 'What was sent, and what arrived',
        description: 'For each agent its own last account beside what arrived here, the gaps it announced, and what is missing.',
        response: responses('The ledger', LedgerSchema),
      },
    },
    ({ query }) => {
      new Query(query, wanted(NoQuery));
      return ledgerBody(accounts(ledger(), store.notices.ledgers(), store.notices.gaps()));
    },
  );

  const eventStream = { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-store', 'x-accel-buffering': 'no' };
  app.get(
    '/api/v1/stream',
    {
      exposeHeadRoute: false,
      schema: {
        operationId: 'stream',
        summary: 'Live figures as server-sent events',
        description: [
          'An event `figures` for each router at once and whenever it has newer figures, at most four times a second for each; comments in',
          'between keep the connection open. A reader that does not keep up misses events, never the latest figures.',
        ].join(' '),
        response: {
          200: {
            description: 'Events `figures`, their data the latest figures of one router as JSON',
            content: { 'text/event-stream': { schema: Latest } },
          },
          ...refusals,
          503: problem('Too many readers'),
        },
      },
    },
    async ({ query }, reply): Promise<FastifyReply> => {
      new Query(query, wanted(NoQuery));
      if (live.watchers >= MOST_WATCHERS) throw new Problem(503, `${MOST_WATCHERS} readers watch already, and no more are taken`);
      reply.hijack();
      for (const [name, value] of Object.entries(reply.getHeaders())) if (value !== undefined) reply.raw.setHeader(name, value);
      reply.raw.writeHead(200, eventStream);
      streamEvents(live, reply.raw, signal, heartbeatMs === undefined ? {} : { heartbeatMs });
      return reply;
    },
  );
  app.head('/api/v1/stream', { schema: { hide: true } }, (_request, reply) => reply.headers(eventStream).send());
}
