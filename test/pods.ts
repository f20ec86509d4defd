/** For tests of the pods' publisher: a server with Prometheus' API, a bus that keeps what it is given, and publishers. */
import { writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { PodsPublisher } from '../aggregator/pods/publisher.ts';
import type { Bus, Message } from '../common/bus.ts';
import { loadConfig } from '../common/config.ts';
import { openLogger } from '../common/logger.ts';
import { Metrics } from '../common/metrics.ts';
import { serve } from './serve.ts';
import { tempDir } from './tempdir.ts';

export const CONTAINER = '959a1de912ce454a9a1de912ce654ae9';

/** Unix ms of a time of the day that the tests live on. */
export const at = (time: string) => Date.parse(`2019-02-13T${time}Z`);

export interface Asked {
  query: string;
  startMs: number;
  endMs: number;
  stepMs: number;
}

export function askedOf(request: IncomingMessage): Asked {
  const { searchParams } = new URL(request.url ?? '', 'http://localhost');
  const ms = (name: string) => Math.round(Number(searchParams.get(name)) * 1000);
  return { query: searchParams.get('query') ?? '', startMs: ms('start'), endMs: ms('end'), stepMs: ms('step') };
}

/** An answer with a value for each time asked for: its Unix seconds. */
export function matrix({ startMs, endMs, stepMs }: Asked, containers: string[] = [CONTAINER]): object {
  const values: Array<[number, string]> = [];
  for (let ms = startMs; ms <= endMs; ms += stepMs) values.push([ms / 1000, String(ms / 1000)]);
  const result = containers.map((container) => ({ metric: { id: `/kubepods/pod1/${container}` }, values }));
  return { status: 'success', data: { resultType: 'matrix', result } };
}

export type Answer = (
  asked: Asked,
  request: IncomingMessage,
  response: ServerResponse,
) => object | string | undefined | Promise<object | undefined>;

/**
 * A server with the API. What `answer` returns is sent as it is, objects as JSON; on undefined it has answered itself.
 * @returns its address, and what it was asked, as it comes
 */
export async function servePrometheus(answer: Answer = (asked) => matrix(asked)): Promise<{ url: string; asked: Asked[] }> {
  const asked: Asked[] = [];
  const { url } = await serve(async (request, response) => {
    const one = askedOf(request);
    asked.push(one);
    const body = await answer(one, request, response);
    if (body === undefined) return;
    response.setHeader('content-type', 'application/json');
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  });
  return { url, asked };
}

export class KeptBus implements Pick<Bus, 'append'> {
  readonly messages: Message[] = [];
  append(messages: Message[]): Promise<void> {
    this.messages.push(...messages);
    return Promise.resolve();
  }
  /** `metric container timestamp=value` of all that came, in order. */
  lines(): string[] {
    return this.messages.flatMap(({ value }) => linesOf(value));
  }
}

/** `metric timestamp=value` of a message. */
export function linesOf(value: Buffer): string[] {
  const message = JSON.parse(value.toString()) as { metric_type: string; data: Array<{ timestamp: string; value: string }> };
  return message.data.map(({ timestamp, value: text }) => `${message.metric_type} ${timestamp.slice(11, 19)}=${text}`);
}

export interface Rig {
  publisher: PodsPublisher;
  metrics: Metrics;
  /** Messages logged, one a line. */
  log: string[];
  dir: string;
  /** The value of a metric of its own, as the exposition has it. */
  value(series: string): number;
}

/** A publisher on a folder, with the given section `pods` over a short list of metrics. */
export async function makePublisher(
  pods: object,
  { dir = tempDir(), bus }: { dir?: string; bus?: Pick<Bus, 'append'> } = {},
): Promise<Rig> {
  const file = join(dir, 'ndt.json');
  writeFileSync(
    file,
    JSON.stringify({ data_dir: 'data', pods: { delay: 0, metrics: [{ name: 'a', type: 'gauge', unit: 'bytes' }], ...pods } }),
  );
  const loaded = loadConfig(file, {});
  const log: string[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _, done) {
      log.push((JSON.parse(chunk.toString()) as { msg: string }).msg);
      done();
    },
  });
  const metrics = new Metrics();
  const publisher = new PodsPublisher({
    loaded,
    metrics,
    log: await openLogger('pods', { level: 'info', format: 'json' }, stream),
    ...(bus === undefined ? {} : { bus }),
  });
  const value = (series: string) => {
    const line = metrics
      .print()
      .split('\n')
      .find((one) => one.startsWith(`${series} `));
    return Number(line?.slice(series.length + 1) ?? 0);
  };
  return { publisher, metrics, log, dir, value };
}
