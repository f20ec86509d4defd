/** Agents' batches that come over MQTT onto Apache Kafka. */
import { type Bus, HEADER, type Message } from '../common/bus.ts';
import type { SeqSets } from '../common/dedupe.ts';
import { messageOf, NdtError } from '../common/errors.ts';
import type { Ingestor } from './ingress.ts';

/** Of a record that its topic refuses. */
const DEAD_LETTER_BYTES = 64 * 1024;

/**
 * Appends what has not arrived here before, by `(ndt-agent, ndt-seq)`. A number counts as arrived only once Kafka has confirmed its record:
 * a record is never left out. One can come twice, where this process is killed between the confirmation and its own commit, or where the
 * agent goes on at another instance; the store keeps each once all the same.
 */
export class KafkaIngestor implements Ingestor {
  private readonly bus: Pick<Bus, 'append'>;
  private readonly seen: SeqSets;
  private readonly deadLetterTopic: string;
  /** The write that an agent's next one waits for: a batch that is sent again may overtake its first try otherwise. */
  private readonly last = new Map<string, Promise<unknown>>();

  constructor(bus: Pick<Bus, 'append'>, seen: SeqSets, deadLetterTopic: string) {
    this.bus = bus;
    this.seen = seen;
    this.deadLetterTopic = deadLetterTopic;
  }

  /**
   * Messages without a sequence number are always new. One that its topic refuses for good becomes a dead letter: sent again, it would
   * hold its agent up for ever.
   * @returns the messages that were new, when they are durable
   */
  async ingest(messages: Message[]): Promise<Message[]> {
    const agent = messages.find(({ headers }) => headers[HEADER.agent] !== undefined)?.headers[HEADER.agent] ?? '';
    const before = this.last.get(agent) ?? Promise.resolve();
    const mine = before.catch(() => {}).then(() => this.write(messages));
    this.last.set(agent, mine);
    try {
      return await mine;
    } finally {
      if (this.last.get(agent) === mine) this.last.delete(agent);
    }
  }

  private async write(messages: Message[]): Promise<Message[]> {
    const here = new Set<string>();
    const fresh = messages.filter((message) => {
      const number = numberOf(message);
      if (number === undefined) return true;
      const id = `${number.seq} ${number.agent}`;
      if (here.has(id) || this.seen.has(number.agent, number.seq)) return false;
      here.add(id);
      return true;
    });
    await Promise.all(fresh.map((message) => this.append(message)));
    this.seen.addAll(messages.map(numberOf).filter((number) => number !== undefined));
    return fresh;
  }

  /** What is asked for in one turn of the event loop is one write. */
  private async append(message: Message): Promise<void> {
    try {
      await this.bus.append([message]);
    } catch (error) {
      if (!(error instanceof NdtError && error.code === 'DATA')) throw error;
      const { topic, key, headers, value } = message;
      const why = { ...headers, [HEADER.reason]: messageOf(error), [HEADER.origin]: topic };
      await this.bus.append([{ topic: this.deadLetterTopic, key, headers: why, value: value.subarray(0, DEAD_LETTER_BYTES) }]);
    }
  }
}

function numberOf({ headers }: Message): { agent: string; seq: number } | undefined {
  const agent = headers[HEADER.agent];
  const seq = headers[HEADER.seq];
  return agent === undefined || seq === undefined ? undefined : { agent, seq: Number(seq) };
}
