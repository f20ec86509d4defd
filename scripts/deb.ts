/** `npm run deb`: Debian packages, and archives for machines without dpkg, out of what `npm run package` made in `dist/`. */
import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Args, main, textOption, VERSION } from '../common/cli.ts';
import { EXIT, NdtError } from '../common/errors.ts';
import { built, makeArchive, makeDeb } from './deb/build.ts';
import { chosenFor, FOR_OPTIONS, writeChecksums } from './package/options.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

async function run(args: Args): Promise<number> {
  const dist = resolve(textOption(args, 'output') ?? join(root, 'dist'));
  const { architectures, programs } = chosenFor(args);
  const epoch = releaseTime();
  for (const name of programs)
    for (const arch of architectures) {
      const build = { root, name, arch, version: VERSION, ...built(dist, name, arch), output: dist, epoch };
      for (const make of [makeDeb, makeArchive]) {
        const file = await make(build);
        process.stdout.write(`${file}: ${(statSync(file).size / 1e6).toFixed(1)} MB\n`);
      }
    }
  process.stdout.write(`checksums in ${writeChecksums(dist)}\n`);
  return EXIT.ok;
}

/** SOURCE_DATE_EPOCH, or the time of the last commit. @throws NdtError CONFIG where there is neither */
function releaseTime(): number {
  const given = process.env.SOURCE_DATE_EPOCH;
  if (given !== undefined && given !== '') {
    if (/^\d+$/.test(given)) return Number(given);
    throw new NdtError('CONFIG', `SOURCE_DATE_EPOCH is "${given}": expected Unix seconds`);
  }
  try {
    return Number(execFileSync('git', ['log', '-1', '--format=%ct'], { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
  } catch {
    throw new NdtError('CONFIG', 'this is no git repository: set SOURCE_DATE_EPOCH to the release’s time (Unix seconds)');
  }
}

await main(
  {
    name: 'npm run',
    summary: 'Debian packages and archives',
    commands: [
      {
        name: 'deb --',
        summary: 'make .deb packages, and archives with install.sh, out of the binaries in dist/',
        options: {
          ...FOR_OPTIONS,
          output: { type: 'string', short: 'o', value: 'DIR', help: 'where the binaries are and the packages go (dist in the project)' },
        },
        run,
      },
    ],
    examples: ['npm run deb -- --arch arm64 --program ndt-agent'],
  },
  ['deb --', ...process.argv.slice(2)],
);
