/** A service manager's end of the notification socket: real datagrams, which Node cannot receive itself. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { findProgram } from '../../scripts/programs.ts';
import { until } from '../until.ts';

export const hasNotify: boolean = findProgram('python3') !== undefined && findProgram('systemd-notify') !== undefined;
export const NEEDS_NOTIFY = hasNotify ? '' : ' (skipped: needs python3 and systemd-notify)';

/** Prints each datagram as a JSON string; closes what comes with it, which is what a barrier waits for. */
const RECEIVER = `
import array, json, os, socket, sys
name = sys.argv[1]
server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
server.bind('\\0' + name[1:] if name.startswith('@') else name)
print('"listening"', flush=True)
while True:
    data, ancillary, _, _ = server.recvmsg(65536, socket.CMSG_SPACE(64))
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds = array.array('i')
            fds.frombytes(content)
            for fd in fds: os.close(fd)
    print(json.dumps(data.decode()), flush=True)
`;

export class NotifySocket {
  /** What came, in order, without barriers: each message's fields. */
  readonly messages: Array<{ [field: string]: string }> = [];
  readonly name: string;
  private readonly child: ChildProcess;
  private readonly ended: Promise<unknown>;
  private listening = false;

  /** @param name a path, or `@NAME` for an abstract socket */
  private constructor(name: string) {
    this.name = name;
    this.child = spawn('python3', ['-c', RECEIVER, name], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.ended = new Promise((resolve) => this.child.once('close', resolve));
    if (this.child.stdout === null) throw new Error('the receiver has no output');
    createInterface(this.child.stdout).on('line', (line) => {
      const text = JSON.parse(line) as string;
      if (text === 'listening') this.listening = true;
      else if (text !== 'BARRIER=1') this.messages.push(fieldsOf(text));
    });
  }

  static async open(name: string): Promise<NotifySocket> {
    const socket = new NotifySocket(name);
    await until(() => socket.listening, 'the notification socket to be there');
    return socket;
  }

  /** Waits for a message with these fields, as values or patterns. */
  async hears(fields: { [field: string]: string | RegExp }, timeoutMs?: number): Promise<{ [field: string]: string }> {
    const matching = (message: { [field: string]: string }) =>
      Object.entries(fields).every(([name, wanted]) => {
        const value = message[name];
        return value !== undefined && (typeof wanted === 'string' ? value === wanted : wanted.test(value));
      });
    return await until(() => this.messages.find(matching), `the service manager to hear ${JSON.stringify(fields)}`, timeoutMs);
  }

  async close(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

function fieldsOf(text: string): { [field: string]: string } {
  return Object.fromEntries(text.split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}
