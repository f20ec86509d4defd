/** The client's side of a SASL mechanism: kafkajs' own, loaded only where a user name is configured. */
import plain from 'kafkajs/src/broker/saslAuthenticator/plain.js';
import scram256 from 'kafkajs/src/broker/saslAuthenticator/scram256.js';
import scram512 from 'kafkajs/src/broker/saslAuthenticator/scram512.js';
import type { Endpoint } from './connection.ts';
import type { Sasl } from './settings.ts';

const MECHANISMS: { [name: string]: typeof plain } = { PLAIN: plain, 'SCRAM-SHA-256': scram256, 'SCRAM-SHA-512': scram512 };

/** kafkajs has each message with its length in front, as it once went over the wire. */
const LENGTH_BYTES = 4;

/**
 * Proves who we are.
 * @param exchange sends one message and returns the broker's
 * @throws whatever `exchange` throws; an Error of kafkajs where the broker cannot prove that it knows the password
 */
export async function authenticate(sasl: Sasl, { host, port }: Endpoint, exchange: (bytes: Buffer) => Promise<Buffer>): Promise<void> {
  const mechanism = MECHANISMS[sasl.mechanism];
  if (mechanism === undefined) throw new Error(`there is no mechanism ${sasl.mechanism}`);
  // kafkajs puts an error of its own around each.
  let failure: unknown;
  const saslAuthenticate = async ({ request, response }: SaslStep) => {
    try {
      const answer = await exchange((await request.encode()).subarray(LENGTH_BYTES));
      const length = Buffer.alloc(LENGTH_BYTES);
      length.writeInt32BE(answer.length);
      return response.parse(await response.decode(Buffer.concat([length, answer])));
    } catch (error) {
      failure = error;
      throw error;
    }
  };
  const nothing = () => {};
  try {
    await mechanism(sasl)({ host, port, logger: { debug: nothing, error: nothing }, saslAuthenticate }).authenticate();
  } catch (error) {
    throw failure ?? error;
  }
}

type SaslStep = Parameters<Parameters<ReturnType<typeof plain>>[0]['saslAuthenticate']>[0];
