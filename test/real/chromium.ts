/** Debian's Chromium, without a window, for tests of the page. */
import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

const PROGRAM = '/usr/bin/chromium';

/** Whether it is installed; tests that need it name its package: "needs Debian's chromium". */
export const hasChromium: boolean = existsSync(PROGRAM);

/** Starts it; the caller closes it. It asks nobody for anything: no updates, no sync, no network of its own. */
export async function launchChromium(): Promise<Browser> {
  return await chromium.launch({
    executablePath: PROGRAM,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}
