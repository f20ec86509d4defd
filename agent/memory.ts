/**
 * Keeps the agent small: V8 lets the space for new objects grow to 16 MB before it looks through it, which an agent that makes a few
 * kilobytes a second never needs. Imported before anything else, because the space grows while modules load.
 */
import { setFlagsFromString } from 'node:v8';

setFlagsFromString('--semi-space-growth-factor=1');
setFlagsFromString('--max-semi-space-size=1');
