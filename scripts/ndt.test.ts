import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';

/**
 * A small tree with the real bootstrap and a stand-in for npm, as these tests must not need a network: it installs by writing down
 * what the lock file asks for, and leaves a line for each call in `calls`.
 */
const NPM = `
import { appendFileSync, chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8'));
appendFileSync(process.env.CALLS, Object.keys(packages).join(' ').trim() + '\\n');
if (process.env.NPM_FAILS) {
  console.error('npm error code E503\\nnpm error the registry is closed. Come back later.');
  process.exit(1);
}
if (process.env.NPM_HANGS) setInterval(() => {}, 1000);
else {
  rmSync('node_modules', { recursive: true, force: true });
  mkdirSync('node_modules');
  for (const path of Object.keys(packages).filter((path) => path.includes('node_modules/node-'))) {
    mkdirSync(join(path, 'bin'), { recursive: true });
    writeFileSync(join(path, 'bin', 'node'), '#!/bin/sh\\nif [ "$1" = --version ]; then echo v99.1.0; else BROUGHT=yes exec "$REAL_NODE" "$@"; fi\\n');
    chmodSync(join(path, 'bin', 'node'), 0o755);
  }
  delete packages[''];
  for (const path of (process.env.NPM_LEAVES_OUT ?? '').split(' ')) delete packages[path];
  writeFileSync('node_modules/.package-lock.json', JSON.stringify({ packages }));
}
`;

const PROGRAM = `
const { argv, env } = process;
console.log(JSON.stringify({ argv: argv.slice(1), brought: env.BROUGHT === 'yes', path: env.PATH }));
if (argv[2] === 'exit') process.exit(Number(argv[3]));
if (argv[2] === 'die') process.kill(process.pid, 'SIGKILL');
if (argv[2] === 'wait') {
  for (const signal of ['SIGINT', 'SIGHUP']) process.on(signal, () => console.log(signal));
  process.on('SIGTERM', () => process.exit(3));
  setInterval(() => {}, 1000);
  console.log('ready');
}
`;

const PLATFORM = `${process.platform}-${process.arch}`;
const LOCK = {
  packages: {
    '': { name: 'tree' },
    'node_modules/pino': { version: '1.0.0', integrity: 'sha512-a' },
    'node_modules/vitest': { version: '1.0.0', integrity: 'sha512-b', dev: true },
    'node_modules/for-here': { version: '1.0.0', optional: true, os: [process.platform], cpu: [process.arch] },
    'node_modules/for-elsewhere': { version: '1.0.0', optional: true, os: ['plan9'], cpu: [process.arch] },
  },
};
const ELSEWHERE = 'node_modules/for-elsewhere';

class Tree {
  readonly root = mkdtempSync(join(tmpdir(), 'ndt-bootstrap-'));
  readonly children: ChildProcess[] = [];

  constructor(neededNode = '>=20') {
    for (const name of ['ndt.mjs', 'child.mjs', 'setup']) {
      cpSync(fileURLToPath(new URL(name, import.meta.url)), join(this.root, 'scripts', name), { recursive: true });
    }
    this.writeManifest({ engines: { node: neededNode } });
    this.write('package-lock.json', JSON.stringify(LOCK));
    for (const program of ['ml/main.ts', 'scripts/test.ts']) this.write(program, PROGRAM);
    this.write('npm-cli.js', NPM);
  }

  writeManifest(changes: object): void {
    const ndt = { node: { version: '99.1.0', integrity: { [PLATFORM]: 'sha512-c' } } };
    this.write('package.json', JSON.stringify({ type: 'module', os: [process.platform], engines: { node: '>=20' }, ndt, ...changes }));
  }

  write(path: string, text: string): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    writeFileSync(join(this.root, path), text);
  }

  /** What npm was called for, call by call. */
  calls(): string[] {
    const file = join(this.root, 'calls');
    return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
  }

  state(): string[] {
    const names = existsSync(join(this.root, '.ndt')) ? readdirSync(join(this.root, '.ndt')).sort() : [];
    return names.filter((name) => name !== 'compile-cache');
  }

  start(args: string[], env: NodeJS.ProcessEnv = {}): Started {
    const child = spawn(process.execPath, [join(this.root, 'scripts/ndt.mjs'), ...args], {
      cwd: this.root,
      env: {
        PATH: process.env.PATH,
        npm_execpath: join(this.root, 'npm-cli.js'),
        CALLS: join(this.root, 'calls'),
        REAL_NODE: process.execPath,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true, // a process group of its own, see remove()
    });
    this.children.push(child);
    return new Started(child);
  }

  async run(args: string[], env: NodeJS.ProcessEnv = {}): Promise<Started> {
    const started = this.start(args, env);
    await started.ended;
    return started;
  }

  remove(): void {
    for (const { pid } of this.children) {
      try {
        // The whole group: a test that fails may leave an npm behind.
        if (pid !== undefined) process.kill(-pid, 'SIGKILL');
      } catch {
        // All of it has ended.
      }
    }
    rmSync(this.root, { recursive: true, force: true });
  }
}

class Started {
  readonly child: ChildProcess;
  readonly ended: Promise<unknown>;
  stdout = '';
  stderr = '';

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.ended = once(child, 'close');
  }

  get code(): number | null {
    return this.child.exitCode;
  }

  /** What the program said of itself in its first line. */
  get said(): { argv: string[]; brought: boolean; path: string } {
    return JSON.parse(this.stdout.split('\n')[0] ?? '');
  }

  async until(stream: 'stdout' | 'stderr', text: string): Promise<void> {
    await expect.poll(() => this[stream], { timeout: 5000, interval: 5 }).toContain(text);
  }
}

let tree: Tree;
afterEach(() => tree.remove());

describe('dependencies', () => {
  test('are installed at the first start, not at the second, and never talk on stdout', async () => {
    tree = new Tree();
    const first = await tree.run(['ml', 'one', '--two']);
    expect(first.code).toBe(0);
    expect(first.stderr).toMatch(/^ndt: installing the dependencies … done in \d+\.\d s\n$/);
    expect(first.stdout.split('\n')).toHaveLength(2);
    expect(first.said.argv).toEqual([join(tree.root, 'ml/main.ts'), 'one', '--two']);
    expect(first.said.path.split(':')[0]).toBe(dirname(process.execPath));

    const second = await tree.run(['ml']);
    expect([second.code, second.stderr]).toEqual([0, '']);
    expect(tree.calls()).toHaveLength(1);
    expect(tree.state()).toEqual(['installed']);
  });

  test('are installed again when the lock file has changed, or what is installed', async () => {
    tree = new Tree();
    await tree.run(['ml']);
    tree.write('package-lock.json', JSON.stringify(LOCK).replace('sha512-a', 'sha512-x'));
    await tree.run(['ml']);
    expect(tree.calls()).toHaveLength(2);
    tree.write('node_modules/.package-lock.json', JSON.stringify({ packages: {} }));
    await tree.run(['ml']);
    expect(tree.calls()).toHaveLength(3);
    rmSync(join(tree.root, 'node_modules'), { recursive: true });
    await tree.run(['ml']);
    expect(tree.calls()).toHaveLength(4);
  });

  test('installed by hand are good, also without the development ones for a command that needs none', async () => {
    tree = new Tree();
    const { '': _, 'node_modules/vitest': __, [ELSEWHERE]: ___, ...production } = LOCK.packages;
    tree.write('node_modules/.package-lock.json', JSON.stringify({ packages: production }));
    expect((await tree.run(['ml'])).code).toBe(0);
    expect(tree.calls()).toHaveLength(0);
    expect((await tree.run(['test'])).code).toBe(0);
    expect(tree.calls()).toHaveLength(1);
  });

  test('lacking an optional package for this system are installed once more, and then accepted', async () => {
    tree = new Tree();
    const { '': _, 'node_modules/for-here': __, ...copied } = LOCK.packages;
    tree.write('node_modules/.package-lock.json', JSON.stringify({ packages: copied }));
    const env = { NPM_LEAVES_OUT: `node_modules/for-here ${ELSEWHERE}` };
    await tree.run(['ml'], env);
    await tree.run(['ml'], env);
    expect(tree.calls()).toHaveLength(1);
  });

  test('that cannot be installed end the start with what npm said, and the next start tries again', async () => {
    tree = new Tree();
    const failed = await tree.run(['ml'], { NPM_FAILS: '1' });
    expect(failed.code).toBe(69);
    expect(failed.stdout).toBe('');
    expect(failed.stderr).toContain('npm error code E503\n');
    expect(failed.stderr).toContain(
      '\nndt could not install its dependencies (the registry is closed): mend that and run the command again.\n',
    );
    expect(failed.stderr).not.toMatch(/^ {4}at /m);
    expect((await tree.run(['ml'])).code).toBe(0);
  });

  test.each([
    ['>=20', ['installed']],
    ['>=99', ['installed', 'node-v99.1.0']],
  ])('are installed by one of several starts (Node %s)', async (neededNode, state) => {
    tree = new Tree(neededNode);
    const starts = await Promise.all([tree.run(['ml']), tree.run(['ml']), tree.run(['ml'])]);
    expect(starts.map((start) => start.code)).toEqual([0, 0, 0]);
    expect(tree.calls()).toHaveLength(state.length);
    expect(tree.state()).toEqual(state);
  });
});

describe('an interrupted installation', () => {
  test('ends npm, leaves no lock, and is made again', async () => {
    tree = new Tree();
    const start = tree.start(['ml'], { NPM_HANGS: '1' });
    await expect.poll(() => tree.calls().length, { interval: 5 }).toBe(1);
    await expect.poll(() => readdirSync(join(tree.root, '.ndt/lock')).length, { interval: 5 }).toBe(2);
    const npm = npmOf(tree, start);
    start.child.kill('SIGTERM');
    await start.ended;
    expect(start.code).toBe(143);
    expect(() => process.kill(npm, 0)).toThrow('ESRCH');
    expect(tree.state()).toEqual([]);
    expect((await tree.run(['ml'])).code).toBe(0);
  });

  test('never passes for a complete one, also when the lock file is what it was before', async () => {
    tree = new Tree();
    await tree.run(['ml']);
    tree.write('package-lock.json', JSON.stringify(LOCK).replace('sha512-a', 'sha512-x'));
    const start = tree.start(['ml'], { NPM_HANGS: '1' });
    await expect.poll(() => tree.calls().length, { interval: 5 }).toBe(2);
    start.child.kill('SIGTERM');
    await start.ended;
    tree.write('package-lock.json', JSON.stringify(LOCK));
    await tree.run(['ml']);
    expect(tree.calls()).toHaveLength(3);
  });

  test('that was killed is waited for while its npm lives, then made again', async () => {
    tree = new Tree();
    const killed = tree.start(['ml'], { NPM_HANGS: '1' });
    await expect.poll(() => tree.calls().length, { interval: 5 }).toBe(1);
    await expect.poll(() => readdirSync(join(tree.root, '.ndt/lock')).length, { interval: 5 }).toBe(2);
    const npm = npmOf(tree, killed);
    killed.child.kill('SIGKILL');
    const next = tree.start(['ml']);
    await next.until('stderr', 'waiting for an installation that is under way');
    expect(tree.calls()).toHaveLength(1);
    process.kill(npm, 'SIGKILL');
    await next.ended;
    expect(next.code).toBe(0);
    expect(tree.calls()).toHaveLength(2);
  });
});

/** The process id of the npm that a start has under way: the lock's holder that is not the start itself. */
function npmOf(tree: Tree, start: Started): number {
  const holders = readdirSync(join(tree.root, '.ndt/lock')).map((name) => Number(name.split('.')[0]));
  return holders.find((pid) => pid !== start.child.pid) ?? Number.NaN;
}

describe('where the running Node is too old', () => {
  test('the pinned one is brought once, and runs the program', async () => {
    tree = new Tree('>=99');
    const first = await tree.run(['ml', 'one']);
    expect(first.code).toBe(0);
    expect(first.stderr).toMatch(/^ndt: bringing Node\.js 99\.1\.0 \(this machine's is [\d.]+\) … done in .* s\nndt: installing/);
    expect(first.said).toMatchObject({ argv: [join(tree.root, 'ml/main.ts'), 'one'], brought: true });
    expect(first.said.path.split(':')[0]).toBe(join(tree.root, '.ndt/node-v99.1.0', PLATFORM, 'bin'));
    expect(tree.calls()[0]).toBe(`node_modules/node-${PLATFORM}`);

    const second = await tree.run(['ml']);
    expect([second.code, second.stderr, second.said.brought]).toEqual([0, '', true]);
    expect(tree.calls()).toHaveLength(2);
  });

  test('and the registry cannot be reached, one sentence says what to do', async () => {
    tree = new Tree('>=99');
    const failed = await tree.run(['ml'], { NPM_FAILS: '1' });
    expect(failed.code).toBe(69);
    expect(failed.stderr.trim().split('\n').at(-1)).toBe(
      `ndt needs Node.js 99 or newer (this is ${process.versions.node}) and could not bring it from the npm registry ` +
        '(the registry is closed): install Node.js 99 from your distribution or nodejs.org and run the command again.',
    );
    expect(tree.state()).toEqual([]);
    expect((await tree.run(['ml'])).code).toBe(0);
  });

  test.each([
    ['no build for this system', { ndt: { node: { version: '99.1.0', integrity: {} } } }, `it has no build for ${PLATFORM}`],
    [
      'a build that does not run here',
      { ndt: { node: { version: '99.2.0', integrity: { [PLATFORM]: 'sha512-c' } } } },
      'does not run on this system',
    ],
  ])('and there is %s, so is it', async (_, manifest, reason) => {
    tree = new Tree();
    tree.writeManifest({ engines: { node: '>=99' }, ...manifest });
    const failed = await tree.run(['ml']);
    expect(failed.code).toBe(69);
    expect(failed.stderr).toContain(reason);
    expect(failed.stderr).not.toMatch(/^ {4}at /m);
    expect(tree.state()).toEqual([]);
  });

  test('the exit code is the program’s, 128 + n where a signal ended it', async () => {
    tree = new Tree('>=99');
    expect((await tree.run(['ml', 'exit', '7'])).code).toBe(7);
    expect((await tree.run(['ml', 'die'])).code).toBe(137);
  });

  test('signals reach the program, one that comes twice at once a single time', async () => {
    tree = new Tree('>=99');
    const start = tree.start(['ml', 'wait']);
    await start.until('stdout', 'ready');
    start.child.kill('SIGINT');
    await start.until('stdout', 'SIGINT');
    start.child.kill('SIGINT');
    start.child.kill('SIGHUP');
    await start.until('stdout', 'SIGHUP');
    start.child.kill('SIGTERM');
    await start.ended;
    expect(start.code).toBe(3);
    expect(start.stdout.split('\n').slice(1)).toEqual(['ready', 'SIGINT', 'SIGHUP', '']);
  });

  test('and the one brought has been damaged, the message names its folder', async () => {
    tree = new Tree('>=99');
    await tree.run(['ml']);
    const home = join(tree.root, '.ndt/node-v99.1.0', PLATFORM);
    chmodSync(join(home, 'bin/node'), 0o644);
    const failed = await tree.run(['ml']);
    expect(failed.code).toBe(69);
    expect(failed.stderr).toContain(`ndt cannot start the Node in ${home}`);
  });
});

describe('mistakes', () => {
  test.each([
    ['no command', [], 64, 'ndt was given no command\nusage: '],
    ['an unknown command', ['toString'], 64, 'ndt has no command "toString"\nusage: '],
    ['an incomplete copy', ['agent'], 69, 'this copy of ndt has no agent/main.ts'],
  ])('%s', async (_, args, code, message) => {
    tree = new Tree();
    const failed = await tree.run(args);
    expect(failed.code).toBe(code);
    expect(failed.stderr).toMatch(new RegExp(`^${message}`));
    expect(tree.calls()).toHaveLength(0);
  });

  test('a system that ndt does not run on', async () => {
    tree = new Tree();
    tree.writeManifest({ os: ['plan9', 'inferno'] });
    const failed = await tree.run(['ml']);
    expect([failed.code, failed.stderr]).toEqual([69, `ndt runs on plan9 and inferno, not on ${process.platform}.\n`]);
  });

  test('a folder that cannot be written', async () => {
    tree = new Tree();
    // Also root cannot make a folder where a file's name leads through a file.
    renameSync(join(tree.root, 'npm-cli.js'), join(tree.root, '.ndt'));
    const failed = await tree.run(['ml']);
    expect(failed.code).toBe(73);
    expect(failed.stderr).toContain(`ndt has to install its dependencies, but cannot write to ${join(tree.root, '.ndt')} (ENOTDIR)`);
  });
});

test('every script of package.json is a command', async () => {
  tree = new Tree();
  const { scripts } = JSON.parse(readFileSync(fileURLToPath(new URL('../package.json', import.meta.url)), 'utf8'));
  const usage = (await tree.run(['--help'])).stdout;
  for (const script of Object.values<string>(scripts)) {
    const command = /^exec node scripts\/ndt\.mjs (\w+)( --\w+)?$/.exec(script)?.[1];
    expect(command, script).toBeDefined();
    expect(usage).toMatch(new RegExp(`^ {2}${command} `, 'm'));
  }
});
