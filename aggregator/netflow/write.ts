/** A flow as the JSON of topic `netflow-output`: `{"netflow-v9:netflow": …}`, leaves in the order of the table, empty containers left out. */
import { LEAVES, type LeafValue, PACKET_AT, RECORD_AT } from './leaves.ts';

interface Piece {
  readonly key: string;
  readonly position: number;
  readonly encoding: 'number' | 'wide' | 'text';
}

/** The leaves of a record that stand in it directly, and those of each container, both in the order of the table. */
const RECORD = piecesFrom(RECORD_AT, LEAVES.length);
const OWN = RECORD.get('') ?? [];
const CONTAINERS = [...RECORD].filter(([name]) => name !== '').map(([name, pieces]) => ({ key: `"${name}":`, pieces }));
const COLLECTOR = piecesFrom(0, PACKET_AT).get('') ?? [];
const PACKET = piecesFrom(PACKET_AT, RECORD_AT).get('') ?? [];

function piecesFrom(from: number, to: number): Map<string, Piece[]> {
  const pieces = new Map<string, Piece[]>();
  for (const [i, { path, encoding }] of LEAVES.slice(from, to).entries()) {
    const [name = '', container = ''] = path.split('/').reverse();
    pieces.set(container, [...(pieces.get(container) ?? []), { key: `"${name}":`, position: from + i, encoding }]);
  }
  return pieces;
}

/**
 * @param values by position in `LEAVES`; texts among them need no escaping (they are names, addresses and digits)
 * @param rfc7951 64-bit integers and decimals as strings (RFC 7951, section 6.1) instead of numbers
 */
export function writeFlow(values: ReadonlyArray<LeafValue | undefined>, rfc7951: boolean): string {
  const collector = members(values, COLLECTOR, rfc7951);
  const packet = members(values, PACKET, rfc7951);
  let record = members(values, OWN, rfc7951);
  for (const { key, pieces } of CONTAINERS) {
    const inside = members(values, pieces, rfc7951);
    if (inside !== '') record += `${record === '' ? '' : ','}${key}{${inside}}`;
  }
  return (
    `{"netflow-v9:netflow":{${collector === '' ? '' : `"collector-goflow2":{${collector}},`}"export-packet":{` +
    `${packet}${packet === '' ? '' : ','}"flow-data-record":[{${record}}]}}}`
  );
}

function members(values: ReadonlyArray<LeafValue | undefined>, pieces: readonly Piece[], rfc7951: boolean): string {
  let text = '';
  for (const { key, position, encoding } of pieces) {
    const value = values[position];
    if (value === undefined) continue;
    if (text !== '') text += ',';
    text += encoding === 'text' || (encoding === 'wide' && rfc7951) ? `${key}"${value}"` : key + value;
  }
  return text;
}
