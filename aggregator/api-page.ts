/** The page's files, and what a browser without the token gets to see. */
import { createHash, createHmac } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { readShipped, type ShippedFile } from '../common/shipped.ts';

interface Asset {
  type: string;
  file: ShippedFile;
}

const ASSETS: Readonly<Record<string, Asset>> = {
  '/': { type: 'text/html; charset=utf-8', file: 'aggregator/page/index.html' },
  '/page.js': { type: 'text/javascript; charset=utf-8', file: 'aggregator/page/page.js' },
  '/page.css': { type: 'text/css; charset=utf-8', file: 'aggregator/page/page.css' },
  '/favicon.svg': { type: 'image/svg+xml', file: 'aggregator/page/favicon.svg' },
  '/uplot.js': { type: 'text/javascript; charset=utf-8', file: 'uplot/dist/uPlot.iife.min.js' },
  '/uplot.css': { type: 'text/css; charset=utf-8', file: 'uplot/dist/uPlot.min.css' },
};

/** Nothing but our own files runs, is loaded or is asked. */
export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
].join('; ');

export function pageRoutes(app: FastifyInstance): void {
  for (const [url, { type, file }] of Object.entries(ASSETS)) {
    const content = readShipped(file);
    const etag = `"${createHash('sha256').update(content).digest('base64url').slice(0, 22)}"`;
    app.get(url, { schema: { hide: true } }, (request, reply) => {
      // Kept by the browser, and asked for again each time: a new version of ndt shows at once.
      reply.headers({ etag, 'cache-control': 'no-cache' });
      const known = request.headers['if-none-match']?.split(',').map((tag) => tag.trim().replace(/^W\//, ''));
      if (known?.includes(etag) || known?.includes('*')) return reply.code(304).send();
      return reply.type(type).send(content);
    });
  }
}

export const COOKIE = 'ndt_session';

/** What the cookie holds instead of the token: made from it, and of no use anywhere else. */
export function sessionOf(token: string): string {
  return createHmac('sha256', token).update('ndt page').digest('base64url');
}

/** The value of our cookie in a Cookie header. */
export function cookieOf(header: string | undefined): string | undefined {
  return header
    ?.split(';')
    .map((pair) => pair.trim())
    .find((pair) => pair.startsWith(`${COOKIE}=`))
    ?.slice(COOKIE.length + 1);
}

/** Asks a person for the token. The form sends it once as `?token=`. */
export function signInPage(wrong: boolean): string {
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>ndt</title>
    <link rel="icon" href="/favicon.svg" type="image/svg+xml">
    <link rel="stylesheet" href="/page.css">
  </head>
  <body>
    <header class="top">
      <div class="brand"><img class="mark" src="/favicon.svg" alt=""><h1>ndt</h1><p class="tagline">edge telemetry</p></div>
    </header>
    <main>
      <form class="card sign-in" action="/" method="get">
        <h2>This page needs a token</h2>
        <p class="note">${wrong ? '<strong>That is not the token.</strong> ' : ''}It is the token of <code>aggregator.http</code> in ndt’s configuration.</p>
        <label for="token">Token</label>
        <input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
        <button>Open</button>
      </form>
    </main>
  </body>
</html>
`;
}
