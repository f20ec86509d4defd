/** The page in a real browser, fed by a real API. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { inventoryWith } from '../../test/inventory.ts';
import { PageBackend } from '../../test/page-backend.ts';
import { hasChromium, launchChromium } from '../../test/real/chromium.ts';
import { delivered, deliveredPair } from '../../test/telemetry.ts';
import { tempDir } from '../../test/tempdir.ts';
import { until } from '../../test/until.ts';

let browser: Browser;
beforeAll(async () => {
  if (hasChromium) browser = await launchChromium();
});
afterAll(async () => {
  await browser?.close();
});

/** With routers that report five times a second. */
class Backend extends PageBackend {
  private seq = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(env: { [name: string]: string } = {}) {
    super(tempDir(), env);
    onTestFinished(async () => {
      clearInterval(this.timer);
      await this.close();
    });
  }

  report(atMs = Date.now()): void {
    for (const [i, router] of ['r1', 'r2'].entries()) {
      this.seq += 1;
      this.seen.add('a1', this.seq);
      const rate = 1000 * (i + 1) + (this.seq % 100) * 10;
      this.stage.handle(
        deliveredPair({ router, at: atMs * 1000, rate, length: 700, occupation: 20 * (i + 1) + (this.seq % 9), power: 701 }, this.seq),
      );
    }
  }

  tellLedger(delivered_: number): void {
    const ledger = {
      type: 'ledger',
      agent: 'a1',
      boot: 'b',
      first: 1,
      last: this.seq,
      produced: this.seq,
      delivered: delivered_,
      pending: this.seq - delivered_,
    };
    this.stage.handle([delivered('ndt.notices', JSON.stringify({ ...ledger, dropped: {}, rejected: {}, at: Date.now() }))]);
  }

  tellInventory(): void {
    this.stage.handle([delivered('ndt.inventory', JSON.stringify(inventoryWith({})))]);
  }

  skipNumber(): void {
    this.seq += 1;
  }

  get last(): number {
    return this.seq;
  }

  /** Ten minutes of history, and then five records a second. */
  feed(): void {
    for (let age = 600; age > 0; age -= 1) this.report(Date.now() - age * 1000);
    this.timer = setInterval(() => this.report(), 200);
  }
}

async function openPage(
  url: string,
  options: { width?: number; colorScheme?: 'light' | 'dark' } = {},
): Promise<{ page: Page; complaints: string[] }> {
  const { width = 1280, colorScheme = 'light' } = options;
  const context = await browser.newContext({ viewport: { width, height: 844 }, colorScheme });
  onTestFinished(() => context.close());
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(`${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(`exception: ${error.message}`));
  page.on('requestfailed', (request) => {
    // A page that asks anew gives up what it asked before.
    if (request.failure()?.errorText !== 'net::ERR_ABORTED') complaints.push(`request: ${request.url()} ${request.failure()?.errorText}`);
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(new URL(url).origin)) complaints.push(`foreign: ${request.url()}`);
  });
  await page.goto(url);
  return { page, complaints };
}

const textOf = async (page: Page, selector: string): Promise<string> => (await page.textContent(selector))?.trim() ?? '';
const cell = (router: string, label: string) => `tr:has(button:text-is("${router}")) td[data-label="${label}"] .value`;

/** Texts whose contrast against what is behind them is below 4.5 (WCAG 2.2 AA), or that are smaller than 11 px. */
function unreadable(): string[] {
  const parse = (colour: string) => {
    const [r = 0, g = 0, b = 0, a = 1] = (colour.match(/[\d.]+/g) ?? []).map(Number);
    return { rgb: [r, g, b], a };
  };
  const luminance = (rgb: number[]) => {
    const [r = 0, g = 0, b = 0] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found: string[] = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (parent === null || (node.textContent ?? '').trim() === '' || !parent.checkVisibility()) continue;
    const { color, fontSize } = getComputedStyle(parent);
    let behind: Element | null = parent;
    while (behind !== null && parse(getComputedStyle(behind).backgroundColor).a === 0) behind = behind.parentElement;
    const ground = behind === null ? [255, 255, 255] : parse(getComputedStyle(behind).backgroundColor).rgb;
    const [light = 1, dark = 0] = [luminance(parse(color).rgb), luminance(ground)].sort((x, y) => y - x);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < 4.5 || Number.parseFloat(fontSize) < 11)
      found.push(`"${node.textContent?.trim()}" contrast ${contrast.toFixed(2)} size ${fontSize}`);
  }
  return found;
}

/** Elements that reach beyond the window, apart from what is only for screen readers or scrolls by itself. */
function beyondWindow(): string[] {
  const found = document.documentElement.scrollWidth > innerWidth ? [`the page is ${document.documentElement.scrollWidth} px wide`] : [];
  for (const element of document.querySelectorAll('main *, header *, footer *')) {
    const { left, right, width } = element.getBoundingClientRect();
    if (width <= 1 || !element.checkVisibility() || element.closest('thead') !== null) continue;
    if (left < -0.5 || right > innerWidth + 0.5) found.push(`${element.tagName}.${element.className} from ${left} to ${right}`);
  }
  for (const element of document.querySelectorAll('.scroll'))
    if (element.scrollWidth > element.clientWidth) found.push('a table has to be scrolled sideways');
  return found;
}

/** How many pixels of each chart differ from its ground. */
function drawnPixels(): number[] {
  return [...document.querySelectorAll('canvas')].map((canvas) => {
    // A copy: reading the chart's own canvas would make it a slow one.
    const copy = document.createElement('canvas');
    Object.assign(copy, { width: canvas.width, height: canvas.height });
    const context = copy.getContext('2d', { willReadFrequently: true });
    context?.drawImage(canvas, 0, 0);
    const { data } = context?.getImageData(0, 0, canvas.width, canvas.height) ?? { data: [] };
    let drawn = 0;
    for (let i = 3; i < data.length; i += 4) if ((data[i] ?? 0) > 120) drawn += 1;
    return drawn;
  });
}

describe.skipIf(!hasChromium)("the page in a browser (needs Debian's chromium)", { timeout: 90_000 }, () => {
  it.each([
    [1280, 'light'],
    [1280, 'dark'],
    [390, 'light'],
    [390, 'dark'],
  ] as const)('shows figures that move at %i px, %s, readable and without a complaint', async (width, colorScheme) => {
    const backend = new Backend();
    backend.feed();
    backend.tellLedger(backend.last);
    backend.tellInventory();
    await backend.start();
    const { page, complaints } = await openPage(backend.url, { width, colorScheme });
    await until(async () => (await textOf(page, '#connection-text')) === 'live', 'the page to be live');
    for (const label of ['Packet rate', 'Occupation']) {
      for (const router of ['r1', 'r2']) {
        const first = await textOf(page, cell(router, label));
        await until(async () => (await textOf(page, cell(router, label))) !== first, `${label} of ${router} to move from ${first}`);
      }
    }
    expect(await textOf(page, cell('r1', 'Average length'))).toBe('700');
    expect(await textOf(page, cell('r1', 'Power'))).toBe('701.00');
    expect(await textOf(page, cell('r1', 'Counter to inference'))).toBe('8.0');
    expect(await textOf(page, '#age')).toMatch(/^data \d\.\d s old$/);
    // Ten minutes of history are on the charts, and the chart's own figure moves as well.
    await until(async () => (await page.evaluate(drawnPixels)).every((drawn) => drawn > 300), 'three charts to be drawn');
    expect(await page.evaluate(drawnPixels)).toHaveLength(3);
    const rate = '[data-metric="rate"] .now .value';
    const before = await textOf(page, rate);
    await until(async () => (await textOf(page, rate)) !== before, 'the chart to move');
    await until(async () => (await textOf(page, '#ledger-rows')).includes('Nothing missing'), 'the ledger');
    await until(async () => (await textOf(page, '#latency')).includes('Read to inferred'), 'the latencies');
    expect(await textOf(page, '#history-machine')).toContain('PC Engines apu2');

    expect(await page.evaluate(beyondWindow)).toEqual([]);
    expect(await page.evaluate(unreadable)).toEqual([]);
    const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g)?.map(Number) ?? []);
    expect(ground.every((channel) => (colorScheme === 'light' ? channel > 200 : channel < 60))).toBe(true);
    expect(complaints).toEqual([]);
  });

  it('says what to do before the first router reports, and begins by itself', async () => {
    const backend = new Backend();
    await backend.start();
    const { page, complaints } = await openPage(backend.url);
    await until(() => page.isVisible('#empty'), 'the empty page');
    expect(await textOf(page, '#empty')).toContain('npm run -s agent -- run --config FILE');
    expect(await page.isVisible('#routers')).toBe(false);
    expect(await page.evaluate(unreadable)).toEqual([]);
    backend.feed();
    await until(() => page.isVisible('#routers'), 'the routers');
    expect(await page.isVisible('#empty')).toBe(false);
    expect(complaints).toEqual([]);
  });

  it('can be used with the keyboard alone, and keeps the selected router in its address', async () => {
    const backend = new Backend();
    backend.feed();
    await backend.start();
    const { page } = await openPage(backend.url);
    await until(async () => (await textOf(page, '#history-router')) === 'r1', 'the first router to be selected');
    await page.locator('button:text-is("r2")').focus();
    await page.keyboard.press('Enter');
    expect(await textOf(page, '#history-router')).toBe('r2');
    expect(await page.getAttribute('button:text-is("r2")', 'aria-pressed')).toBe('true');
    expect(await page.getAttribute('button:text-is("r1")', 'aria-pressed')).toBe('false');
    // The page also asks by itself every now and then, for the range that it has.
    const asked = page.waitForRequest((request) => {
      const { pathname, searchParams: range } = new URL(request.url());
      const seconds = Number(range.get('to')) - Number(range.get('from'));
      return pathname.endsWith('/r2/series') && range.get('metric') === 'power' && Math.abs(seconds - 3660) < 0.5;
    });
    await page.locator('button:text-is("1 h")').focus();
    await page.keyboard.press('Space');
    await asked;
    await page.reload();
    await until(async () => (await textOf(page, '#history-router')) === 'r2', 'the selection to be there again');
    const roles = await page.evaluate(() => [...document.querySelectorAll('header, main, footer, nav')].map(({ tagName }) => tagName));
    expect(roles).toEqual(['HEADER', 'MAIN', 'FOOTER', 'NAV']);
  });

  it('shows figures of a moment that is pointed at', async () => {
    const backend = new Backend();
    backend.feed();
    await backend.start();
    const { page } = await openPage(backend.url);
    await until(async () => (await page.evaluate(drawnPixels)).every((drawn) => drawn > 300), 'the charts');
    expect(await textOf(page, '[data-metric="power"] .when')).toBe('');
    await page.hover('[data-metric="rate"] .u-over');
    // All three follow one cursor.
    for (const metric of ['rate', 'occupation', 'power'])
      await until(async () => /^\d\d:\d\d:\d\d$/.test(await textOf(page, `[data-metric="${metric}"] .when`)), `the time on ${metric}`);
    await page.mouse.move(0, 0);
    await until(async () => (await textOf(page, '[data-metric="power"] .when')) === '', 'the present again');
  });

  it('tells what is missing, and when nothing is any more', async () => {
    const backend = new Backend();
    backend.feed();
    await backend.start();
    const { page } = await openPage(backend.url);
    await until(async () => (await textOf(page, '#ledger-rows')).includes('No ledger yet'), 'an agent without a ledger');
    backend.skipNumber();
    backend.report();
    backend.tellLedger(backend.last);
    await until(async () => (await textOf(page, '#ledger-rows')).includes('1 missing'), 'the missing record', 15_000);
    expect(await textOf(page, '#ledger-rows td[data-label="Difference"]')).toBe('1');
    backend.tellLedger(backend.last - 1);
    await until(async () => (await textOf(page, '#ledger-rows')).includes('Nothing missing'), 'that the record only waits', 15_000);
  });

  it('says since when it has been offline, and goes on when the aggregator is back', async () => {
    const backend = new Backend();
    backend.feed();
    await backend.start();
    const { page } = await openPage(backend.url);
    await until(async () => (await textOf(page, '#connection-text')) === 'live', 'the page to be live');
    await until(() => page.isVisible('#routers'), 'the routers');
    const port = Number(new URL(backend.url).port);
    await backend.stop();
    await until(async () => /^offline since \d\d:\d\d:\d\d$/.test(await textOf(page, '#connection-text')), 'the page to be offline');
    expect(await textOf(page, '#offline')).toContain('has not answered since');
    expect(await page.evaluate(unreadable)).toEqual([]);
    const stood = await textOf(page, cell('r1', 'Packet rate'));
    await backend.start(port);
    await until(async () => (await textOf(page, '#connection-text')) === 'live', 'the page to be live again');
    expect(await page.isVisible('#offline')).toBe(false);
    await until(async () => (await textOf(page, cell('r1', 'Packet rate'))) !== stood, 'figures to move again');
  });

  it('is opened with the token once, and asks for it without', async () => {
    const backend = new Backend({ NDT_AGGREGATOR_HTTP_TOKEN: 'correct horse' });
    backend.feed();
    await backend.start();
    const { page } = await openPage(backend.url);
    await page.fill('input[name=token]', 'wrong horse');
    await page.click('button');
    expect(await textOf(page, 'form')).toContain('That is not the token.');
    expect(await page.evaluate(unreadable)).toEqual([]);
    await page.fill('input[name=token]', 'correct horse');
    await page.click('button');
    await until(async () => (await textOf(page, '#connection-text')) === 'live', 'the page to be live');
    expect(page.url()).not.toContain('horse');
    await until(() => page.isVisible('#routers'), 'the routers');
    await page.reload();
    await until(async () => (await textOf(page, '#connection-text')) === 'live', 'the page without being asked again');
  });
});
