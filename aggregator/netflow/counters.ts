/** What became of the flows, as a plain object that can be printed as it is. */
import { SHAPES, type Shape } from './flow.ts';
import type { LeafPath } from './leaves.ts';

export interface NetflowCounters {
  /** Flows that were read, of whatever quality; those of each shape. `in` = `normalised` + `bad`. */
  in: number;
  shapes: Record<Shape, number>;
  /** Flows that became a record, and what could not: bad JSON, bad protobuf, a flow without both addresses. */
  normalised: number;
  bad: number;
  /** Records written. Less than `normalised` where flows are summed up or merged. */
  out: number;
  /** How often a leaf was left out because its value was one the leaf cannot have. */
  leftOut: Partial<Record<LeafPath, number>>;
  /** Flows that came after their window had been written: each goes out as a further record of that window. */
  late: number;
  /** Windows written before their end because `maxFlows` was reached. */
  early: number;
  /** Pairs of flows merged into one record. */
  merged: number;
}

export function newCounters(): NetflowCounters {
  const shapes = Object.fromEntries(SHAPES.map((shape) => [shape, 0])) as Record<Shape, number>;
  return { in: 0, shapes, normalised: 0, bad: 0, out: 0, leftOut: {}, late: 0, early: 0, merged: 0 };
}

export function countLeftOut(counters: NetflowCounters, leaf: LeafPath): void {
  counters.leftOut[leaf] = (counters.leftOut[leaf] ?? 0) + 1;
}
