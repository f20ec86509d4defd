/** Which of a router's interfaces are monitored. */

export interface Choice {
  /** In the order in which they were offered. */
  chosen: string[];
  /** Names asked for without a pattern that were not offered. */
  missing: string[];
}

/** Chooses by names and by patterns with `*`. A pattern never takes an excluded interface; a name does. */
export class InterfaceFilter {
  private readonly names: ReadonlySet<string>;
  private readonly patterns: readonly string[];
  private readonly excluded: readonly string[];

  constructor(wanted: readonly string[], excluded: readonly string[]) {
    this.names = new Set(wanted.filter((name) => !name.includes('*')));
    this.patterns = wanted.filter((name) => name.includes('*'));
    this.excluded = excluded;
  }

  takes(name: string): boolean {
    if (this.names.has(name)) return true;
    return this.patterns.some((pattern) => matches(pattern, name)) && !this.excluded.some((pattern) => matches(pattern, name));
  }

  choose(offered: Iterable<string>): Choice {
    const all = new Set(offered);
    return {
      chosen: [...all].filter((name) => this.takes(name)),
      missing: [...this.names].filter((name) => !all.has(name)),
    };
  }
}

/** Whether a name is of a pattern in which `*` stands for any text, also none. Linear: names come from outside. */
export function matches(pattern: string, name: string): boolean {
  const [first = '', ...parts] = pattern.split('*');
  const last = parts.pop();
  if (last === undefined) return name === pattern;
  if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) return false;
  const end = name.length - last.length;
  let at = first.length;
  for (const part of parts) {
    const found = name.indexOf(part, at);
    if (found < 0 || found + part.length > end) return false;
    at = found + part.length;
  }
  return true;
}
