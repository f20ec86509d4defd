/** Flows for the stages that come behind the normaliser. */
import { at, LEAVES, type LeafPath, type LeafValue } from '../aggregator/netflow/leaves.ts';
import { type Fields, type Flow, normalise } from '../aggregator/netflow/normalise.ts';

/** A TCP flow of the seed's kind from 10.0.0.1:1000 to 10.0.0.2:80, and what is said otherwise. */
export function tcpFlow(fields: Fields = {}): Flow {
  const all = {
    SamplerAddress: '192.0.2.1',
    SrcAddr: '10.0.0.1',
    DstAddr: '10.0.0.2',
    SrcPort: 1000,
    DstPort: 80,
    Proto: 6,
    Etype: 2048,
    ...fields,
  };
  const flow = normalise(all, 'camel', {}, (leaf) => {
    throw new Error(`${leaf} is left out`);
  });
  if (typeof flow === 'string') throw new Error(flow);
  return flow;
}

/** The same the other way round. */
export function answer(fields: Fields = {}): Flow {
  return tcpFlow({ SrcAddr: '10.0.0.2', DstAddr: '10.0.0.1', SrcPort: 80, DstPort: 1000, ...fields });
}

export function leafOf(flow: Flow | undefined, path: LeafPath): LeafValue | undefined {
  return flow?.values[at(path)];
}

/** Everything a flow has, by path. */
export function leavesOf(flow: Flow | undefined): Partial<Record<LeafPath, LeafValue>> {
  return Object.fromEntries(LEAVES.flatMap(({ path }) => (leafOf(flow, path) === undefined ? [] : [[path, leafOf(flow, path)]])));
}
