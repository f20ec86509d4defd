/** What is in a binary, for machines (CycloneDX 1.6) and with the licences' texts, for people. The same input gives the same bytes. */
import { createHash } from 'node:crypto';
import type { Component } from './components.ts';

export interface Described {
  name: string;
  version: string;
  summary: string;
  components: readonly Component[];
}

export function cycloneDx({ name, version, summary, components }: Described): string {
  const application = {
    type: 'application',
    'bom-ref': `${name}@${version}`,
    name,
    version,
    description: summary,
    licenses: [{ license: { id: 'Apache-2.0' } }],
  };
  const described = components.map((component) => ({
    type: component.name === 'node' ? 'platform' : 'library',
    'bom-ref': component.purl,
    ...scoped(component.name),
    version: component.version,
    ...(component.sha512 === undefined ? {} : { hashes: [{ alg: 'SHA-512', content: component.sha512 }] }),
    ...(component.licence === undefined ? {} : { licenses: [licenceOf(component.licence)] }),
    ...(component.cpe === undefined ? {} : { cpe: component.cpe }),
    purl: component.purl,
    ...(component.parts === undefined
      ? {}
      : {
          components: component.parts.map((part) => ({
            type: 'library',
            'bom-ref': `${component.purl}#${part.name}`,
            name: part.name,
            version: part.version,
          })),
        }),
  }));
  const content = {
    metadata: { lifecycles: [{ phase: 'build' }], component: application },
    components: described,
    dependencies: [
      { ref: application['bom-ref'], dependsOn: components.map(({ purl }) => purl) },
      ...components.map(({ purl }) => ({ ref: purl })),
    ],
  };
  return `${JSON.stringify({ $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json', bomFormat: 'CycloneDX', specVersion: '1.6', serialNumber: `urn:uuid:${uuidOf(JSON.stringify(content))}`, version: 1, ...content }, null, 2)}\n`;
}

/** `@pinojs/redact` is `redact` of the group `@pinojs`. */
function scoped(name: string): { group?: string; name: string } {
  const [group, rest] = name.split('/');
  return rest === undefined ? { name } : { ...(group === undefined ? {} : { group }), name: rest };
}

/** One identifier, or an expression of several. */
function licenceOf(licence: string): object {
  return /[ ()]/.test(licence) ? { expression: licence } : { license: { id: licence } };
}

/** A name-based UUID (RFC 9562, version 8): another content, another number. */
function uuidOf(text: string): string {
  const hex = createHash('sha256').update(text).digest('hex');
  const variant = ((Number.parseInt(hex.slice(16, 17), 16) & 0x3) | 0x8).toString(16);
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `${variant}${hex.slice(17, 20)}`, hex.slice(20, 32)].join('-');
}

export function licenceTexts({ name, version, components }: Described, own: string): string {
  const rule = '='.repeat(100);
  const parts = components.map((component) => {
    const texts = component.texts.map(({ file, text }) => (component.texts.length > 1 ? `${file}:\n\n${text}` : text));
    return `${rule}\n${component.name} ${component.version}${component.licence === undefined ? '' : ` (${component.licence})`}\n${rule}\n\n${texts.join('\n\n') || `Its package has no text of the licence; it says: ${component.licence}.`}\n`;
  });
  return [
    `${name} ${version} is under the following licence. What it contains of others follows after it.\n\n${own.trim()}\n`,
    ...parts,
  ].join('\n');
}
