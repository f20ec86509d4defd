/** Everything that is done to the outbox. */
import { rows as clock } from './clock.ts';
import { rows as corruption } from './corruption.ts';
import { rows as disk } from './disk.ts';
import { rows as kill } from './kill.ts';
import { rows as network } from './network.ts';
import { rows as powerCut } from './power-cut.ts';
import type { Row } from './report.ts';
import { rows as uplink } from './uplink.ts';

export const MATRIX: readonly Row[] = [...kill, ...powerCut, ...disk, ...corruption, ...clock, ...uplink, ...network];
