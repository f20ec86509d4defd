import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { generatedPage } from './generate.ts';

it('page.js is what its sources make (npm run generate)', () => {
  expect(readFileSync(new URL('page.js', import.meta.url), 'utf8')).toBe(generatedPage());
});
