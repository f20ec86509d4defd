import { expect, it } from 'vitest';
import { topicFor, topicsOf } from './topics.ts';

it.each(['r1', 'a$$b', '$&', "$'", '$`', '$1', '{router}'])('names the topic of %s, and knows it again', (router) => {
  expect(topicFor('TP_{router}.x', router)).toBe(`TP_${router}.x`);
  expect(topicsOf('ndt.notices', 'TP_{router}.x').matches(topicFor('TP_{router}.x', router))).toBe(true);
});

it('is one topic for all routers without a place for their names', () => {
  expect(topicFor('ndt.processed', 'r1')).toBe('ndt.processed');
  expect(['ndt.processed', 'ndt.processed.r1', 'TP_'].map((topic) => topicsOf('ndt.processed', 'TP_{router}').matches(topic))).toEqual([
    true,
    false,
    false,
  ]);
});
