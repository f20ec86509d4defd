/** Follows the aggregator's stream of figures (server-sent events). */
import { setTimeout as sleep } from 'node:timers/promises';

export interface LiveFigures {
  router: string;
  /** Event time [Unix s]. */
  at: number;
  /** [packets/s] */
  rate: number | null;
  /** [bytes] */
  length: number | null;
  /** [%] */
  occupation: number | null;
  /** [W] */
  power: number | null;
  /** Counter to inference. */
  latency_ms: number | null;
}

/** Calls `show` for every event until stopped; connects again when the stream breaks. */
export function follow(url: string, show: (figures: LiveFigures) => void): { stop: () => void } {
  const stop = new AbortController();
  const run = async () => {
    while (!stop.signal.aborted) {
      try {
        const response = await fetch(url, { signal: stop.signal });
        let text = '';
        const decoder = new TextDecoder();
        for await (const chunk of response.body ?? []) {
          text += decoder.decode(chunk as Uint8Array, { stream: true });
          const events = text.split('\n\n');
          text = events.pop() ?? '';
          for (const event of events) {
            const data = event.split('\n').find((line) => line.startsWith('data:'));
            if (data !== undefined) show(JSON.parse(data.slice(5)) as LiveFigures);
          }
        }
      } catch {
        // Cut or stopped; the loop tells which.
      }
      await sleep(500, undefined, { signal: stop.signal }).catch(() => {});
    }
  };
  void run();
  return { stop: () => stop.abort() };
}
