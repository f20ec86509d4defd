/** A bus on a broker, with a configuration of the test's own. */
import { KafkaBus } from '../common/bus-kafka.ts';
import { type Loaded, loadConfig } from '../common/config.ts';
import { kafkaOptions } from '../common/kafka/settings.ts';
import { openLogger } from '../common/logger.ts';

const log = await openLogger('test', { level: process.env.NDT_TEST_LOG === 'debug' ? 'debug' : 'fatal', format: 'json' });

export { log as testLog };

/** What a configuration file with this section `kafka` gives. */
export function configWith(bootstrap: string, kafka: object = {}): Loaded {
  const loaded = loadConfig(undefined, {});
  return { ...loaded, config: { ...loaded.config, kafka: { ...loaded.config.kafka, brokers: [bootstrap], ...kafka } } };
}

export interface BusOptions {
  kafka?: object;
  onFault?: (message: string) => void;
  batch?: number;
  deadLetterTopic?: string;
}

export function busOn(bootstrap: string, options: BusOptions = {}): KafkaBus {
  const { kafka, ...more } = options;
  return new KafkaBus({ kafka: kafkaOptions(configWith(bootstrap, { session_timeout: 6, ...kafka }), 'test'), log, ...more });
}
