/** The newest inventory of each router, kept beside the records. */
import { type Delivered, HEADER } from '../common/bus.ts';
import { type Inventory, parseInventory } from '../common/inventory.ts';
import { epochMicros, RecordError } from '../common/record.ts';
import type { Db } from '../common/sqlite.ts';

export interface StoredInventory {
  router: string;
  agent: string;
  /** The agent's number of it; the place on the bus where it has none. */
  seq: number;
  /** When it was taken, Unix µs on the agent's clock. */
  at: number;
  body: string;
}

/** @throws RecordError with the path of the wrong field */
export function inventoryIn({ headers, offset, value }: Delivered): StoredInventory {
  const body = value.toString();
  const { router, agent, collected_at } = parseInventory(body);
  const sender = headers[HEADER.agent];
  if (sender !== undefined && sender !== agent) throw new RecordError('agent', `expected "${sender.slice(0, 80)}", who sent it`);
  const seq = Number(headers[HEADER.seq] ?? offset);
  if (!Number.isSafeInteger(seq)) throw new RecordError('', `expected a whole number in ${HEADER.seq}`);
  return { router, agent, seq, at: epochMicros(collected_at), body };
}

/** The table of inventories. Writes run inside the transaction that stores the batch. */
export class Inventories {
  private readonly statements;

  constructor(db: Db) {
    db.exec(`
      CREATE TABLE IF NOT EXISTS inventories (
        router TEXT PRIMARY KEY, agent TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL
      ) WITHOUT ROWID;
    `);
    this.statements = {
      // An agent's numbers tell which of its own is newer, whatever its clock did meanwhile; between two agents only the clocks can.
      put: db.prepare(
        `INSERT INTO inventories (router, agent, seq, at, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
         SET agent = excluded.agent, seq = excluded.seq, at = excluded.at, body = excluded.body
         WHERE CASE WHEN agent = excluded.agent THEN seq < excluded.seq ELSE at < excluded.at END`,
      ),
      of: db.prepare<[string], { body: string }>('SELECT body FROM inventories WHERE router = ?'),
    };
  }

  /** Keeps an inventory unless a newer one is there. */
  take({ router, agent, seq, at, body }: StoredInventory): void {
    this.statements.put.run(router, agent, seq, at, body);
  }

  /** The newest of a router. */
  of(router: string): Inventory | undefined {
    const row = this.statements.of.get(router);
    return row === undefined ? undefined : parseInventory(row.body);
  }
}
