/** Buffers for tests to look after: made by the outbox itself, in the folder where an agent would have them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect } from 'vitest';
import { Outbox } from '../agent/outbox.ts';
import { decodeBatch } from '../common/batch.ts';
import { runOnce } from './programs.ts';
import { tempDir } from './tempdir.ts';

export interface MadeBuffer {
  config: string;
  file: string;
  /** The first number; the others follow. */
  first: number;
}

/** A configuration of an agent `edge` in `dir`, which has nothing to do with any other on this machine. */
export function writeConfig(dir: string, settings: { [section: string]: unknown } = {}): string {
  const config = join(dir, 'ndt.json');
  const { agent, ...rest } = settings;
  const base = {
    data_dir: 'data',
    mqtt: { url: 'mqtt://127.0.0.1:9', timeout: 2 },
    routers: [{ r1: { interfaces: ['lo'] } }],
    agent: { id: 'edge', http: { port: 0 }, ...(agent as object | undefined) },
  };
  writeFileSync(config, JSON.stringify({ ...base, ...rest }), { mode: 0o600 });
  return config;
}

/** The body of record `n`; all of them are different, and some have what JSON has to escape. */
export function bodyOf(n: number, bytes = 0): string {
  return `{"node_exporter":"r1:9100","epoch_timestamp":"${1_777_000_000 + n}.250","n":${n},"text":"ünïcode \\"quoted\\"${'.'.repeat(bytes)}"}`;
}

/** An outbox with so many records waiting, closed in order. `change` runs before that. */
export function makeBuffer(
  dir: string,
  count: number,
  {
    bytes = 0,
    settings = {},
    change = () => {},
    nowMs = Date.now,
  }: {
    bytes?: number;
    settings?: { [section: string]: unknown };
    change?: (outbox: Outbox, first: number) => void;
    nowMs?: () => number;
  } = {},
): MadeBuffer {
  const config = writeConfig(dir, settings);
  const file = join(dir, 'data/agent/outbox.db');
  mkdirSync(join(dir, 'data/agent'), { recursive: true });
  const outbox = new Outbox({ file, agentId: 'edge', boot: 'b1', noticeTopic: 'ndt.notices', maxBytes: 2 ** 30, maxAgeMs: 0, nowMs });
  const { first } = outbox.ledger();
  for (let n = 0; n < count; n += 1000) {
    outbox.append(Array.from({ length: Math.min(1000, count - n) }, (_, i) => ({ topic: 'TP_r1', key: 'r1', body: bodyOf(n + i, bytes) })));
  }
  change(outbox, first);
  outbox.close();
  return { config, file, first };
}

/** What stands in the file, as SQLite has it. */
export function inFile(file: string): {
  seqs: number[];
  notices: Array<{ from: number; to: number; count: number; reason: string; agent: string }>;
} {
  const db = new Database(file, { readonly: true });
  try {
    return {
      seqs: (db.prepare('SELECT seq FROM records ORDER BY seq').all() as Array<{ seq: number }>).map(({ seq }) => seq),
      notices: (db.prepare('SELECT body FROM notices ORDER BY id').all() as Array<{ body: string }>).map(({ body }) => JSON.parse(body)),
    };
  } finally {
    db.close();
  }
}

/** Runs `buffer …` with a configuration, to its end. */
export const buffer = (config: string, ...args: string[]) => runOnce('agent', ['buffer', ...args, '--config', config]);

export const ledgerOf = (config: string) => JSON.parse(buffer(config, 'ledger', '--json').stdout) as { [name: string]: unknown };

/** The messages of exported lines. */
export function messagesIn(text: string) {
  return decodeBatch(Buffer.from(text), { maxBytes: 2 ** 30, maxLines: 1e9 }).map((line) => {
    if (!line.ok) throw new Error(line.reason);
    return { ...line.message, value: line.message.value.toString(), seq: Number(line.message.headers['ndt-seq']) };
  });
}

/** A file with that in it; gone with the test. */
export function written(content: string | Buffer): string {
  const file = join(tempDir(), 'content');
  writeFileSync(file, content);
  return file;
}

/** Changes a file behind the outbox's back. */
export function change(file: string, sql: string): void {
  const db = new Database(file);
  db.exec(sql);
  db.pragma('wal_checkpoint(TRUNCATE)');
  db.close();
}

/** Opens and closes it as an agent does; returns what that says. */
export function reopened(file: string) {
  const outbox = new Outbox({ file, agentId: 'edge', boot: 'b9', noticeTopic: 'ndt.notices', maxBytes: 2 ** 30, maxAgeMs: 0 });
  try {
    expect(outbox.count()).toBe(outbox.ledger().pending);
    return outbox.stats();
  } finally {
    outbox.close();
  }
}
