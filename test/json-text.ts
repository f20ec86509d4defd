/** JSON texts laid out anew without being parsed: parsing would round large integers. */

/** Without the white space between the tokens. */
export function compactJson(text: string): string {
  return tokens(text).join('');
}

/** With every member on a line of its own, two spaces for each level. */
export function prettyJson(text: string): string {
  let out = '';
  let level = 0;
  const line = () => `\n${'  '.repeat(level)}`;
  const all = tokens(text);
  for (const [i, token] of all.entries()) {
    if (token === '{' || token === '[') {
      level++;
      out += token + (/^[}\]]$/.test(all[i + 1] ?? '') ? '' : line());
    } else if (token === '}' || token === ']') {
      level--;
      out += (/^[{[]$/.test(all[i - 1] ?? '') ? '' : line()) + token;
    } else out += token === ',' ? `,${line()}` : token === ':' ? ': ' : token;
  }
  return out;
}

function tokens(text: string): string[] {
  return text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];
}
