/** Where things stand in a JSON text that a person wrote: for messages with line and column. */

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/**
 * The line of a value in a valid text, counted from 1; of the nearest one around it that is there, where it is not.
 * @param path names and indexes on the way to the value
 */
export function lineOf(text: string, path: readonly string[]): number {
  // The way to where we are: in an object the last name read, in a list the index.
  const way: Array<{ list: boolean; at: string }> = [];
  let best = { depth: 0, offset: text.length - text.trimStart().length };
  let expectsName = false;
  const seen = (offset: number) => {
    const depth = way.findIndex(({ at }, i) => at !== path[i]);
    const matched = depth < 0 ? way.length : depth;
    if (matched === way.length && matched > best.depth && matched <= path.length) best = { depth: matched, offset };
  };
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    const inner = way.at(-1);
    if (token === '{' || token === '[') {
      seen(index);
      way.push({ list: token === '[', at: token === '[' ? '0' : '' });
      expectsName = token === '{';
    } else if (token === '}' || token === ']') {
      way.pop();
      expectsName = false;
    } else if (token === ',') {
      if (inner?.list === true) inner.at = String(Number(inner.at) + 1);
      else expectsName = true;
    } else if (token !== ':') {
      if (expectsName && inner !== undefined) {
        inner.at = JSON.parse(token) as string;
        expectsName = false;
      } else seen(index);
    }
  }
  return text.slice(0, best.offset).split('\n').length;
}

/** The first name that stands twice in one object of a valid text: JSON keeps the last one and drops what the others say. */
export function repeatedName(text: string): { line: number; column: number; name: string } | undefined {
  const inner: Array<Set<string> | undefined> = [];
  let expectsName = false;
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    const names = inner.at(-1);
    if (token === '{' || token === '[') {
      inner.push(token === '{' ? new Set() : undefined);
      expectsName = token === '{';
    } else if (token === '}' || token === ']') {
      inner.pop();
      expectsName = false;
    } else if (token === ',') expectsName = names !== undefined;
    else if (expectsName && names !== undefined && token !== ':') {
      const name = JSON.parse(token) as string;
      if (names.has(name)) {
        const before = text.slice(0, index).split('\n');
        return { line: before.length, column: (before.at(-1)?.length ?? 0) + 1, name };
      }
      names.add(name);
      expectsName = false;
    }
  }
  return undefined;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids them in texts
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SCALAR = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;

class Fault extends Error {
  readonly offset: number;
  constructor(offset: number, expected: string) {
    super(expected);
    this.offset = offset;
  }
}

/** Where and why a text is no JSON; undefined when it is. `JSON.parse` tells that there is a fault, but not always where. */
export function parseFault(text: string): { line: number; column: number; expected: string } | undefined {
  let at = 0;
  const skip = () => {
    while (/[ \t\r\n]/.test(text[at] ?? '')) at += 1;
  };
  const take = (pattern: RegExp, expected: string) => {
    pattern.lastIndex = at;
    if (!pattern.test(text)) throw new Fault(at, expected);
    at = pattern.lastIndex;
    skip();
  };
  const char = (wanted: string) => {
    if (text[at] !== wanted) return false;
    at += 1;
    skip();
    return true;
  };
  const items = (end: string, item: () => void) => {
    if (char(end)) return;
    do item();
    while (char(','));
    if (!char(end)) throw new Fault(at, `a comma or "${end}"`);
  };
  const value = () => {
    if (char('{')) {
      items('}', () => {
        take(STRING, 'a name in double quotes');
        if (!char(':')) throw new Fault(at, 'a colon');
        value();
      });
    } else if (char('[')) items(']', value);
    else
      take(
        text[at] === '"' ? STRING : SCALAR,
        text[at] === '"' ? 'text that ends with double quotes, control characters escaped' : 'a value',
      );
  };
  try {
    skip();
    value();
    if (at < text.length) throw new Fault(at, 'nothing more');
    return undefined;
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    const before = text.slice(0, error.offset).split('\n');
    return { line: before.length, column: (before.at(-1)?.length ?? 0) + 1, expected: error.message };
  }
}
