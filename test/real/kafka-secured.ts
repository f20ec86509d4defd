/** A broker that wants TLS, passwords and rights: one listener with SCRAM or PLAIN, one with client certificates. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { freePort } from '../ports.ts';
import { type Certificates, makeCertificates } from './certificates.ts';
import { type Kafka, startKafka } from './kafka.ts';

export interface SecuredKafka {
  kafka: Kafka;
  certificates: Certificates;
  /** `localhost:port`, TLS and a password: alice (SCRAM), bob (SCRAM), carol (PLAIN); each's password is `NAME-secret`. */
  withPassword: string;
  /** `localhost:port`, TLS and a client certificate. */
  withCertificate: string;
  /** `127.0.0.1:port`, without anything; whoever comes here may do everything. */
  internal: string;
  /** Gives a user (`alice`, or `CN=edge`) a right, all of them where none is named, to every topic, group and transactional id that begins so. */
  allow(user: string, prefix: string, operation?: 'ALL' | 'DESCRIBE'): Promise<void>;
}

/** How long a sign-in by password lasts. */
export const SIGN_IN_MS = 3000;

/** @param dir of the test's own, for the certificates */
export async function startSecuredKafka(dir: string): Promise<SecuredKafka> {
  const certificates = makeCertificates(dir);
  const keystore = join(dir, 'broker.pem');
  writeFileSync(keystore, readFileSync(certificates.server.key, 'utf8') + readFileSync(certificates.server.cert, 'utf8'), { mode: 0o600 });
  const internal = await freePort();
  const certified = await freePort();
  const login = (name: string) => `org.apache.kafka.common.security.${name} required`;
  const kafka = await startKafka({
    properties: {
      listeners: `SECURE://127.0.0.1:{port},CERTIFIED://127.0.0.1:${certified},INTERNAL://127.0.0.1:${internal},CONTROLLER://127.0.0.1:{controller}`,
      'advertised.listeners': `SECURE://localhost:{port},CERTIFIED://localhost:${certified},INTERNAL://127.0.0.1:${internal}`,
      'listener.security.protocol.map': 'SECURE:SASL_SSL,CERTIFIED:SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT',
      'inter.broker.listener.name': 'INTERNAL',
      'sasl.enabled.mechanisms': 'SCRAM-SHA-256,SCRAM-SHA-512,PLAIN',
      'listener.name.secure.scram-sha-256.sasl.jaas.config': `${login('scram.ScramLoginModule')};`,
      'listener.name.secure.scram-sha-512.sasl.jaas.config': `${login('scram.ScramLoginModule')};`,
      'listener.name.secure.plain.sasl.jaas.config': `${login('plain.PlainLoginModule')} user_carol="carol-secret";`,
      // Who has not signed in again by then is cut off.
      'connections.max.reauth.ms': SIGN_IN_MS,
      'ssl.keystore.type': 'PEM',
      'ssl.keystore.location': keystore,
      'ssl.truststore.type': 'PEM',
      'ssl.truststore.location': certificates.ca,
      'listener.name.certified.ssl.client.auth': 'required',
      'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
      'super.users': 'User:ANONYMOUS',
    },
    scram: ['alice', 'bob'].flatMap((name) => [
      `SCRAM-SHA-256=[name=${name},password=${name}-secret]`,
      `SCRAM-SHA-512=[name=${name},password=${name}-secret]`,
    ]),
  });
  const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, Kafka: Client, logLevel, ResourcePatternTypes } = kafkajs;
  const allow = async (user: string, prefix: string, operation: 'ALL' | 'DESCRIBE' = 'ALL') => {
    const admin = new Client({ brokers: [`127.0.0.1:${internal}`], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    const resources = [AclResourceTypes.TOPIC, AclResourceTypes.GROUP, AclResourceTypes.TRANSACTIONAL_ID];
    await admin.createAcls({
      acl: resources.map((resourceType) => ({
        resourceType,
        resourceName: prefix,
        resourcePatternType: ResourcePatternTypes.PREFIXED,
        principal: `User:${user}`,
        host: '*',
        operation: AclOperationTypes[operation],
        permissionType: AclPermissionTypes.ALLOW,
      })),
    });
    await admin.disconnect();
  };
  return {
    kafka,
    certificates,
    withPassword: `localhost:${kafka.port}`,
    withCertificate: `localhost:${certified}`,
    internal: `127.0.0.1:${internal}`,
    allow,
  };
}
