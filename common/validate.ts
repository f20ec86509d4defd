/**
 * Checks a value against the JSON Schema that is made from `schema.ts`, and fills in its defaults: the part of the language that our
 * schema uses. The library that the schema is written with does all of it and more, and takes 16 MB of an agent's memory for that.
 */

import { withoutPassword } from './address.ts';

export interface Schema {
  type?: string;
  description?: string;
  default?: unknown;
  properties?: { [name: string]: Schema };
  required?: string[];
  additionalProperties?: boolean;
  patternProperties?: { [pattern: string]: Schema };
  items?: Schema;
  enum?: unknown[];
  minimum?: number;
  exclusiveMinimum?: number;
  maximum?: number;
  minLength?: number;
  minItems?: number;
  pattern?: string;
}

export interface Violation {
  /** Where, as the names and indexes on the way there. */
  at: string[];
  text: string;
}

type Fields = { [name: string]: unknown };

const isObject = (value: unknown): value is Fields => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The value with defaults where something is missing. What is there is not touched, whatever its shape. */
export function withDefaults(schema: Schema, value: unknown): unknown {
  const present = value === undefined ? structuredClone(schema.default) : value;
  if (schema.properties !== undefined && isObject(present)) {
    const filled: Fields = { ...present };
    for (const [name, child] of Object.entries(schema.properties)) {
      const inner = withDefaults(child, filled[name]);
      if (inner !== undefined) filled[name] = inner;
    }
    return filled;
  }
  const entry = Object.values(schema.patternProperties ?? {})[0];
  if (entry !== undefined && isObject(present))
    return Object.fromEntries(Object.entries(present).map(([name, inner]) => [name, withDefaults(entry, inner)]));
  const { items } = schema;
  return items !== undefined && Array.isArray(present) ? present.map((inner: unknown) => withDefaults(items, inner)) : present;
}

/** What the schema does not allow, each with what was expected. */
export function violations(schema: Schema, value: unknown, at: string[] = []): Violation[] {
  if (!fits(schema, value)) {
    const got = typeof value === 'string' && schema.pattern?.includes('://') === true ? withoutPassword(value) : value;
    return [{ at, text: `expected ${expectation(schema)}, got ${JSON.stringify(got)?.slice(0, 60)}` }];
  }
  if (Array.isArray(value)) {
    const { items } = schema;
    return items === undefined ? [] : value.flatMap((inner: unknown, i) => violations(items, inner, [...at, String(i)]));
  }
  if (!isObject(value)) return [];
  const missing = (schema.required ?? []).filter((name) => value[name] === undefined);
  return [
    ...missing.map((name) => ({ at: [...at, name], text: `expected ${expectation(schema.properties?.[name] ?? {})}, but it is missing` })),
    ...Object.entries(value).flatMap(([name, inner]) => {
      const child =
        (Object.hasOwn(schema.properties ?? {}, name) ? schema.properties?.[name] : undefined) ??
        Object.entries(schema.patternProperties ?? {}).find(([pattern]) => new RegExp(pattern).test(name))?.[1];
      if (child !== undefined) return violations(child, inner, [...at, name]);
      if (schema.additionalProperties !== false && schema.patternProperties === undefined) return [];
      const known = Object.keys(schema.properties ?? {});
      const pattern = Object.keys(schema.patternProperties ?? {})[0];
      const text =
        pattern === undefined || known.length > 0 ? `there is no such option${suggestion(name, known)}` : `a name must match ${pattern}`;
      return [{ at: [...at, name], text }];
    }),
  ];
}

function fits(schema: Schema, value: unknown): boolean {
  if (schema.enum !== undefined) return schema.enum.includes(value);
  switch (schema.type) {
    case 'string':
      return (
        typeof value === 'string' &&
        value.length >= (schema.minLength ?? 0) &&
        (schema.pattern === undefined || new RegExp(schema.pattern, 'u').test(value))
      );
    case 'integer':
    case 'number':
      return (
        typeof value === 'number' &&
        (schema.type === 'number' ? Number.isFinite(value) : Number.isSafeInteger(value)) &&
        value >= (schema.minimum ?? Number.NEGATIVE_INFINITY) &&
        value <= (schema.maximum ?? Number.POSITIVE_INFINITY) &&
        value > (schema.exclusiveMinimum ?? Number.NEGATIVE_INFINITY)
      );
    case 'boolean':
      return typeof value === 'boolean';
    case 'array':
      return Array.isArray(value) && value.length >= (schema.minItems ?? 0);
    case 'object':
      return isObject(value);
    default:
      return true;
  }
}

/** What a schema wants, in words. */
export function expectation(schema: Schema): string {
  if (schema.enum !== undefined) return `one of ${schema.enum.map((value) => JSON.stringify(value)).join(', ')}`;
  const kinds: { [type: string]: string } = {
    string: 'text',
    integer: 'a whole number',
    number: 'a number',
    boolean: 'true or false',
    array: 'a list',
    object: 'an object',
  };
  const { minimum, maximum, exclusiveMinimum, pattern, minLength, minItems } = schema;
  const range =
    minimum !== undefined && maximum !== undefined
      ? ` from ${minimum} to ${maximum}`
      : minimum !== undefined
        ? `, at least ${minimum}`
        : exclusiveMinimum !== undefined
          ? ` above ${exclusiveMinimum}${maximum === undefined ? '' : `, at most ${maximum}`}`
          : '';
  const shape =
    pattern !== undefined
      ? ` that matches ${pattern}`
      : minLength !== undefined
        ? ` of at least ${minLength} characters`
        : minItems !== undefined
          ? ` of at least ${minItems}`
          : '';
  return `${kinds[schema.type ?? ''] ?? 'something else'}${range}${shape}`;
}

/** What was probably meant, or what there is. */
export function suggestion(name: string, known: string[]): string {
  const near = known.find((other) => distance(other, name) <= 2);
  if (near !== undefined) return `; did you mean "${near}"?`;
  return known.length === 0 ? '' : `; there are: ${known.join(', ')}`;
}

/** Edits from one word to the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next[j] = Math.min((next[j - 1] ?? 0) + 1, (row[j] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
