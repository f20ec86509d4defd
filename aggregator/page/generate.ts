/**
 * Makes page.js, the page's script, out of its sources: types blanked out by Node, files put one after the other in one scope. That is
 * all the page needs of a bundler, and what runs in the browser stays what stands in the sources.
 */
import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { Script } from 'node:vm';

/** Each only uses what stands before it. */
const FILES = ['format.ts', 'series.ts', 'elements.ts', 'connection.ts', 'routers.ts', 'charts.ts', 'accounts.ts', 'page.ts'];

const IMPORT = /^import\s(?:[^'";]*?)from '([^']+)';$/gm;
const EXPORT = /^export (?=(?:async function|function|class|const|let)\b)/gm;

/**
 * The text of page.js.
 * @throws Error where a source imports what is not part of the page, or two of them declare one name
 */
export function generatedPage(): string {
  const parts = FILES.map((file, i) => {
    const source = readFileSync(new URL(file, import.meta.url), 'utf8');
    const script = stripTypeScriptTypes(source)
      .replace(IMPORT, (_statement, from: string) => {
        if (!FILES.slice(0, i).includes(from.replace('./', '')))
          throw new Error(`${file} imports ${from}, which is no file of the page before it`);
        return '';
      })
      .replace(EXPORT, '');
    const left = /^(?:import|export)\b.*$/m.exec(script);
    if (left !== null) throw new Error(`${file}: "${left[0]}" is a form that the page's sources cannot have`);
    return `// ${file}\n\n${script
      .replace(/[ \t]+$/gm, '')
      .replace(/\n{3,}/g, '\n\n')
      .trim()}\n`;
  });
  const page = `// Made from the .ts files beside it by \`npm run generate\`.\n\n'use strict';\n(() => {\n${parts.join('\n')}\n})();\n`;
  // Throws where two files declare one name.
  new Script(page, { filename: 'page.js' });
  return page;
}
