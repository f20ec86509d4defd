/** What is installed besides the binary: the same for the Debian package and for the archive with install.sh. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PACKAGED, type ProgramName } from '../package/programs.ts';

export interface Installed {
  path: string;
  mode: number;
  content: string;
}

/** Fills the places of a template in packaging/. */
export function template(root: string, name: ProgramName, file: string): string {
  const places: { [place: string]: string } = {
    PACKAGE: name,
    PROGRAM: name.replace(/^ndt-/, ''),
    SUMMARY: PACKAGED[name].summary,
    BINARY: `/usr/bin/${name}`,
    LINKS: PACKAGED[name].links.join(' '),
    ENVIRONMENT: Object.entries(PACKAGED[name].environment)
      .map(([variable, value]) => `${variable}=${value}`)
      .join(' '),
  };
  const text = readFileSync(join(root, 'packaging', file), 'utf8');
  return text.replace(/@([A-Z]+)@/g, (place, key: string) => places[key] ?? place);
}

/** The configuration's file, from the root of the machine. */
export function configPath(name: ProgramName): string {
  return `etc/ndt/${name.replace(/^ndt-/, '')}.json`;
}

/** Files of the Debian package but for the binary and the documents. */
export function debianFiles(root: string, name: ProgramName): Installed[] {
  const read = (file: string) => readFileSync(join(root, file), 'utf8');
  return [
    { path: `usr/lib/systemd/system/${name}.service`, mode: 0o644, content: read(`systemd/${name}.service`) },
    { path: `usr/lib/sysusers.d/${name}.conf`, mode: 0o644, content: read(`systemd/${name}.sysusers`) },
    { path: configPath(name), mode: 0o644, content: read(`packaging/${name.replace(/^ndt-/, '')}.json`) },
    { path: `usr/share/doc/${name}/install.md`, mode: 0o644, content: read('docs/install.md') },
    { path: `usr/share/lintian/overrides/${name}`, mode: 0o644, content: template(root, name, 'debian/lintian-overrides') },
  ];
}

/** Files of the archive but for the binary. */
export function archiveFiles(root: string, name: ProgramName): Installed[] {
  const read = (file: string) => readFileSync(join(root, file), 'utf8');
  const program = name.replace(/^ndt-/, '');
  return [
    { path: 'install.sh', mode: 0o755, content: template(root, name, 'install.sh') },
    { path: 'install.md', mode: 0o644, content: read('docs/install.md') },
    { path: `${program}.json`, mode: 0o644, content: read(`packaging/${program}.json`) },
    { path: `${name}.service`, mode: 0o644, content: read(`systemd/${name}.service`) },
    { path: `${name}.openrc`, mode: 0o755, content: template(root, name, 'openrc') },
    { path: `${name}.procd`, mode: 0o755, content: template(root, name, 'procd') },
    { path: 'LICENSE', mode: 0o644, content: read('LICENSE') },
  ];
}
