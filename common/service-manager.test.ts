import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Pair, Running } from '../test/programs.ts';
import { hasNotify, NEEDS_NOTIFY, NotifySocket } from '../test/real/notify-socket.ts';
import { tempDir } from '../test/tempdir.ts';
import { until } from '../test/until.ts';
import { ServiceManager } from './service-manager.ts';

async function socketAt(name: string): Promise<NotifySocket> {
  const socket = await NotifySocket.open(name);
  onTestFinished(() => socket.close());
  return socket;
}

function managerOf(socket: NotifySocket, env: NodeJS.ProcessEnv = {}) {
  const faults: string[] = [];
  const options = {
    env: { PATH: process.env.PATH, NOTIFY_SOCKET: socket.name, ...env },
    onFault: (message: string) => faults.push(message),
  };
  const manager = ServiceManager.ofProcess(options);
  if (manager === undefined) throw new Error('there is no manager');
  onTestFinished(() => manager.stopping());
  return { manager, faults };
}

const WELL = { status: () => 'runs', stuck: () => [] };

test('nobody is told anything where nobody listens', () => {
  expect(ServiceManager.ofProcess({ env: {}, onFault: () => {} })).toBeUndefined();
  expect(ServiceManager.ofProcess({ env: { NOTIFY_SOCKET: '' }, onFault: () => {} })).toBeUndefined();
});

for (const kind of ['path', 'abstract'])
  test.skipIf(!hasNotify)(`a life of a service on a socket of the kind ${kind}${NEEDS_NOTIFY}`, async () => {
    const socket = await socketAt(kind === 'path' ? join(tempDir(), 'notify') : `@ndt-test-${randomUUID()}`);
    const { manager, faults } = managerOf(socket);
    const before = process.hrtime.bigint() / 1000n;
    // Not awaited one by one: their order is kept all the same.
    await Promise.all([
      manager.ready({ ...WELL, status: () => 'one line,\nwhatever comes' }),
      manager.reloading(),
      manager.reloaded('anew'),
      manager.stopping(),
    ]);
    await until(() => socket.messages.length === 4, 'four messages');
    const [ready, reloading, reloaded, stopping] = socket.messages;
    expect(ready).toEqual({ READY: '1', STATUS: 'one line, whatever comes' });
    expect(reloading).toMatchObject({ RELOADING: '1' });
    const at = BigInt(reloading?.MONOTONIC_USEC ?? 0);
    expect(at >= before && at <= process.hrtime.bigint() / 1000n).toBe(true);
    expect(reloaded).toEqual({ READY: '1', STATUS: 'anew' });
    expect(stopping).toMatchObject({ STOPPING: '1' });
    expect(faults).toEqual([]);
  });

test.skipIf(!hasNotify)(`the watchdog is fed while the service gets on, and only then${NEEDS_NOTIFY}`, async () => {
  const socket = await socketAt(join(tempDir(), 'notify'));
  const { manager, faults } = managerOf(socket, { WATCHDOG_USEC: '60000', WATCHDOG_PID: String(process.pid) });
  let stuck: string[] = [];
  let asked = 0;
  const observed = {
    status: () => 'runs',
    stuck: () => {
      asked += 1;
      return stuck;
    },
  };
  await manager.ready(observed);
  const fed = () => socket.messages.filter((message) => message.WATCHDOG === '1').length;
  await until(() => fed() >= 5, 'the watchdog to be fed');
  stuck = ['polling r1 has not got on'];
  await socket.hears({ STATUS: 'polling r1 has not got on' });
  const then = { fed: fed(), asked };
  await until(() => asked >= then.asked + 5, 'it to be asked again');
  expect(fed()).toBe(then.fed);
  expect(faults[0]).toBe('polling r1 has not got on: the service manager’s watchdog is not fed');
  stuck = [];
  await until(() => fed() > then.fed, 'the watchdog to be fed again');
});

test.skipIf(!hasNotify)(`a watchdog meant for another process is left alone${NEEDS_NOTIFY}`, async () => {
  const socket = await socketAt(join(tempDir(), 'notify'));
  const { manager } = managerOf(socket, { WATCHDOG_USEC: '60000', WATCHDOG_PID: '1' });
  await manager.ready(WELL);
  await manager.stopping();
  await until(() => socket.messages.length === 2, 'two messages');
  expect(socket.messages.some((message) => 'WATCHDOG' in message)).toBe(false);
});

test('a manager that cannot be told is one fault, and no failure', async () => {
  const faults: string[] = [];
  const env = { NOTIFY_SOCKET: join(tempDir(), 'nobody'), PATH: tempDir() };
  const manager = ServiceManager.ofProcess({ env, onFault: (message) => faults.push(message) });
  await manager?.ready(WELL);
  await manager?.stopping();
  expect(faults).toEqual([expect.stringContaining('there is no systemd-notify on PATH')]);
});

test.skipIf(!hasNotify)(`the programs say when they are ready, what they do, that they reload and stop${NEEDS_NOTIFY}`, async () => {
  const dir = tempDir();
  const socket = await socketAt(join(dir, 'notify'));
  const settings = { routers: [{ r1: { source: 'procfs', interfaces: ['lo'], polling_interval: 0.2 } }] };
  const pair = await Pair.make(dir, settings);
  const env = { NOTIFY_SOCKET: socket.name, WATCHDOG_USEC: '600000' };
  const aggregator = new Running('aggregator', ['run', '--config', pair.config], env);
  onTestFinished(async () => void (await aggregator.stop()));
  await socket.hears({
    READY: '1',
    STATUS: /^ingress, rates, ml, store, api: takes records in at mqtt:\/\/127.0.0.1:\d+, answers at http:/,
  });
  const agent = new Running('agent', ['run', '--config', pair.config], env);
  onTestFinished(async () => void (await agent.stop()));
  await socket.hears({ READY: '1', STATUS: /^watches 1 router; / });
  await socket.hears({ WATCHDOG: '1', STATUS: /^watches 1 router; [1-9]\d* records delivered, \d+ waits?$/ });

  socket.messages.length = 0;
  agent.child.kill('SIGHUP');
  await socket.hears({ RELOADING: '1', MONOTONIC_USEC: /^\d+$/ });
  await socket.hears({ READY: '1', STATUS: /^watches 1 router/ });
  writeFileSync(pair.config, '{');
  await agent.says('the new configuration is refused');
  await until(
    () => socket.messages.filter((message) => message.READY === '1').length >= 2,
    'the agent to be ready again with its old configuration',
  );
  await agent.stop();
  await socket.hears({ STOPPING: '1' });
  await aggregator.stop();
});
