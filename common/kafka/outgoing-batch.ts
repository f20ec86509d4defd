/**
 * What comes of a batch, on its way out: the outcome's messages and state. A message that its topic refuses becomes a dead letter, where
 * someone can look at it, and the stream goes on. Where the topic of the dead letters refuses it as well, one without value and headers
 * is tried, and then none: a record that can be put nowhere must not stop those behind it.
 */
import type { Message, Outcome } from '../bus.ts';
import type { Outgoing } from './batches.ts';
import type { RecordRefused } from './errors.ts';
import { isTopicName } from './topic-maker.ts';

type DeadLetter = (message: Message, reason: string) => Message;

interface Item {
  message: Outgoing;
  /** As the stage gave it; undefined for a piece of state, which has no other place to go to. */
  given?: Message;
  /** What `message` is of it. */
  form: 'itself' | 'letter' | 'envelope';
}

const NOTHING = Buffer.alloc(0);

export class OutgoingBatch {
  private items: Item[];
  private readonly deadLetter: DeadLetter;

  constructor(outcome: Outcome | undefined, stateTopic: string, deadLetter: DeadLetter) {
    this.deadLetter = deadLetter;
    this.items = (outcome?.append ?? []).map((given) => {
      // Before the topics are looked for: one name that no broker takes would fail the whole batch, for ever.
      if (isTopicName(given.topic)) return { message: given, given, form: 'itself' };
      const reason = `no topic of Kafka can be called ${JSON.stringify(given.topic.slice(0, 80))}`;
      return { message: deadLetter(given, reason), given, form: 'letter' };
    });
    for (const [key, value] of outcome?.state ?? [])
      this.items.push({ message: { topic: stateTopic, key, headers: {}, value }, form: 'itself' });
  }

  get messages(): Outgoing[] {
    return this.items.map(({ message }) => message);
  }

  /**
   * Puts something else in the place of what was refused.
   * @param refusal of one record
   * @returns what to tell about it; undefined where nothing else can be put there
   */
  refused({ topic, type, indices }: RecordRefused): string | undefined {
    const item = this.items[indices[0] ?? -1];
    if (item?.given === undefined) return undefined;
    const { given } = item;
    if (item.form === 'itself') {
      item.message = this.deadLetter(given, type);
      item.form = 'letter';
      return `${topic} refuses a record of ${given.value.length} bytes (${type}); it goes to the dead letters: raise max.message.bytes of the topic`;
    }
    if (item.form === 'letter') {
      item.message = this.deadLetter({ ...given, headers: {}, value: NOTHING }, type);
      item.form = 'envelope';
      return `${topic} refuses a dead letter (${type}); it is written without its value and headers: raise max.message.bytes of the topic`;
    }
    this.items = this.items.filter((other) => other !== item);
    return `${topic} refuses a dead letter even without its value and headers (${type}); a record for ${given.topic.slice(0, 80)} is dropped: look at max.message.bytes and cleanup.policy of the topic`;
  }
}
