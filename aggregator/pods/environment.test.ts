import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../common/config.ts';
import { seedEnvironment } from './environment.ts';

const URL_OF_FILE = 'http://127.0.0.1:9090';
const effective = (env: NodeJS.ProcessEnv) => loadConfig(undefined, { ...env, ...seedEnvironment(env, URL_OF_FILE) }).config;

describe('the seed’s variables', () => {
  it('of its own example work', () => {
    const config = effective({
      DEBUG: '1',
      KAFKA_IP: '192.168.1.175',
      KAFKA_PORT: '9092',
      KAFKA_KUBERNETES_TOPIC: 'nfvi.ncsrd2.kubernetes',
      PROMETHEUS_HOST: '192.168.1.107',
      PROMETHEUS_PORT: '31078',
      PROMETHEUS_POLLING_STEP: '30s',
      SCHEDULER_SECONDS: '15',
    });
    expect(config.log.level).toBe('debug');
    expect(config.bus).toBe('kafka');
    expect(config.kafka.brokers).toEqual(['192.168.1.175:9092']);
    expect(config.pods).toMatchObject({ topic: 'nfvi.ncsrd2.kubernetes', step: '30s', interval: 15 });
    expect(new URL(config.pods.prometheus.url).href).toBe('http://192.168.1.107:31078/');
  });

  it('are not needed: the seed’s defaults hold', () => {
    expect(seedEnvironment({ DEBUG: '', KAFKA_PORT: '', PROMETHEUS_HOST: ' ' }, URL_OF_FILE)).toEqual({});
    const { log, bus, pods } = effective({});
    expect({ level: log.level, bus, topic: pods.topic, step: pods.step, interval: pods.interval }).toEqual({
      level: 'info',
      bus: 'embedded',
      topic: 'nfvi.ncsrd.kubernetes',
      step: '20s',
      interval: 20,
    });
  });

  it('fill in what is missing', () => {
    expect(effective({ KAFKA_IP: 'fd00::7' }).kafka.brokers).toEqual(['[fd00::7]:9092']);
    const url = (env: NodeJS.ProcessEnv, configured = URL_OF_FILE) => seedEnvironment(env, configured).NDT_PODS_PROMETHEUS_URL;
    expect(url({ PROMETHEUS_HOST: 'prometheus' })).toBe('http://prometheus:9090/');
    expect(url({ PROMETHEUS_PORT: '9091' })).toBe('http://127.0.0.1:9091/');
    expect(url({ PROMETHEUS_HOST: 'p', PROMETHEUS_PORT: '443' }, 'https://old:8443/prom')).toBe('https://p/prom');
    expect(url({ PROMETHEUS_HOST: '::1' })).toBe('http://[::1]:9090/');
  });

  it('go behind NDT_ variables', () => {
    const config = effective({ KAFKA_IP: 'k', NDT_BUS: 'embedded', SCHEDULER_SECONDS: '15', NDT_PODS_INTERVAL: '7' });
    expect([config.bus, config.pods.interval]).toEqual(['embedded', 7]);
  });

  it('are not mistaken for what Kubernetes and other programs mean by the same names', () => {
    expect(
      seedEnvironment({ KAFKA_PORT: 'tcp://10.0.0.7:9092', PROMETHEUS_PORT: 'tcp://10.0.0.8:9090', DEBUG: 'express:*' }, URL_OF_FILE),
    ).toEqual({});
    expect(seedEnvironment({ PROMETHEUS_HOST: 'p', PROMETHEUS_PORT: 'tcp://10.0.0.8:9091' }, URL_OF_FILE)).toEqual({
      NDT_PODS_PROMETHEUS_URL: 'http://p:9091/',
    });
  });

  it('are refused by their own names', () => {
    const wrong: NodeJS.ProcessEnv[] = [
      { SCHEDULER_SECONDS: '0' },
      { SCHEDULER_SECONDS: 'soon' },
      { PROMETHEUS_POLLING_STEP: 'often' },
      { PROMETHEUS_PORT: '70000' },
      { KAFKA_IP: 'k', KAFKA_PORT: 'x' },
      { PROMETHEUS_HOST: 'http://p' },
      { KAFKA_IP: 'a b' },
    ];
    for (const env of wrong) {
      const name = Object.keys(env).at(-1);
      expect(() => seedEnvironment(env, URL_OF_FILE)).toThrow(
        new RegExp(`^environment variable ${name}: expected .*, got "${env[name ?? '']}"$`),
      );
    }
  });
});
