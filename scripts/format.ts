/** `npm run format [-- FILE…]`: formats, and mends what lint can mend safely. */
import { fileURLToPath } from 'node:url';
import { runChild } from './child.mjs';

const biome = fileURLToPath(new URL('../node_modules/@biomejs/biome/bin/biome', import.meta.url));
process.exitCode = await runChild(process.execPath, [biome, 'check', '--write', ...process.argv.slice(2)]);
