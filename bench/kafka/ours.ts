/** ndt's bus: `append`, and `consume` with a stage that returns nothing or a copy. */
import { topicsOf } from '../../common/topics.ts';
import { busOn } from '../../test/kafka-bus.ts';
import { type Rival, SETTINGS } from './rival.ts';

const kafka = {
  compression: SETTINGS.compression,
  session_timeout: SETTINGS.sessionMs / 1000,
  transaction_timeout: SETTINGS.transactionMs / 1000,
};

export const ours: Rival = {
  name: 'ndt',

  async producer(bootstrap) {
    const bus = busOn(bootstrap, { kafka });
    return { send: (batch) => bus.append(batch), close: () => bus.close() };
  },

  async consumer(bootstrap, group, topics, output) {
    const bus = busOn(bootstrap, { kafka, batch: SETTINGS.batch });
    const running = bus.consume(
      group,
      topicsOf(...topics),
      {
        handle: (batch) =>
          output === undefined ? undefined : { append: batch.map(({ key, headers, value }) => ({ topic: output, key, headers, value })) },
      },
      new AbortController().signal,
    );
    return {
      handled: () => bus.stats().groups[0]?.messages ?? 0,
      close: async () => {
        await bus.close();
        await running;
      },
    };
  },
};
