/**
 * Whether the receiving side takes this agent: connected for real, with its own credentials.
 *
 * Over MQTT a second connection with the agent's client id would put the running agent out. So where it runs, and is connected, its
 * word is taken; only where it is not connected itself does the doctor try, to learn why.
 */
import { X509Certificate } from 'node:crypto';
import { withoutPassword } from '../../common/address.ts';
import { batchTopic } from '../../common/batch.ts';
import { agentIdOf, isLoopback, type Loaded } from '../../common/config.ts';
import { messageOf } from '../../common/errors.ts';
import { openMqtt } from '../../common/mqtt.ts';
import { MqttError } from '../../common/mqtt-errors.ts';
import type { TlsSettings } from '../../common/schema.ts';
import { readPemFiles } from '../../common/tls.ts';
import type { AgentState } from '../buffer/running.ts';
import { durationText } from '../buffer/text.ts';
import { type Finding, fail, failedBy, ok, warning } from './finding.ts';

const CHECK = 'uplink';
/** Time to renew a certificate in [days]. */
const RENEW_DAYS = 14;

export async function checkUplink(loaded: Loaded, agent: AgentState): Promise<Finding[]> {
  const { config } = loaded;
  const kafka = config.agent.uplink === 'kafka';
  const findings = checkCertificate(loaded, kafka ? config.kafka.tls : config.mqtt.tls, kafka ? 'kafka.tls' : 'mqtt.tls');
  if (kafka) {
    // Loads Kafka's client only where Kafka is used.
    const { checkKafka } = await import('./kafka.ts');
    return [...findings, ...(await checkKafka(loaded))];
  }
  return [...findings, ...(await checkMqtt(loaded, agent))];
}

async function checkMqtt(loaded: Loaded, agent: AgentState): Promise<Finding[]> {
  const { url } = loaded.config.mqtt;
  const findings = inTheClear(loaded);
  if (agent.state === 'running' && agent.figures.get('ndt_uplink_connected') === 1) {
    return [...findings, ok(CHECK, `the running agent is connected to ${url}`)];
  }
  if (agent.state === 'silent' || agent.state === 'hidden') {
    const text = `whether the agent is connected to ${url} cannot be told, and trying would put it out if it is`;
    return [...findings, warning(CHECK, text, agent.why)];
  }
  const tried = await connect(loaded);
  if (agent.state === 'running' && tried.health === 'ok') {
    return [
      ...findings,
      warning(
        CHECK,
        `the running agent is not connected, though ${url} takes it now`,
        'it tries again by itself; look again in 15 s, then into its log',
      ),
    ];
  }
  return [...findings, tried];
}

/** Connects as the agent does, and publishes a batch with nothing in it, which changes nothing wherever it arrives. */
async function connect(loaded: Loaded): Promise<Finding> {
  const { mqtt } = loaded.config;
  const id = agentIdOf(loaded.config);
  const started = performance.now();
  try {
    const connection = await openMqtt(
      {
        loaded,
        settings: mqtt,
        option: 'mqtt',
        who: `agent "${id}"`,
        clientId: id,
        username: id,
        clean: true,
        timeoutMs: mqtt.timeout * 1000,
      },
      new AbortController().signal,
    );
    const took = durationText(performance.now() - started);
    try {
      // Bare records are for other people's subscribers: nothing that is no record is sent to them.
      if (mqtt.format === 'plain')
        return ok(CHECK, `${withoutPassword(mqtt.url)} takes agent "${id}" (${took}); whether it may publish to ndt/… was not tried`);
      return await publish(connection, batchTopic(id), `${withoutPassword(mqtt.url)} takes agent "${id}" (${took})`);
    } finally {
      await connection.close();
    }
  } catch (error) {
    if (error instanceof MqttError) return fail(CHECK, messageOf(error));
    throw error;
  }
}

async function publish(connection: Awaited<ReturnType<typeof openMqtt>>, topic: string, taken: string): Promise<Finding> {
  try {
    await connection.publish(topic, '');
    return ok(CHECK, `${taken}, and what it publishes to ${topic}`);
  } catch (error) {
    if (!(error instanceof MqttError)) throw error;
    if (error.reason !== 'closed') return fail(CHECK, messageOf(error));
    return fail(
      CHECK,
      `${taken}, but hangs up when it publishes to ${topic}`,
      'let it write there in the broker’s access list; the broker’s log says why',
    );
  }
}

function inTheClear({ config }: Loaded): Finding[] {
  const { url, password, password_file, tls } = config.mqtt;
  const host = URL.parse(url)?.hostname.replace(/^\[|\]$/g, '') ?? '';
  if ((password === undefined && password_file === undefined) || tls !== undefined || url.startsWith('mqtts:') || isLoopback(host))
    return [];
  return [
    warning(
      CHECK,
      `the password goes to ${host} in the clear`,
      'write mqtts:// in mqtt.url, and set mqtt.tls.ca_file where the authority is your own',
    ),
  ];
}

/** Our own certificate: readable, fitting its key, and valid for a while yet. */
function checkCertificate(loaded: Loaded, tls: TlsSettings | undefined, option: string): Finding[] {
  if (tls === undefined) return [];
  const check = 'certificate';
  let pem: ReturnType<typeof readPemFiles>;
  try {
    pem = readPemFiles(loaded, tls, option);
  } catch (error) {
    return [failedBy(check, error)];
  }
  if (pem.cert === undefined) return [];
  const certificate = new X509Certificate(pem.cert);
  const daysLeft = (new Date(certificate.validTo).getTime() - Date.now()) / 86_400_000;
  const what = `${option}.cert_file (${certificate.subject.replaceAll('\n', ', ')})`;
  if (daysLeft < 0)
    return [fail(check, `${what} has expired on ${certificate.validTo}`, 'renew it; the agent takes the new file at its next connection')];
  if (new Date(certificate.validFrom).getTime() > Date.now())
    return [fail(check, `${what} is not valid before ${certificate.validFrom}`, 'check this machine’s clock, or wait')];
  if (daysLeft < RENEW_DAYS) return [warning(check, `${what} expires in ${durationText(daysLeft * 86_400_000)}`, 'renew it')];
  return [ok(check, `${what} is valid until ${certificate.validTo}`)];
}
