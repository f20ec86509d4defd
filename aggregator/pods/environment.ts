/**
 * The seed's environment variables, as the `NDT_…` variables of the options they stand for. An `NDT_…` variable that is set itself
 * goes before them, and they go before the configuration file.
 */
import { NdtError } from '../../common/errors.ts';
import { prometheusMs } from './duration.ts';

/** The variables, in the order of the seed's table, and what they set. */
export const SEED_VARIABLES = {
  DEBUG: 'log.level',
  KAFKA_IP: 'kafka.brokers',
  KAFKA_PORT: 'kafka.brokers',
  KAFKA_KUBERNETES_TOPIC: 'pods.topic',
  PROMETHEUS_HOST: 'pods.prometheus.url',
  PROMETHEUS_PORT: 'pods.prometheus.url',
  PROMETHEUS_POLLING_STEP: 'pods.step',
  SCHEDULER_SECONDS: 'pods.interval',
} as const;

type Name = keyof typeof SEED_VARIABLES;

/**
 * @param configuredUrl `pods.prometheus.url` without the seed's variables; its scheme, path and port stay where they say nothing of them
 * @returns variables to add to the environment
 * @throws NdtError CONFIG naming the seed's variable
 */
export function seedEnvironment(env: NodeJS.ProcessEnv, configuredUrl: string): { [variable: string]: string } {
  const found: { [variable: string]: string } = {};
  const value = (name: Name) => {
    const text = env[name]?.trim();
    return text === '' ? undefined : text;
  };
  const set = (variable: string, text: string) => {
    if ((env[variable] ?? '') === '') found[variable] = text;
  };

  // Other programs read DEBUG too, and give it other meanings.
  if (/^(1|true|yes|on)$/i.test(value('DEBUG') ?? '')) set('NDT_LOG_LEVEL', 'debug');

  const kafkaHost = value('KAFKA_IP');
  if (kafkaHost !== undefined) {
    // As JSON: the brackets of an IPv6 address alone would be taken for those of a list.
    set('NDT_KAFKA_BROKERS', JSON.stringify([`${hostText('KAFKA_IP', kafkaHost)}:${portOf(env, 'KAFKA_PORT') ?? 9092}`]));
    // The seed has no other bus: whoever names a broker wants it used.
    set('NDT_BUS', 'kafka');
  }
  const topic = value('KAFKA_KUBERNETES_TOPIC');
  if (topic !== undefined) set('NDT_PODS_TOPIC', topic);

  const host = value('PROMETHEUS_HOST');
  const port = portOf(env, 'PROMETHEUS_PORT', host === undefined);
  if (host !== undefined || port !== undefined) {
    const url = new URL(configuredUrl);
    if (host !== undefined) {
      url.hostname = hostText('PROMETHEUS_HOST', host);
      // The port of another host says nothing of this one's.
      if (port === undefined) url.port = '9090';
    }
    if (port !== undefined) url.port = String(port);
    set('NDT_PODS_PROMETHEUS_URL', url.href);
  }

  const step = value('PROMETHEUS_POLLING_STEP');
  if (step !== undefined) {
    if (prometheusMs(step) === undefined) throw wrong('PROMETHEUS_POLLING_STEP', 'a duration such as 20s or 1m30s', step);
    set('NDT_PODS_STEP', step);
  }
  const seconds = value('SCHEDULER_SECONDS');
  if (seconds !== undefined) {
    if (!(Number(seconds) > 0 && Number(seconds) <= 86400)) throw wrong('SCHEDULER_SECONDS', 'seconds above 0, at most 86400', seconds);
    set('NDT_PODS_INTERVAL', seconds);
  }
  return found;
}

function wrong(name: Name, expected: string, text: string): NdtError {
  return new NdtError('CONFIG', `environment variable ${name}: expected ${expected}, got "${text}"`);
}

function hostText(name: Name, text: string): string {
  const host = /^[0-9A-Fa-f:]*:[0-9A-Fa-f:]*$/.test(text) ? `[${text}]` : text;
  if (!/^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)$/.test(host)) throw wrong(name, 'a host name or an IP address', text);
  return host;
}

/**
 * Kubernetes sets `{SERVICE}_PORT` to `tcp://10.0.0.1:9090` in every container beside a service of that name. That is nothing anybody
 * asked for, so it counts only for its number, and not at all where no host is given (`alone`).
 */
function portOf(env: NodeJS.ProcessEnv, name: 'KAFKA_PORT' | 'PROMETHEUS_PORT', alone = false): number | undefined {
  const text = env[name]?.trim() ?? '';
  if (text === '') return undefined;
  const link = /^tcp:\/\/.*:(\d+)$/.exec(text);
  if (link !== null && alone) return undefined;
  const digits = link?.[1] ?? text;
  const port = /^\d{1,5}$/.test(digits) ? Number(digits) : 0;
  if (port < 1 || port > 65535) throw wrong(name, 'a port from 1 to 65535', text);
  return port;
}
