/** Topic templates: `TP_{router}` is one topic per router, `ndt.processed` one for all of them. */

const PLACE = '{router}';

export interface TopicSet {
  /** Whether a topic belongs to the template. */
  matches(topic: string): boolean;
  /** What was asked for, for messages. */
  readonly label: string;
}

/** The topic of one router. */
export function topicFor(template: string, router: string): string {
  return template.replace(PLACE, () => router);
}

/** All topics of the given templates, and of the names given as they are. */
export function topicsOf(...templates: string[]): TopicSet {
  const patterns = templates.map((template) => {
    const at = template.indexOf(PLACE);
    return at < 0
      ? { before: template, after: '', exact: true }
      : { before: template.slice(0, at), after: template.slice(at + PLACE.length), exact: false };
  });
  return {
    label: templates.join(', '),
    matches: (topic) =>
      patterns.some(({ before, after, exact }) =>
        exact ? topic === before : topic.length > before.length + after.length && topic.startsWith(before) && topic.endsWith(after),
      ),
  };
}
