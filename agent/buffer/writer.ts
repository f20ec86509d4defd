/**
 * Changing a buffer from outside of the agent: a short transaction at a time, in which the account is read, changed and written with the
 * records that it counts. A running agent notices that and takes it over (`absorb` in the outbox).
 *
 * A buffer that nobody has in use is first opened and closed as an agent would do it, so that whatever ended the last one is put in order
 * before anything is changed.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { codeOf, messageOf, NdtError } from '../../common/errors.ts';
import { lockDir } from '../../common/sqlite.ts';
import { type Account, copyOf, VERSIONS_AHEAD } from '../outbox/account.ts';
import { OutboxDb } from '../outbox/database.ts';
import { Outbox } from '../outbox.ts';
import { isHeld } from './running.ts';
import type { Target } from './target.ts';

const ATTEMPTS = 40;

/** What is written with the change. */
export interface Change {
  db: OutboxDb;
  /** To be changed: it is written at the end. */
  account: Account;
}

export class BufferWriter {
  /** Whether an agent has the file in use. */
  readonly running: boolean;
  private readonly target: Target;
  private readonly agentId: string;
  private readonly unlock: () => void;
  private readonly db: OutboxDb;

  /**
   * @param whileRunning whether it can be done while the agent runs
   * @throws NdtError UNAVAILABLE where the agent runs and must not, CANNOT_CREATE where the file cannot be written to
   */
  constructor(target: Target, agentId: string, whileRunning: boolean) {
    this.target = target;
    this.agentId = agentId;
    const { file, dir } = target;
    if (!existsSync(file))
      throw new NdtError('UNAVAILABLE', `there is no buffer at ${file}: name another with --file, or the configuration with --config`);
    this.running = isHeld(dir);
    if (this.running && !whileRunning) throw agentRuns(dir);
    becomeOwner(file);
    this.unlock = this.running ? () => {} : lockOf(dir);
    try {
      if (!this.running) this.putInOrder();
      this.db = new OutboxDb(file, target.loaded.config.agent.buffer.max_bytes);
    } catch (error) {
      this.unlock();
      throw unwritable(file, error);
    }
  }

  /**
   * One transaction. A running agent waits for it, so it has to be a matter of milliseconds.
   * @throws NdtError IO where the disk does not take it; nothing of it is done then
   */
  change<T>(work: (change: Change) => T): T {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return this.changeOnce(work);
      } catch (error) {
        // The agent waits for its disk: each attempt waits a quarter of a second for it.
        if (codeOf(error) !== 'SQLITE_BUSY' || attempt === ATTEMPTS) throw unwritable(this.db.file, error);
      }
    }
  }

  close(): void {
    this.db.close();
    try {
      if (!this.running) this.putInOrder();
    } finally {
      this.unlock();
    }
  }

  private changeOnce<T>(work: (change: Change) => T): T {
    const { db } = this;
    const transaction = () => {
      db.load();
      if (db.persisted === undefined) throw new NdtError('DATA', `${db.file} has no account yet: start the agent once`);
      const account = copyOf(db.persisted);
      const result = work({ db, account });
      account.version += VERSIONS_AHEAD;
      db.save(account, inMemory(db), db.ownTime());
      return result;
    };
    if (!this.running) return db.write(true, transaction);
    // Beside an agent nothing may wait for the disk while it holds the file: neither this, nor emptying the log, which is the agent’s to do. A
    // power cut takes all of the transaction back, or nothing.
    db.db.pragma('synchronous = NORMAL');
    return db.db.transaction(transaction).immediate();
  }

  private putInOrder(): void {
    const { file, loaded } = this.target;
    const { buffer } = loaded.config.agent;
    const problems: string[] = [];
    const outbox = new Outbox({
      file,
      agentId: this.agentId,
      boot: randomUUID(),
      noticeTopic: loaded.config.topics.notices,
      maxBytes: buffer.max_bytes,
      maxAgeMs: 0,
      report: ({ level, message }) => {
        if (level !== 'info') problems.push(message);
      },
    });
    const { cause } = outbox.whereabouts();
    outbox.close();
    for (const problem of problems) process.stderr.write(`ndt-agent: ${problem}\n`);
    if (cause !== undefined) throw new NdtError('IO', `${file} cannot be written to (${cause}): see what the doctor says of the disk`);
  }
}

/** Records that are in the running agent's memory only, by its last commit. */
function inMemory(db: OutboxDb): number {
  return db.db.prepare<[], { value: number }>("SELECT value FROM meta WHERE name = 'memory'").get()?.value ?? 0;
}

function agentRuns(dir: string): NdtError {
  return new NdtError('UNAVAILABLE', `the agent runs on ${dir}: stop it first (systemctl stop ndt-agent), run this, and start it again`);
}

/**
 * Whatever is made beside the file must be the agent’s own, and a mark that is another user’s is not believed: so this process becomes the
 * user whose file it is, for the rest of its life.
 */
function becomeOwner(file: string): void {
  const { uid, gid } = statSync(file);
  const own = process.getuid?.();
  if (own === undefined || own === uid) return;
  if (own !== 0) throw new NdtError('CANNOT_CREATE', `${file} belongs to another user (uid ${uid}): run this as that user, or as root`);
  process.setgroups?.([gid]);
  process.setgid?.(gid);
  process.setuid?.(uid);
}

function lockOf(dir: string): () => void {
  try {
    return lockDir(dir, 'agent');
  } catch (error) {
    if (error instanceof NdtError && error.code === 'UNAVAILABLE') throw agentRuns(dir);
    throw error;
  }
}

function unwritable(file: string, error: unknown): unknown {
  const code = codeOf(error) ?? '';
  if (error instanceof NdtError || !(code.startsWith('SQLITE_') || (error instanceof Error && error.name === 'DamageError'))) return error;
  if (code === 'SQLITE_FULL')
    return new NdtError('IO', `${file} is full (agent.buffer.max_bytes), or its disk is: nothing of this step was done`, { cause: error });
  if (code === 'SQLITE_BUSY')
    return new NdtError('UNAVAILABLE', `${file} is in use by another program at the moment: try again`, { cause: error });
  if (code.startsWith('SQLITE_READONLY') || code.startsWith('SQLITE_CANTOPEN') || code.startsWith('SQLITE_IOERR')) {
    return new NdtError(
      'CANNOT_CREATE',
      `${file} cannot be written to (${messageOf(error)}): run this as the agent’s user, and see what the doctor says of the disk`,
      {
        cause: error,
      },
    );
  }
  return new NdtError('DATA', `${file} is damaged (${messageOf(error)}): start the agent, which saves what can be read`, { cause: error });
}
