/**
 * One installation at a time, also when several programs are started at once.
 *
 * The lock is the folder `.ndt/lock`, and the names of the files in it are the processes that hold it: ours, and the npm we started
 * (which goes on when we are killed). It is made under another name and renamed, so it is never seen without a holder; renaming onto
 * a folder with files in it fails. A lock is stale when all its holders are gone. Whoever finds that moves it away to a name made of
 * the holders: when two find it at the same time, the second one's move fails instead of taking away the first one's new lock.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SetupError, systemCode } from './error.mjs';

const POLL_MS = 200;

/**
 * Runs `work` while holding the lock; waits for it, however long another one's installation takes.
 *
 * @template T
 * @param {string} state the folder `.ndt`
 * @param {string} purpose what the work does, for the messages: "install its dependencies"
 * @param {(hold: (pid: number) => void) => Promise<T>} work given a function that adds a holder
 * @returns {Promise<T>}
 * @throws {SetupError} 73 where the folder cannot be written
 */
export async function withSetupLock(state, purpose, work) {
  const lock = join(state, 'lock');
  try {
    await acquire(state, lock);
  } catch (error) {
    if (!['EROFS', 'EACCES', 'EPERM', 'ENOSPC', 'EDQUOT', 'ENOTDIR'].includes(systemCode(error))) throw error;
    throw new SetupError(
      73,
      `ndt has to ${purpose}, but cannot write to ${state} (${systemCode(error)}): ` +
        'make the folder writable and run the command again; once that is done, ndt also starts from a read-only copy.',
    );
  }
  try {
    return await work((pid) => writeFileSync(join(lock, holderOf(pid)), ''));
  } finally {
    // Not removed in place: a lock without its holders would be free for others while it is still being removed.
    const released = join(state, `tmp-released-${process.pid}`);
    renameSync(lock, released);
    rmSync(released, { recursive: true, force: true });
  }
}

/**
 * @param {string} state
 * @param {string} lock
 */
async function acquire(state, lock) {
  makeFolder(state);
  const mine = mkdtempSync(join(state, 'lock-'));
  try {
    writeFileSync(join(mine, holderOf(process.pid)), '');
    /** @type {string | undefined} */
    let stale;
    let told = false;
    while (!moved(mine, lock)) {
      if (!existsSync(mine)) return await acquire(state, lock); // someone removed `.ndt`, as our messages may have asked for
      const holders = readHolders(lock);
      if (holders.length > 0 && !holders.some(isRunning)) {
        stale = `stale-${holders.join('-')}`;
        moved(lock, join(state, stale));
        continue;
      }
      if (holders.length > 0 && !told) {
        told = true;
        const processes = holders.map((holder) => holder.split('.')[0]).join(', ');
        process.stderr.write(`ndt: waiting for an installation that is under way (process ${processes})\n`);
      }
      await sleep(POLL_MS);
    }
    removeLeftovers(state, stale);
  } catch (error) {
    rmSync(mine, { recursive: true, force: true });
    throw error;
  }
}

/**
 * Removes what killed installations left behind. Called by the holder of the lock.
 * @param {string} state
 * @param {string | undefined} stale the lock we have just moved away: others who found it stale as well must still find it there
 */
function removeLeftovers(state, stale) {
  for (const name of readdirSync(state)) {
    const path = join(state, name);
    const deadWaiter = name.startsWith('lock-') && readHolders(path).length > 0 && !readHolders(path).some(isRunning);
    if (deadWaiter || name.startsWith('tmp-') || (name.startsWith('stale-') && name !== stale))
      rmSync(path, { recursive: true, force: true });
  }
}

/**
 * Not `recursive`: that reports a read-only file system as ENOENT.
 * @param {string} path
 */
function makeFolder(path) {
  try {
    mkdirSync(path);
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
  }
}

/**
 * Renames a folder; false where the target is taken or the source is gone.
 * @param {string} from
 * @param {string} to
 */
function moved(from, to) {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if (['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(systemCode(error))) return false;
    throw error;
  }
}

/** @param {string} lock */
function readHolders(lock) {
  try {
    return readdirSync(lock).sort();
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/**
 * Process id and start time: the id alone may belong to another process by now.
 * @param {number} pid
 */
function holderOf(pid) {
  return `${pid}.${startTimeOf(pid)}`;
}

/** @param {string} holder */
function isRunning(holder) {
  const [pid = '', startTime = ''] = holder.split('.');
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    if (systemCode(error) === 'ESRCH') return false;
  }
  return startTimeOf(Number(pid)) === startTime;
}

/**
 * Clock ticks from boot to the start of a process (proc(5), stat, field 22), 'gone' where it has ended; '' where there is no /proc.
 * @param {number} pid
 */
function startTimeOf(pid) {
  if (process.platform !== 'linux') return '';
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field, the program's name in parentheses, may hold spaces and parentheses itself.
    const [state = '', ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' ? 'gone' : (fields[18] ?? '');
  } catch {
    return 'gone';
  }
}
