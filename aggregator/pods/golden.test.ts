/**
 * Golden cases: test/fixtures/pods/<case>/answers.json, what a real Prometheus 2.42 answered to each query over the example's exporter,
 * served by a real server, against expected.json, the messages, and told.json, what was logged and left out. settings.json has the
 * configuration and the moment. UPDATE_GOLDEN=1 writes the files anew.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { makePublisher, servePrometheus } from '../../test/pods.ts';

const CASES = fileURLToPath(new URL('../../test/fixtures/pods', import.meta.url));

describe.each(readdirSync(CASES))('%s', (name) => {
  it('gives what is expected', async () => {
    const file = (base: string) => join(CASES, name, base);
    const read = (base: string): unknown => (existsSync(file(base)) ? JSON.parse(readFileSync(file(base), 'utf8')) : undefined);
    const { now, pods } = read('settings.json') as { now: string; pods: object };
    const answers = read('answers.json') as { [query: string]: { status: string } };
    const { url, asked } = await servePrometheus(({ query }, _, response) => {
      const answer = answers[query];
      response.statusCode = answer?.status === 'success' ? 200 : 400;
      return answer ?? { status: 'error', errorType: 'bad_data', error: `not recorded: ${query}` };
    });
    const { publisher, log, metrics } = await makePublisher({ prometheus: { url }, ...pods });
    const messages = (await publisher.round(Date.parse(now))).map(({ value }) => JSON.parse(value.toString()) as unknown);
    const told = {
      result: publisher.lastResult,
      log: log.map((line) => line.replaceAll(url, 'http://prometheus')),
      dropped: metrics.print().match(/^ndt_pods_dropped_values_total\{.*$/gm) ?? [],
    };
    if (process.env.UPDATE_GOLDEN !== undefined) {
      writeFileSync(file('expected.json'), `${JSON.stringify(messages, null, 2)}\n`);
      writeFileSync(file('told.json'), `${JSON.stringify(told, null, 2)}\n`);
    }
    // As text, so that the order of the fields counts too.
    expect(JSON.stringify(messages, null, 2)).toBe(JSON.stringify(read('expected.json'), null, 2));
    expect(told).toEqual(read('told.json'));
    expect(new Set(asked.map(({ query }) => query))).toEqual(new Set(Object.keys(answers)));
    // No query is sent twice, also where two metrics need its answer.
    expect(asked).toHaveLength(Object.keys(answers).length);
  });
});
