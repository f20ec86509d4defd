/** Writes families in the text format or in OpenMetrics, so that `parseExposition` gives the same families back. */

import type { Label } from '../common/record.ts';
import type { ExposedFamily } from './exposition.ts';

/**
 * @param families as `parseExposition` returns them. Made by hand, they must keep its rules: family names are unique and are not
 *   the sample names of another family; a sample's `name` is the family's with a suffix of its type; label names are unique in
 *   a sample; values are numbers as text; timestamps are in the unit of the format; no description ends in a carriage return.
 * @param format `text` is the Prometheus text format 0.0.4, which cannot carry units and exemplars: they are left out.
 */
export function printExposition(families: readonly ExposedFamily[], format: 'text' | 'openmetrics' = 'text'): string {
  const open = format === 'openmetrics';
  let page = '';
  for (const family of families) {
    const name = METRIC_NAME.test(family.name) ? family.name : quoted(family.name);
    // OpenMetrics has no type `untyped`: a family without a TYPE line is of that type, and its HELP line announces it.
    const typed = !(open && family.type === 'untyped');
    if (family.description !== '' || !typed) page += `# HELP ${name} ${escaped(family.description, open)}\n`;
    if (typed) page += `# TYPE ${name} ${family.type}\n`;
    if (open && family.unit !== undefined) page += `# UNIT ${name} ${family.unit}\n`;
    for (const sample of family.values) {
      page += `${series(sample.name ?? family.name, sample.labels)} ${sample.value}`;
      if (sample.timestamp !== undefined) page += ` ${sample.timestamp}`;
      if (open && sample.exemplar !== undefined) {
        page += ` # {${sample.exemplar.labels.map(pair).join()}} ${sample.exemplar.value}`;
        if (sample.exemplar.timestamp !== undefined) page += ` ${sample.exemplar.timestamp}`;
      }
      page += '\n';
    }
  }
  return open ? `${page}# EOF\n` : page;
}

const METRIC_NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

/** `name{a="b"}`, or with the name in the braces where it needs quotes: `{"my.name",a="b"}`. */
function series(name: string, labels: readonly Label[]): string {
  const pairs = labels.map(pair);
  if (!METRIC_NAME.test(name)) return `{${[quoted(name), ...pairs].join()}}`;
  return pairs.length === 0 ? name : `${name}{${pairs.join()}}`;
}

function pair({ name, value }: Label): string {
  return `${LABEL_NAME.test(name) ? name : quoted(name)}=${quoted(value)}`;
}

function quoted(text: string): string {
  return `"${escaped(text, true)}"`;
}

function escaped(text: string, quotes: boolean): string {
  return text.replace(quotes ? /[\\\n"]/g : /[\\\n]/g, (c) => (c === '\n' ? '\\n' : `\\${c}`));
}
