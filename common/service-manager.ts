/**
 * What a service manager (systemd) is told: that the program is ready, reloads or stops, what it is doing now, and that it gets on.
 *
 * Node has no datagram sockets of the Unix kind, so `systemd-notify` speaks for us. It is part of every systemd, takes 4 ms, and ends
 * only when the manager has read the message, so none is lost or overtaken; in return the unit needs `NotifyAccess=all`.
 */
import type { ChildProcess } from 'node:child_process';
import { codeOf } from './errors.ts';

/** Often enough for a status that is read by people, and rare enough to cost nothing. */
const TELL_MS = 20_000;
const GIVE_UP_MS = 10_000;

/** What it asks of the service it speaks for. */
export interface Observed {
  /** What the program is doing now, in a sentence. */
  status(): string;
  /** What does not get on, in words; empty when all is well. The watchdog is fed only then. */
  stuck(): string[];
}

export interface ManagerOptions {
  env?: NodeJS.ProcessEnv;
  pid?: number;
  /** Told when the manager could not be, and of what is stuck. */
  onFault: (message: string) => void;
}

export class ServiceManager {
  private readonly socket: string;
  private readonly path: string;
  private readonly onFault: (message: string) => void;
  /** Of the watchdog [ms]; undefined where there is none. */
  private readonly watchdogMs: number | undefined;
  private last: Promise<void> = Promise.resolve();
  private waiting = 0;
  private told = '';
  private timer: NodeJS.Timeout | undefined;
  private broken = false;

  private constructor(socket: string, env: NodeJS.ProcessEnv, pid: number, onFault: (message: string) => void) {
    this.socket = socket;
    this.path = env.PATH ?? '/usr/bin:/bin';
    this.onFault = onFault;
    const micros = Number(env.WATCHDOG_USEC ?? 0);
    // A watchdog meant for another process (a wrapper that started us) is none of ours.
    const ours = env.WATCHDOG_PID === undefined || Number(env.WATCHDOG_PID) === pid;
    this.watchdogMs = ours && Number.isFinite(micros) && micros > 0 ? micros / 1000 : undefined;
  }

  /** The manager that started this process; undefined where none wants to hear anything. */
  static ofProcess({ env = process.env, pid = process.pid, onFault }: ManagerOptions): ServiceManager | undefined {
    const socket = env.NOTIFY_SOCKET;
    return socket === undefined || socket === '' ? undefined : new ServiceManager(socket, env, pid, onFault);
  }

  /** The program is ready; from now on the manager hears how it goes. */
  async ready(observed: Observed): Promise<void> {
    this.told = observed.status();
    const { watchdogMs } = this;
    const every = Math.min(TELL_MS, watchdogMs === undefined ? TELL_MS : watchdogMs / 3);
    this.timer = setInterval(() => this.tell(observed), every);
    this.timer.unref();
    await this.send(['READY=1', `STATUS=${this.told}`, ...(watchdogMs === undefined ? [] : ['WATCHDOG=1'])]);
  }

  /** A reload began; `reloaded` says that it is over. */
  async reloading(): Promise<void> {
    await this.send(['RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`, 'STATUS=goes over to a new configuration']);
  }

  async reloaded(status: string): Promise<void> {
    this.told = status;
    await this.send(['READY=1', `STATUS=${status}`]);
  }

  async stopping(): Promise<void> {
    clearInterval(this.timer);
    await this.send(['STOPPING=1', 'STATUS=finishes what it has in hand']);
  }

  private tell(observed: Observed): void {
    // The manager did not take the last message yet: another one behind it would tell it nothing new.
    if (this.waiting > 0) return;
    const stuck = observed.stuck();
    const status = stuck[0] ?? observed.status();
    const fields: string[] = [];
    if (status !== this.told) fields.push(`STATUS=${status}`);
    if (stuck.length === 0 && this.watchdogMs !== undefined) fields.push('WATCHDOG=1');
    for (const what of stuck) this.onFault(`${what}${this.watchdogMs === undefined ? '' : ': the service manager’s watchdog is not fed'}`);
    this.told = status;
    if (fields.length > 0) void this.send(fields);
  }

  /** One after the other: `READY` must not overtake `RELOADING`. Never rejects. */
  private send(fields: string[]): Promise<void> {
    this.waiting += 1;
    this.last = this.last
      .then(() => this.notify(fields.map((field) => field.replaceAll('\n', ' '))))
      .then(
        () => {
          this.broken = false;
        },
        (error: unknown) => {
          if (!this.broken) this.onFault(`the service manager cannot be told how it goes: ${whyNot(error)}`);
          this.broken = true;
        },
      )
      .finally(() => {
        this.waiting -= 1;
      });
    return this.last;
  }

  private async notify(fields: string[]): Promise<void> {
    // Only here, and not imported: most starts have no manager, and this keeps its memory.
    const { execFile } = process.getBuiltinModule('node:child_process');
    await new Promise<void>((resolve, reject) => {
      const child: ChildProcess = execFile(
        'systemd-notify',
        fields,
        { env: { NOTIFY_SOCKET: this.socket, PATH: this.path }, timeout: GIVE_UP_MS, windowsHide: true },
        (error, _stdout, stderr) => (error === null ? resolve() : reject(stderr.trim() === '' ? error : new Error(stderr.trim()))),
      );
      child.stdin?.destroy();
    });
  }
}

function whyNot(error: unknown): string {
  if (codeOf(error) === 'ENOENT') return 'there is no systemd-notify on PATH: install systemd, or start the program without NOTIFY_SOCKET';
  return error instanceof Error ? error.message : String(error);
}
