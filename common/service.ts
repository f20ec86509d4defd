/**
 * The life of a long-running program: start, reload on SIGHUP or when the configuration file changes, stop on SIGTERM or SIGINT.
 */
import { readFileSync } from 'node:fs';
import { type Args, CONFIG_OPTIONS, type Command, textOption } from './cli.ts';
import { dumpConfig, type Loaded, loadConfig } from './config.ts';
import { EXIT, messageOf } from './errors.ts';
import { type Logger, openLogger } from './logger.ts';
import { type Observed, ServiceManager } from './service-manager.ts';

export interface Service {
  /** Goes over to a new configuration without losing a sample. When it throws, the old one must still be in force. */
  reload(loaded: Loaded): Promise<void>;
  /** Ends cleanly; has 5 seconds. */
  stop(): Promise<void>;
  /** What it is doing now, in a sentence, for the service manager. */
  status?(): string;
  /** What does not get on, in words; empty when all is well. Where something is, a service manager's watchdog ends the process. */
  stuck?(): string[];
}

export interface ServiceSpec {
  program: string;
  summary: string;
  options?: Command['options'];
  /** More checks than the configuration's own; run by --check as well. @throws NdtError */
  check?(loaded: Loaded): void | Promise<void>;
  /** The routers' settings in force, for --dump-config, where the program finds some of them out itself. */
  routersInForce?(loaded: Loaded): Loaded['config']['routers'];
  start(loaded: Loaded, log: Logger, args: Args): Promise<Service>;
}

const STOP_MS = 5000;
const WATCH_MS = 1000;

/** The `run` command of a program. */
export function runCommand(spec: ServiceSpec): Command {
  return {
    name: 'run',
    summary: spec.summary,
    options: {
      ...CONFIG_OPTIONS,
      'with-stdin': { type: 'boolean', help: 'end when standard input closes: with the program that started this one, however that ends' },
      ...spec.options,
    },
    run: (args) => run(spec, args),
  };
}

async function run(spec: ServiceSpec, args: Args): Promise<number> {
  const file = textOption(args, 'config');
  let loaded = loadConfig(file);
  if (args.values['dump-config'] === true) {
    process.stdout.write(`${dumpConfig(loaded.config, spec.routersInForce?.(loaded))}\n`);
    return EXIT.ok;
  }
  await spec.check?.(loaded);
  if (args.values.check === true) {
    for (const warning of loaded.warnings) process.stderr.write(`${spec.program}: warning: ${warning}\n`);
    process.stdout.write(
      `${loaded.file ?? 'the default configuration'} is valid: ${loaded.routers.length} router${loaded.routers.length === 1 ? '' : 's'}\n`,
    );
    return EXIT.ok;
  }
  const log = await openLogger(spec.program, loaded.config.log);
  for (const warning of loaded.warnings) log.warn(warning);
  const manager = ServiceManager.ofProcess({ onFault: (message) => log.warn(message) });
  // Looked at and listened for from before the start on: what changes meanwhile, or is asked for, is done after it.
  const begun = Promise.withResolvers<Service>();
  let reloading = Promise.resolve();
  let ending = false;
  const reload = (why: string) => {
    reloading = reloading.then(async () => {
      const service = await begun.promise;
      // It would set up again what the end takes down.
      if (ending) return;
      log.info(`reloading (${why})`);
      await manager?.reloading();
      try {
        const next = loadConfig(file);
        await spec.check?.(next);
        await service.reload(next);
        log.level = next.config.log.level;
        loaded = next;
        log.info({ file: next.file }, `configuration reloaded (${why})`);
      } catch (error) {
        log.error(`the new configuration is refused and the old one stays in force (${why}): ${messageOf(error)}`);
      }
      await manager?.reloaded(service.status?.() ?? 'runs');
    });
  };
  process.on('SIGHUP', () => reload('SIGHUP'));
  const unwatch = loaded.file === undefined ? () => {} : watchFile(loaded.file, () => reload('the file changed'));
  const stopped = stopSignal(log, args.values['with-stdin'] === true).then((signal) => {
    ending = true;
    unwatch();
    log.info(`stopping (${signal})`);
    // Also where everything has been taken down and something keeps the process alive all the same.
    setTimeout(() => {
      log.error(`did not stop within ${STOP_MS / 1000} s, ending now; nothing accepted is lost`);
      process.exit(EXIT.failed);
    }, STOP_MS).unref();
  });
  const service = await spec.start(loaded, log, args);
  const observed: Observed = { status: () => service.status?.() ?? 'runs', stuck: () => service.stuck?.() ?? [] };
  if (!ending) void manager?.ready(observed);
  begun.resolve(service);
  await stopped;
  await reloading;
  void manager?.stopping();
  await service.stop();
  log.info('stopped');
  return EXIT.ok;
}

function stopSignal(log: Logger, withStdin: boolean): Promise<string> {
  return new Promise((resolve) => {
    let asked = 0;
    const stop = (signal: string) => {
      if (asked === 0) {
        asked = performance.now();
        resolve(signal);
        // A terminal and npm may both pass one Ctrl-C on; a second one is meant when it comes later.
      } else if (performance.now() - asked > 1000) {
        log.warn('asked to stop again, ending at once; nothing accepted is lost');
        process.exit(EXIT.failed);
      }
    };
    process.on('SIGTERM', () => stop('SIGTERM'));
    process.on('SIGINT', () => stop('SIGINT'));
    if (withStdin) {
      process.stdin.on('close', () => stop('standard input closed')).resume();
      // Watching it must not keep a stopped program alive.
      if ('unref' in process.stdin && typeof process.stdin.unref === 'function') process.stdin.unref();
    }
  });
}

/** Watches a file's content; follows symbolic links, so that a swapped directory link (a mounted ConfigMap) counts as a change. */
export function watchFile(file: string, changed: () => void, intervalMs = WATCH_MS): () => void {
  const read = () => {
    try {
      return readFileSync(file);
    } catch {
      return undefined;
    }
  };
  let last = read();
  const timer = setInterval(() => {
    const now = read();
    // A file that is gone is being replaced: wait for the new one.
    if (now === undefined || (last !== undefined && now.equals(last))) return;
    last = now;
    changed();
  }, intervalMs);
  timer.unref();
  return () => clearInterval(timer);
}
