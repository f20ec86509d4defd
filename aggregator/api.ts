/** The aggregator's HTTP side: the API with its OpenAPI document, the page, health and metrics. */
import { timingSafeEqual } from 'node:crypto';
import swagger from '@fastify/swagger';
import { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify';
import Type from 'typebox';
import { VERSION } from '../common/cli.ts';
import { type Loaded, secretOf } from '../common/config.ts';
import type { AgentSeqs } from '../common/dedupe.ts';
import { messageOf } from '../common/errors.ts';
import { authorised, EXPOSITION_TYPE, health, listenError, type Readiness, urlOf } from '../common/http.ts';
import type { Metrics } from '../common/metrics.ts';
import { CONTENT_SECURITY_POLICY, COOKIE, cookieOf, pageRoutes, sessionOf, signInPage } from './api-page.ts';
import { Problem } from './api-query.ts';
import { apiRoutes, problem } from './api-routes.ts';
import { ReadinessSchema } from './api-schemas.ts';
import type { Live } from './live.ts';
import type { Store } from './store.ts';

export interface ApiOptions {
  loaded: Loaded;
  store: Store;
  live: Live;
  /** What has arrived, by agent: `bus.log.seen.agents()`. */
  ledger: () => AgentSeqs[];
  metrics: Metrics;
  readiness: () => Readiness;
  /** What does not get on; nothing when missing. */
  stuck?: () => string[];
  /** Told of a request that failed through our own fault. */
  onFault?: (message: string) => void;
  /** The clock, for tests. */
  nowMicros?: () => number;
  /** Milliseconds between heartbeats of the event stream, for tests. */
  heartbeatMs?: number;
}

/** Open to whoever asks: an orchestrator has no token, and the page that asks for one looks like ours. */
const OPEN = new Set(['/healthz', '/readyz', '/page.css', '/favicon.svg']);

/**
 * Starts to listen where `aggregator.http` says.
 * @throws NdtError CANNOT_CREATE when the port is taken or not allowed, CONFIG when the token's file cannot be read
 */
export async function startApi(options: ApiOptions): Promise<{ url: string; close: () => Promise<void> }> {
  const { loaded } = options;
  const settings = loaded.config.aggregator.http;
  const token = secretOf(loaded, settings.token, settings.token_file, 'aggregator.http.token_file');
  const ending = new AbortController();
  const app = await makeApi(options, token, ending.signal);
  try {
    await app.listen({ host: settings.host, port: settings.port });
  } catch (error) {
    await app.close();
    throw listenError(error, settings, 'aggregator.http');
  }
  return {
    url: urlOf(app.server, 'http'),
    close: async () => {
      ending.abort();
      await app.close();
    },
  };
}

async function makeApi(options: ApiOptions, token: string | undefined, signal: AbortSignal): Promise<FastifyInstance> {
  const { store, live, ledger, metrics, readiness, onFault = () => {}, nowMicros = () => Date.now() * 1000, heartbeatMs } = options;
  const app = fastify({ forceCloseConnections: true, routerOptions: { maxParamLength: 255 }, requestTimeout: 10_000, bodyLimit: 1024 });
  // The routes check their parameters themselves, to say what is wrong with them; answers go out as they are and tests hold them against
  // their schemas: a serializer made from the schema would leave fields out without a word.
  app.setValidatorCompiler(() => () => true);
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  const paths = routePaths(app);
  failures(app, paths, onFault);
  app.addHook('onRequest', async (_request, reply) => {
    reply.headers({
      'content-security-policy': CONTENT_SECURITY_POLICY,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cache-control': 'no-store',
    });
  });
  authentication(app, token);
  await app.register(swagger, { openapi: document(token !== undefined) });
  await app.register(async (scope) => {
    apiRoutes(scope, { store, live, ledger, signal, nowMicros, ...(heartbeatMs === undefined ? {} : { heartbeatMs }) });
    pageRoutes(scope);
    healthRoutes(scope, metrics, readiness, options.stuck ?? (() => []));
    scope.get('/api/v1/openapi.json', { schema: { hide: true } }, () => app.swagger());
  });
  return app;
}

function document(secured: boolean) {
  return {
    openapi: '3.1.0',
    info: {
      title: 'ndt aggregator',
      version: VERSION,
      description: [
        'Telemetry of routers as the aggregator has stored it: rates, estimated power, the records themselves, and the ledger of what was',
        'sent and what arrived. Times are event times (when the counters were read) in Unix seconds; a time in a query may also be ISO 8601.',
      ].join(' '),
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    components: { securitySchemes: { token: { type: 'http' as const, scheme: 'bearer', description: 'The token of `aggregator.http`' } } },
    ...(secured ? { security: [{ token: [] }] } : {}),
  };
}

function healthRoutes(app: FastifyInstance, metrics: Metrics, readiness: () => Readiness, stuck: () => string[]): void {
  const plain = (description: string, example: string) => ({
    description,
    content: { 'text/plain': { schema: Type.String({ examples: [example] }) } },
  });
  app.get(
    '/healthz',
    {
      schema: {
        operationId: 'healthz',
        summary: 'Whether the process answers and gets on',
        security: [],
        response: {
          200: plain('It does', 'ok\n'),
          503: plain('A stage has had a batch in hand for too long: start the process anew', 'stage ndt-store has not got on\n'),
        },
      },
    },
    (_request, reply) => {
      const { status, type, body } = health(stuck());
      return reply
        .code(status === 200 ? 200 : 503)
        .type(type)
        .send(body);
    },
  );
  const ready = (description: string) => ({ description, content: { 'application/json': { schema: ReadinessSchema } } });
  app.get(
    '/readyz',
    {
      schema: {
        operationId: 'readyz',
        summary: 'Whether records are taken in',
        security: [],
        response: { 200: ready('They are'), 503: ready('Not yet, or no longer: the reasons say why') },
      },
    },
    (_request, reply) => {
      const { ready: isReady, reasons } = readiness();
      return reply.code(isReady ? 200 : 503).send({ ready: isReady, reasons });
    },
  );
  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'metrics',
        summary: 'The aggregator’s own metrics, Prometheus text format 0.0.4',
        response: {
          200: { description: 'The exposition', content: { 'text/plain': { schema: Type.String() } } },
          401: problem('The bearer token is missing or wrong'),
        },
      },
    },
    (_request, reply) => reply.type(EXPOSITION_TYPE).send(metrics.print()),
  );
}

/** Every route's path as a pattern, filled as the routes are declared. */
function routePaths(app: FastifyInstance): RegExp[] {
  const paths: RegExp[] = [];
  app.addHook('onRoute', ({ url }) => {
    paths.push(new RegExp(`^${url.replaceAll('.', '\\.').replace(/:[a-z]+/g, '[^/]+')}$`));
  });
  return paths;
}

function failures(app: FastifyInstance, paths: readonly RegExp[], onFault: (message: string) => void): void {
  const send = (reply: FastifyReply, failure: Problem) =>
    reply.code(failure.status).type('application/problem+json').send(JSON.stringify(failure));
  app.setNotFoundHandler(({ url, method }, reply) => {
    const path = url.split('?')[0] ?? '';
    if (!paths.some((pattern) => pattern.test(path)))
      return send(reply, new Problem(404, `there is nothing at ${path}: /api/v1/openapi.json says what there is`));
    reply.header('allow', 'GET, HEAD');
    return send(reply, new Problem(405, `${method} is not answered here, only GET and HEAD`));
  });
  app.setErrorHandler((error: FastifyError, request, reply) => {
    if (error instanceof Problem) return send(reply, error);
    const status = error.statusCode ?? 500;
    if (status < 500) return send(reply, new Problem(status, messageOf(error)));
    onFault(`${request.method} ${request.url}: ${messageOf(error)}`);
    return send(reply, new Problem(500, 'this request failed; the aggregator’s log says why'));
  });
}

/** Lets in who carries the token, as a bearer or, for the page, as the cookie that `?token=` was exchanged for. */
function authentication(app: FastifyInstance, token: string | undefined): void {
  if (token === undefined) return;
  const session = Buffer.from(sessionOf(token));
  app.addHook('onRequest', async (request, reply) => {
    const path = request.url.split('?')[0] ?? '';
    if (OPEN.has(path) || authorised(request, token) || holds(request, session)) return undefined;
    const given = path === '/' ? tokenOf(request) : undefined;
    if (given !== undefined && authorised({ headers: { authorization: `Bearer ${given}` } }, token)) {
      reply.header('set-cookie', `${COOKIE}=${session.toString()}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000`);
      // Away from an address that would keep the token in the history.
      return reply.redirect('/', 303);
    }
    reply.header('www-authenticate', 'Bearer realm="ndt"');
    if (path === '/' && request.headers.accept?.includes('text/html')) {
      const page = signInPage(given !== undefined);
      return reply.code(401).type('text/html; charset=utf-8').send(page);
    }
    throw new Problem(
      401,
      'a token is required: send the header "Authorization: Bearer TOKEN", with the token of aggregator.http in the configuration',
    );
  });
}

function holds(request: FastifyRequest, session: Buffer): boolean {
  const cookie = cookieOf(request.headers.cookie);
  if (cookie === undefined) return false;
  const given = Buffer.from(cookie);
  return given.length === session.length && timingSafeEqual(given, session);
}

function tokenOf(request: FastifyRequest): string | undefined {
  const given = (request.query as { token?: unknown }).token;
  return typeof given === 'string' ? given : undefined;
}
