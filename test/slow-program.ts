/**
 * A program for the tests of `common/service.ts`: it starts when the file GATE is there, a reload to the experiment
 * `stuck` never ends, and after one to `leak` its end leaves something behind.
 */
import { existsSync } from 'node:fs';
import { main } from '../common/cli.ts';
import { runCommand } from '../common/service.ts';
import { until } from './until.ts';

await main({
  name: 'slow',
  summary: 'starts when it may',
  examples: [],
  commands: [
    runCommand({
      program: 'ndt-agent',
      summary: 'start when it may',
      start: async (_loaded, log) => {
        log.info('starting');
        await until(() => existsSync(process.env.GATE ?? ''), 'the gate');
        log.info('started');
        // As a port that is listened on.
        const alive = setInterval(() => {}, 60_000);
        let leaks = false;
        return {
          reload: async ({ config }) => {
            log.info(`goes over to ${config.experiment_id}`);
            leaks = config.experiment_id === 'leak';
            if (config.experiment_id === 'stuck') await new Promise(() => {});
          },
          stop: async () => {
            if (!leaks) clearInterval(alive);
          },
        };
      },
    }),
  ],
});
