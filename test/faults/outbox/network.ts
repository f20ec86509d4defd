/** The agent on another host, as far as the kernel is concerned: a network namespace, and a cable that is cut or loses packets. */
import { execFileSync, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { findProgram } from '../../../scripts/programs.ts';
import { until } from '../../until.ts';
import { canNamespace } from './machine.ts';
import type { Row } from './report.ts';
import { Rig } from './rig.ts';

const NFT = findProgram('nft');
const [HERE, THERE] = ['198.51.100.5', '198.51.100.6'];

export interface Cable {
  ns: string;
  device: string;
}

let laid = 0;

/** A cable between here and a namespace; gone with the test. */
export function layCable(): Cable {
  laid += 1;
  const ns = `ndtf${process.pid}-${laid}`;
  const device = `ndtf${process.pid % 100_000}-${laid}`;
  const ip = (...args: string[]) => execFileSync('ip', args);
  ip('netns', 'add', ns);
  onTestFinished(() => {
    spawnSync('ip', ['link', 'del', device]);
    spawnSync('ip', ['netns', 'del', ns]);
  });
  ip('link', 'add', device, 'type', 'veth', 'peer', 'name', 'up0', 'netns', ns);
  ip('addr', 'add', `${HERE}/30`, 'dev', device);
  ip('link', 'set', device, 'up');
  ip('-n', ns, 'addr', 'add', `${THERE}/30`, 'dev', 'up0');
  ip('-n', ns, 'link', 'set', 'up0', 'up');
  ip('-n', ns, 'link', 'set', 'lo', 'up');
  return { ns, device };
}

/** Commands that put the agent at the other end. */
export const atTheOtherEnd = ({ ns }: Cable): string[] => ['ip', 'netns', 'exec', ns];

export const makeRig = (): Promise<Rig> => Rig.make({ host: HERE, mqtt: { timeout: 2 } });

/** What is done to a cable, and undone. */
export interface Trouble {
  begin(cable: Cable): void;
  end(cable: Cable): void;
}

export const CUT: Trouble = {
  begin: ({ device }) => execFileSync('ip', ['link', 'set', device, 'down']),
  end: ({ device }) => execFileSync('ip', ['link', 'set', device, 'up']),
};

const nft = (ns: string, ...args: string[]) => execFileSync('ip', ['netns', 'exec', ns, NFT ?? 'nft', ...args]);

export const LOSS: Trouble = {
  begin: ({ ns }) => {
    nft(ns, 'add', 'table', 'inet', 'loss');
    for (const way of ['input', 'output']) {
      nft(ns, `add chain inet loss ${way} { type filter hook ${way} priority 0; }`);
      nft(ns, `add rule inet loss ${way} ${way === 'input' ? 'iifname' : 'oifname'} "up0" numgen random mod 100 < 30 drop`);
    }
  },
  end: ({ ns }) => nft(ns, 'delete', 'table', 'inet', 'loss'),
};

export async function trouble(rig: Rig, cable: Cable, { begin, end }: Trouble, seconds: number, what: string): Promise<void> {
  begin(cable);
  await sleep(seconds * 1000);
  await rig.grows(1);
  end(cable);
  await rig.grows(5);
  await rig.expectAgreement(what, true);
}

async function over(times: number, seconds: number, what: string, kind: Trouble) {
  const cable = layCable();
  const rig = await makeRig();
  const through = atTheOtherEnd(cable);
  const agent = await rig.agent({ through });
  for (let round = 0; round < times; round += 1) {
    // The connection is there again before the next cut.
    const before = rig.tap.distinct;
    await until(() => rig.tap.distinct > before, 'records to come over', 120_000);
    await trouble(rig, cable, kind, seconds, `${what} ${round + 1}`);
  }
  await agent.stop();
  return await rig.finish(what, true, { through });
}

export const needsForLoss = canNamespace && NFT !== undefined ? undefined : 'needs root, iproute2 and Debian’s nftables';

export const rows: Row[] = [
  {
    fault: 'cut cable',
    how: 'agent in a network namespace of its own, its link set down for 4 s at a time',
    times: 4,
    needs: canNamespace ? undefined : 'needs root and iproute2',
    timeoutMs: 600_000,
    run: (times) => over(times, 4, 'cut cable', CUT),
  },
  {
    fault: '30 % of packets lost',
    how: 'both ways, by nftables in the namespace, for 8 s at a time',
    times: 3,
    needs: needsForLoss,
    timeoutMs: 600_000,
    run: (times) => over(times, 8, 'lost packets', LOSS),
  },
];
